"""Bootsteps: managers live with the worker."""

import logging
from typing import Any

from celery import bootsteps
from celery.platforms import EX_FAILURE
from celery.worker import state
from kombu import Consumer, Message

from managers.context import RequestContext, get_admin_context
from managers.periods import Tick
from managers.routing import fanout_queue, host_queue, service_queue
from workers.errors import InvalidSettings
from workers.lifecycle import Lifecycle
from workers.links import HEALTH_CHECK_INTERVAL
from workers.registry import registry_of
from workers.ticks import tick_name

logger = logging.getLogger(__name__)

_LIFECYCLE = "celeriac_lifecycle"


class HostStep(bootsteps.StartStopStep):
    """Holds the host's managers: alive before anything is consumed, gone after the pool's last task."""

    requires = ("celery.worker.components:Pool",)
    label = "Host"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        registry = registry_of(worker.app)
        registry.enter_worker()
        queues = worker.app.amqp.queues
        for service in registry.managers:
            _refuse_collision(queues, service)
        for service in registry.services:
            for queue in (service_queue(service), host_queue(service, registry.settings.host)):
                # not by select_add: it would give the queue the application's own exchange and arguments
                dict.__setitem__(queues, queue.name, queue)
                queues.consume_from[queue.name] = queue
        # a worker that doesn't run a service must not take its work, not even through Celery's default queue
        queues.deselect([service for service in registry.managers if service not in registry.services])

    def start(self, parent: Any) -> None:
        """Start the managers; a failure stops the worker with its reason and a non-zero exit status."""
        registry = registry_of(parent.app)
        if not parent.pool_cls.__module__.endswith(("prefork", "thread", "gevent", "eventlet")):
            logger.warning(
                "the %s pool runs tasks in the main thread: a busy host can't tick. Use it for development only",
                parent.pool_cls.__module__.rpartition(".")[2],
            )
        lifecycle = Lifecycle(registry, slots=_slots(parent), on_replaced=_stop_worker, is_stopping=_is_stopping)
        setattr(parent, _LIFECYCLE, lifecycle)
        try:
            lifecycle.start()
        except Exception as error:
            logger.critical("host %s can't start: %s: %s", registry.settings.host, type(error).__name__, error)
            logger.debug("host %s can't start", registry.settings.host, exc_info=True)
            parent.pool.terminate()
            raise SystemExit(EX_FAILURE) from error

    def close(self, parent: Any) -> None:
        """Say that the host drains, before the worker stops consuming."""
        getattr(parent, _LIFECYCLE).drain()

    def stop(self, parent: Any) -> None:
        """End the host's life once the pool has finished its last task."""
        parent.pool.stop()
        getattr(parent, _LIFECYCLE).stop()

    def terminate(self, parent: Any) -> None:
        """Leave at once: the operator is in a hurry."""
        getattr(parent, _LIFECYCLE).leave()


class TicksStep(bootsteps.StartStopStep):
    """Takes ticks off the fanout exchanges in the main process, so that a busy pool never delays one."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    label = "Ticks"

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._consumer: Consumer | None = None
        self._watching: Any = None

    def start(self, parent: Any) -> None:
        """Listen; called anew for each connection to the broker."""
        lifecycle: Lifecycle = getattr(parent.controller, _LIFECYCLE)
        services = {tick_name(service): service for service in lifecycle.managers}

        def on_message(message: Message) -> None:
            try:
                service = services[message.headers["task"]]
                tick, context = _read(message)
            except Exception as error:  # noqa: BLE001  # anybody may publish here; the worker must not care
                logger.warning("not a tick: %r; headers %.200r", error, message.headers)
                return
            lifecycle.tick(service, tick, context)

        self._consumer = Consumer(
            parent.connection.channel(),
            [fanout_queue(service, lifecycle.host) for service in lifecycle.managers],
            on_message=on_message,
            no_ack=True,
            accept=["json"],
        )
        self._consumer.consume()
        self._watch(parent)
        lifecycle.consuming()

    def stop(self, parent: Any) -> None:
        """Listen no more on this connection."""
        self._close(parent, cancel=True)

    def shutdown(self, parent: Any) -> None:
        """Let go of the channel without a word to the broker."""
        self._close(parent, cancel=False)

    def _watch(self, consumer: Any) -> None:
        """Have kombu look whether the subscription still answers where it doesn't by itself: without an event loop.

        A frozen subscription looks like a quiet one; a gevent worker would wait on it for ever.
        """
        cycle: Any = getattr(consumer.connection.transport, "cycle", None)
        if consumer.hub is None and hasattr(cycle, "maybe_check_subclient_health"):
            interval = consumer.connection.transport_options.get("health_check_interval", HEALTH_CHECK_INTERVAL)
            self._watching = consumer.timer.call_repeatedly(interval, cycle.maybe_check_subclient_health)

    def _close(self, consumer: Any, *, cancel: bool) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        listening, self._consumer = self._consumer, None
        if listening is not None:
            channel: Any = listening.channel
            try:
                if cancel:
                    listening.cancel()
                channel.close()
            except (*consumer.connection_errors, *consumer.channel_errors) as error:
                logger.debug("closing the tick channel: %r", error)


def _read(message: Message) -> tuple[Tick, RequestContext]:
    _, kwargs, _ = message.payload
    tick = Tick(number=int(kwargs["number"]), interval=float(kwargs["interval"]))
    if not 0 < tick.interval <= 86400 or not 0 <= tick.due_at(0) < 2**53:
        raise ValueError(f"no such period: {tick}")
    carried = message.headers.get("celeriac_context")
    return tick, RequestContext.from_dict(carried) if isinstance(carried, dict) else get_admin_context()


def _refuse_collision(queues: Any, service: str) -> None:
    known = dict.get(queues, service)
    if known is not None and known.exchange is not None and known.exchange.name:
        raise InvalidSettings(
            f"the application has a queue of its own named {service!r}, which is the queue of the service {service!r};"
            " give one of them another name"
        )


def _slots(worker: Any) -> int:
    """Return how many tasks *worker* runs at once, at most where it scales itself."""
    if worker.pool_cls.__module__.endswith("solo"):
        return 1
    return int(worker.max_concurrency or worker.concurrency)


def _is_stopping() -> bool:
    """Say whether a signal asked the worker to stop."""
    return state.should_stop is not None or state.should_terminate is not None


def _stop_worker() -> None:
    """Ask the worker's main loop to stop; called in another thread."""
    state.should_stop = EX_FAILURE  # type: ignore[assignment]  # it is an exit status
