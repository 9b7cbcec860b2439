"""The thread in which a manager heeds its ticks."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from managers.context import RequestContext, get_admin_context
from managers.manager import Manager
from managers.periods import Tick, TickQueue
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
        self._ticks = TickQueue(manager.service_name, manager.host, offset)
        self._context = get_admin_context()
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"celeriac-{manager.service_name}", daemon=True)

    def start(self) -> None:
        """Heed ticks from now on."""
        self._thread.start()

    def offer(self, tick: Tick, context: RequestContext) -> bool:
        """Take note of *tick*; return False where it is no news. Never blocks."""
        with self._changed:
            if self._stopping or not self._ticks.offer(tick, now=self._clock.now()):
                return False
            self._context = context
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
            due_at = tick.due_at(self._offset(tick.interval))
            # the tick's own time, not that of this thread's waking: a task as frequent as the ticks is due at each
            self.manager.schedule.now = lambda due_at=due_at: due_at  # type: ignore[misc]
            try:
                with context.as_current():
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
                now = self._clock.now()
                if (tick := self._ticks.take(now=now)) is not None:
                    return tick, self._context
                due_at = self._ticks.due_at
                self._changed.wait(None if due_at is None else due_at - now)
            return None

    @property
    def _extra(self) -> dict[str, str]:
        return {"host": self.manager.host, "service": self.manager.service_name}
