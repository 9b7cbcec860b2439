"""The thread in which a manager heeds its ticks."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from managers.context import RequestContext
from managers.manager import Manager
from managers.periods import Tick
from scheduler.clock import FleetClock

logger = logging.getLogger(__name__)


class TickRunner:
    """Runs one manager's periodic tasks in a thread of its own: each period once, never an older one, never two.

    ``offer`` only notes the newest tick, so a long run leaves no backlog behind it. *on_run* is called after each run,
    failed or not; nothing that a run or *on_run* raises ends the thread.
    """

    def __init__(
        self, manager: Manager[Any], clock: FleetClock, offset: Callable[[float], float], on_run: Callable[[Tick], None]
    ) -> None:
        self.manager = manager
        self._clock = clock
        self._offset = offset
        self._on_run = on_run
        self._newest = float("-inf")
        self._pending: tuple[Tick, RequestContext] | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"celeriac-{manager.service_name}", daemon=True)

    def start(self) -> None:
        """Heed ticks from now on."""
        self._thread.start()

    def offer(self, tick: Tick, context: RequestContext) -> bool:
        """Take note of *tick*; return False where it is no news: a repetition, or older than the last. Never blocks.

        A period that begins more than an interval from now is refused: one beat with a wrong clock would otherwise
        silence all the right ones until then.
        """
        with self._changed:
            starts_at = tick.due_at(0)
            if self._stopping or starts_at <= self._newest:
                return False
            if (ahead := starts_at - self._clock.now()) > tick.interval:
                logger.warning(
                    "period %d of %s refused: it begins in %.0f s; some beat's clock is wrong",
                    tick.number, self.manager, ahead,
                    extra=self._extra,
                )  # fmt: skip
                return False
            self._newest = starts_at
            self._pending = (tick, context)
            self._changed.notify()
            return True

    def stop(self, timeout: float) -> bool:
        """Heed no more ticks and wait for a run that is under way; return False if it outlasts *timeout* seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            tick, context = due
            started = time.monotonic()
            try:
                self.manager.periodic_tasks(context)
            except BaseException:  # a SystemExit or gevent.Timeout would end the thread without a word
                logger.exception(
                    "periodic tasks of %s failed in period %d", self.manager, tick.number, extra=self._extra
                )
            took = time.monotonic() - started
            if took > tick.interval:
                logger.warning(
                    "periodic tasks of %s took %.2f s, longer than their interval of %g s",
                    self.manager, took, tick.interval,
                    extra=self._extra,
                )  # fmt: skip
            try:
                self._on_run(tick)
            except Exception:
                logger.exception("the end of %s's period %d", self.manager, tick.number, extra=self._extra)

    def _next(self) -> tuple[Tick, RequestContext] | None:
        """Wait for a tick and for its moment; None means stop."""
        with self._changed:
            while not self._stopping:
                if self._pending is None:
                    self._changed.wait()
                    continue
                tick, context = self._pending
                offset = self._offset(tick.interval)
                now = self._clock.now()
                if now >= tick.expires_at(offset):
                    logger.warning(
                        "period %d of %s dropped: %.2f s late", tick.number, self.manager, now - tick.due_at(offset),
                        extra=self._extra,
                    )  # fmt: skip
                    self._pending = None
                elif now >= tick.due_at(offset):
                    self._pending = None
                    return tick, context
                else:
                    self._changed.wait(tick.due_at(offset) - now)
            return None

    @property
    def _extra(self) -> dict[str, str]:
        return {"host": self.manager.host, "service": self.manager.service_name}
