"""Presence: the small signal that a worker is there, sent beside the pool however busy it is."""

import logging
import threading
from collections.abc import Callable

from scheduler.clock import FleetClock
from scheduler.errors import TableUnavailable
from workers.membership import Membership

logger = logging.getLogger(__name__)


class Presence:
    """Beats for *membership* in a thread of the worker's main process until stopped.

    *on_joined* is called when Redis had forgotten the host and it joined again, *on_replaced* once when another worker
    holds its names; both in this thread, and what they raise is logged. An unreachable Redis is logged once and tried
    again at the next beat.
    """

    def __init__(
        self,
        membership: Membership,
        clock: FleetClock,
        *,
        on_joined: Callable[[], None],
        on_replaced: Callable[[], None],
    ) -> None:
        self._membership = membership
        self._clock = clock
        self._on_joined = on_joined
        self._on_replaced = on_replaced
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-presence", daemon=True)
        self._lost = False

    def start(self) -> None:
        """Beat from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; safe to call twice, or without having started."""
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=15)

    def _run(self) -> None:
        while not self._stopping.wait(self._membership.identity.heartbeat_interval):
            try:
                now, word = self._membership.beat()
            except TableUnavailable as error:
                if not self._lost:
                    logger.error("presence of %s can't be told: %s", self._membership.host, error)  # noqa: TRY400
                self._lost = True
                continue
            except Exception:
                logger.exception("presence of %s can't be told", self._membership.host)
                continue
            self._clock.set(now)
            if self._lost:
                logger.info("presence of %s is told again", self._membership.host)
            self._lost = False
            if word == "joined":
                logger.warning("the capability table had forgotten %s; joined again", self._membership.host)
                self._call(self._on_joined)
            elif word == "replaced":
                logger.critical(
                    "another worker took the name %s while this one was silent; stopping", self._membership.host
                )
                self._call(self._on_replaced)
                return

    def _call(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception:
            logger.exception("telling of a change in the presence of %s", self._membership.host)
