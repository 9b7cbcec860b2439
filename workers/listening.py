"""The bootstep that listens on the fanout exchanges, in the worker's main process.

A tick is heeded right there, so that a busy pool never delays one; an exposed method is handed to the pool, as the
host's own copy of the message. Where Celery's loop is an event loop, this is one more channel of its connection.
"""

import logging
import threading
from typing import Any

from celery import bootsteps
from celery.worker import state
from kombu import Consumer, Message

from managers.context import CONTEXT_HEADER, RequestContext, get_admin_context
from managers.periods import Tick
from managers.routing import fanout_queue
from workers.fanouts import make_own
from workers.green import GreenListener, bound_sockets
from workers.lifecycle import Lifecycle
from workers.remote import MethodTask
from workers.steps import LIFECYCLE
from workers.ticks import tick_name

logger = logging.getLogger(__name__)


class FanoutStep(bootsteps.StartStopStep):
    """Takes ticks and methods off the fanout exchanges; one object for all connections of a worker's life."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    label = "Fanout"

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._consumer: Consumer | None = None
        self._green: GreenListener | None = None
        if consumer.hub is None:
            bound_sockets()

    def start(self, parent: Any) -> None:
        """Listen; called anew for each connection to the broker."""
        lifecycle: Lifecycle = getattr(parent.controller, LIFECYCLE)
        ticked = {tick_name(service): service for service in lifecycle.managers}

        def on_message(message: Message) -> None:
            try:
                name = message.headers["task"]
                if name in ticked:
                    lifecycle.tick(ticked[name], *_read(message))
                else:
                    self._hand_over(parent, lifecycle, name, message)
            except Exception as error:  # noqa: BLE001  # anybody may publish here; the worker must not care
                logger.warning("neither a tick nor a method: %r; headers %.200r", error, message.headers)

        queues = [fanout_queue(service, lifecycle.host) for service in lifecycle.managers]
        if parent.hub is None:
            if self._green is None:
                self._green = GreenListener(parent.app, queues, on_message)
                self._green.start()
        else:
            self._consumer = Consumer(
                parent.connection.channel(), queues, on_message=on_message, no_ack=True, accept=["json"]
            )
            return  # until the pool is part of the event loop
        lifecycle.consuming()

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:  # noqa: ARG002  # Celery's own hook
        """Begin on this connection; a prefork pool loses what it is given sooner, and the slot that was for it."""
        if self._consumer is not None:
            self._consumer.consume()
            getattr(parent.controller, LIFECYCLE).consuming()

    def stop(self, parent: Any) -> None:
        """Listen no more on this connection."""
        self._close(parent, cancel=True)

    def shutdown(self, parent: Any) -> None:
        """Let go of the channel without a word to the broker."""
        self._close(parent, cancel=False)

    def _hand_over(self, consumer: Any, lifecycle: Lifecycle, name: str, message: Message) -> None:
        """Give *message* to the pool as Celery's consumer would; there is nothing to acknowledge."""
        task = consumer.app.tasks[name]
        if not isinstance(task, MethodTask) or task.service not in lifecycle.managers:
            raise LookupError(f"{name} is no exposed method of this host's managers")
        _check_limits(message.headers.get("timelimit"))
        make_own(message, task.service, lifecycle.host)
        arguments = (message, None, _nothing, _nothing, consumer.on_task_message)
        if self._green is None:
            consumer.strategies[name](*arguments)
        else:  # a full pool of greenlets has whoever gives it work wait
            threading.Thread(target=consumer.strategies[name], args=arguments, daemon=True).start()

    def _close(self, consumer: Any, *, cancel: bool) -> None:
        if self._green is not None and (state.should_stop is not None or state.should_terminate is not None):
            self._green.should_stop = True
        listening, self._consumer = self._consumer, None
        if listening is not None:
            channel: Any = listening.channel
            try:
                if cancel:
                    listening.cancel()
                channel.close()
            except (*consumer.connection_errors, *consumer.channel_errors) as error:
                logger.debug("closing the fanout channel: %r", error)


def _nothing(*_: Any) -> None:
    """Acknowledge or reject what the broker has forgotten already."""


def _check_limits(limits: Any) -> None:
    """Raise ValueError for time limits that are no seconds: Celery's loop would stumble over them later, and end."""
    are_two = limits is None or (isinstance(limits, list) and len(limits) == 2)
    if not are_two or not all(limit is None or (type(limit) in {int, float} and limit > 0) for limit in limits or ()):
        raise ValueError(f"its time limits are {limits!r}, not seconds")


def _read(message: Message) -> tuple[Tick, RequestContext]:
    _, kwargs, _ = message.payload
    tick = Tick(number=int(kwargs["number"]), interval=float(kwargs["interval"]))
    if not 0 < tick.interval <= 86400 or not 0 <= tick.due_at(0) < 2**53:
        raise ValueError(f"no such period: {tick}")
    carried = message.headers.get(CONTEXT_HEADER)
    return tick, RequestContext.from_dict(carried) if isinstance(carried, dict) else get_admin_context()
