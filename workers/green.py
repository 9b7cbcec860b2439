"""Listening where Celery has no event loop: with pools of greenlets.

There Celery's own loop waits for a slot whenever it has received more than the pool can run, and hears nothing
meanwhile. So this listens on a connection of its own, in a greenlet of its own, and renews both by itself.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from amqp.transport import _AbstractTransport  # type: ignore[attr-defined]  # private, but all there is
from celery import Celery
from kombu import Connection, Message, Queue
from kombu.mixins import ConsumerMixin

from workers.links import HEALTH_CHECK_INTERVAL

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach a broker that doesn't answer.
RETRY = 1


class GreenListener(ConsumerMixin):
    """Calls *on_message* with each message of *queues*, until ``should_stop`` is set."""

    def __init__(self, app: Celery, queues: Sequence[Queue], on_message: Callable[[Message], None]) -> None:
        self.connection = app.connection_for_read(heartbeat=app.conf.broker_heartbeat)
        self._queues = queues
        self._on_message = on_message
        self._open: Any = None
        self._looked_at = 0.0

    def start(self) -> None:
        """Listen from now on."""
        threading.Thread(target=self._run, name="celeriac-fanout", daemon=True).start()

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:  # noqa: ARG002, N803  # the mixin's own names
        """Return what listens on a new connection."""
        return [Consumer(self._queues, on_message=self._on_message, no_ack=True, accept=["json"])]

    def on_consume_ready(self, connection: Any, *_: Any, **__: Any) -> None:
        """Note which connection to look after."""
        self._open = connection

    def on_iteration(self) -> None:
        """Beat for RabbitMQ, which kombu does in quiet seconds only; have kombu look whether Redis still answers.

        A frozen subscription looks like a quiet one.
        """
        self._open.heartbeat_check()
        cycle: Any = getattr(self._open.transport, "cycle", None)
        interval = self._open.transport_options.get("health_check_interval", HEALTH_CHECK_INTERVAL)
        if hasattr(cycle, "maybe_check_subclient_health") and time.monotonic() - self._looked_at >= interval:
            self._looked_at = time.monotonic()
            cycle.maybe_check_subclient_health()

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:  # type: ignore[override]  # as the mixin itself has it
        """Connect, however long it takes; the mixin would wait ever longer between two tries."""
        connection = self.create_connection()
        try:
            connection.ensure_connection(self._on_error, interval_start=0, interval_max=RETRY)
            yield connection
        finally:
            connection.collect()  # closing would wait for the word of a broker that may be frozen

    def _on_error(self, error: Exception, interval: float) -> None:
        logger.warning("listening for ticks: %s; trying again in %g s", error, interval)

    def _run(self) -> None:
        while not self.should_stop:
            try:
                self.run()
            except Exception:
                logger.exception("listening for ticks failed; trying again")
                time.sleep(RETRY)


def bound_sockets() -> None:
    """Have the sockets to RabbitMQ that this process opens from now on keep the option ``read_timeout`` themselves.

    py-amqp leaves that time-out to the kernel, which doesn't apply it to the sockets of greenlets: whoever waits for a
    frozen broker's word, a confirmation or the answer to a farewell, would wait for ever.
    """
    _AbstractTransport._init_socket = _init_socket  # noqa: SLF001  # where py-amqp itself sets the time-outs


_kernels_own = _AbstractTransport._init_socket  # noqa: SLF001


def _init_socket(self: Any, socket_settings: Any, read_timeout: float | None, write_timeout: float | None) -> None:
    _kernels_own(self, socket_settings, read_timeout, write_timeout)
    if read_timeout is not None:
        self.sock.settimeout(read_timeout)
