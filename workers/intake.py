"""Reports off the scheduler queue: taken by the worker's main process, written many at a time.

The task ``scheduler.update_service_capabilities`` brings its own Celery strategy, so its messages never wait for the
pool: they are gathered for a few milliseconds, stored in one round trip and acknowledged after that. A Redis that
doesn't answer leaves them unacknowledged and is tried again; the prefetch count bounds how many wait.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu import Message

from managers.errors import shown
from managers.reports import MAX_REPORT_BYTES, REPORT_TASK
from scheduler.errors import TableUnavailable
from workers.registry import Registry, registry_of

logger = logging.getLogger(__name__)

#: Seconds that a report may wait for company.
WINDOW = 0.01
#: Reports that are written at once.
BATCH = 256
#: Seconds before Redis is tried again.
RETRY = 1.0


class Intake:
    """Gathers messages for one connection of a worker; lives in the consumer's thread."""

    def __init__(self, registry: Registry, consumer: Any) -> None:
        self._registry = registry
        self._consumer = consumer
        self._batch = max(1, min(BATCH, (consumer.initial_prefetch_count or 2 * BATCH) // 2))
        self._waiting: list[tuple[object, Message]] = []
        self._is_due = False
        self._is_held_up = False

    def take(self, message: Message) -> None:
        """Take a message in; a message that holds no report is refused and acknowledged."""
        try:
            report = _report_in(message)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not come again
            sender = shown(message.headers.get("origin", "an unknown sender"))
            self._registry.scheduler().refuse(f"report from {sender} refused: {error}")
            acknowledge(message)
            self._call_later(WINDOW)
            return
        self._waiting.append((report, message))
        if len(self._waiting) >= self._batch and not self._is_held_up:
            self.flush()
        else:
            self._call_later(WINDOW)

    def flush(self) -> None:
        """Store what has gathered, then acknowledge it."""
        self._is_due = self._is_held_up = False
        waiting, self._waiting = self._waiting, []
        try:
            self._registry.scheduler().update_service_capabilities(report for report, _ in waiting)
        except TableUnavailable as error:
            logger.error("%d reports wait: %s", len(waiting), error)  # noqa: TRY400
            self._waiting = waiting + self._waiting
            self._is_held_up = True  # a Redis that hangs costs one time-out per RETRY, not one per message
            self._call_later(RETRY)
            return
        except Exception:
            # an error that leaves this callback would end the worker's loop; the hosts will report again
            logger.exception("%d reports dropped", len(waiting))
        for _, message in waiting:
            acknowledge(message)

    def _call_later(self, seconds: float) -> None:
        if not self._is_due:
            self._is_due = True
            self._consumer.timer.call_after(seconds, self.flush)


def acknowledge(message: Message) -> None:
    """Acknowledge *message*; if its connection is gone it comes again and changes nothing.

    Celery's own callback would let an error of a dead channel out, which ends the worker's loop.
    """
    try:
        message.ack()
    except Exception as error:  # noqa: BLE001  # a dead channel raises whatever it stumbles over, AttributeError too
        logger.info("a message that was taken in can't be acknowledged and will come again: %r", error)


def _report_in(message: Message) -> object:
    size = len(message.body or "")
    if size > MAX_REPORT_BYTES:
        raise ValueError(f"it takes {size} bytes; the limit is {MAX_REPORT_BYTES}")
    args, kwargs, _ = message.payload
    if len(args) != 1 or kwargs:
        raise ValueError("it has other arguments than one report")
    return args[0]


def intake_strategy(task: Any, app: Celery, consumer: Any, **_: Any) -> Callable[..., None]:  # noqa: ARG001
    """Return what Celery's consumer calls with each message of *task*."""
    intake = Intake(registry_of(app), consumer)

    def on_message(message: Message, *_: Any) -> None:
        intake.take(message)

    return on_message


def register_reports(app: Celery, registry: Registry) -> None:
    """Register the task that carries reports with *app*."""

    def update_service_capabilities(report: dict[str, Any]) -> None:
        registry.scheduler().update_service_capabilities([report])

    app.task(
        name=REPORT_TASK,
        Strategy="workers.intake:intake_strategy",
        shared=False,
        ignore_result=True,
        serializer="json",
    )(update_service_capabilities)
