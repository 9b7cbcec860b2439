"""Ticks: beat's word that a period has begun, as a Celery task."""

import logging
from typing import Any

from celery import Celery, Task
from celery.result import AsyncResult

from managers.context import CONTEXT_HEADER, current_context, get_admin_context
from managers.periods import period_number
from managers.routing import fanout_exchange
from workers.registry import Registry

logger = logging.getLogger(__name__)

#: Seconds a reading of Redis's clock is good for.
CLOCK_AGE = 10.0

#: Publishing a tick may be tried again at once; later ones are the next period's.
_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


def tick_name(service: str) -> str:
    """Return the name of the task that ticks *service*."""
    return f"{service}.periodic_tasks"


def register_tick(app: Celery, registry: Registry, service: str) -> None:
    """Register the task ``<service>.periodic_tasks`` with *app*.

    Applying it sends a tick to every host of the service, numbered by the fleet's clock at that moment; a host handles
    it beside its pool. Its body is only run in eager mode, where the process itself is the host.
    """
    exchange = fanout_exchange(service)

    class TickTask(Task[Any, Any]):
        """Sends itself to every host of the service, whatever the caller says of queues."""

        def apply_async(  # type: ignore[override]  # Celery's own names for **options
            self, args: Any = None, kwargs: Any = None, **options: Any
        ) -> AsyncResult[Any]:
            interval = registry.settings.periodic_interval
            refresh_clock(registry)
            number = period_number(registry.clock.now(), interval)
            kwargs = {"number": number, "interval": interval, **(kwargs or {})}
            options.pop("queue", None)
            headers = {**options.pop("headers", {}), CONTEXT_HEADER: get_admin_context().to_dict()}
            options = {
                "expires": interval,
                "retry_policy": _RETRY,
                **options,
                "exchange": exchange,
                "exchange_type": "fanout",
                "routing_key": "",
                "declare": [exchange],
                "headers": headers,
            }
            return super().apply_async(args, kwargs, **options)

    def periodic_tasks(number: int, interval: float) -> None:
        logger.debug("period %d of %g s", number, interval)
        context = current_context() or get_admin_context()
        with registry.database(), context.as_current():
            registry.local(service).periodic_tasks(context)

    app.task(name=tick_name(service), base=TickTask, shared=False, ignore_result=True, serializer="json")(
        periodic_tasks
    )


def refresh_clock(registry: Registry) -> None:
    """Read Redis's clock if the last reading is old; without an answer go on with what is known."""
    try:
        registry.clock.refresh(CLOCK_AGE)
    except Exception as error:  # noqa: BLE001  # a tick by a slightly wrong clock beats no tick
        logger.warning("ticking by the last known clock: %s", error)
