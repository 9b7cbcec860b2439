"""The thread of a scheduler's main process that places."""

import logging
import threading
from collections.abc import Callable

from scheduler.chores import CHORES
from scheduler.errors import TableUnavailable
from scheduler.events import Events
from scheduler.placer import Placer

logger = logging.getLogger(__name__)

#: Seconds before a Redis that doesn't answer is tried again.
RETRY = 1.0


class PlacingThread:
    """Places in a thread of the scheduler's main process, woken by announcements and by events.

    *on_chores* is called in that thread when deadlines and time-outs have been looked at.
    """

    def __init__(self, placer: Placer, *, on_chores: Callable[[], None] = lambda: None) -> None:
        self._placer = placer
        self._on_chores = on_chores
        self._events = Events(placer.table)
        self._is_anything_new = False
        self._is_noticed = False
        self._is_stopping = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._place, name="celeriac-placing", daemon=True),
            threading.Thread(target=self._listen, name="celeriac-events", daemon=True),
        ]

    def start(self) -> None:
        """Place from now on."""
        self._placer.on_notice = self._wake
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Place no more; what is under way is finished."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=15)

    def _wake(self) -> None:
        with self._changed:
            self._is_noticed = True
            self._changed.notify()

    def _listen(self) -> None:
        is_lost = False
        while not self._is_stopping:
            try:
                happened = bool(self._events.read(wait=1.0))
            except Exception as error:  # noqa: BLE001  # a placer that hears nothing sweeps, but must not end
                if not is_lost:
                    logger.error("events are not heard: %s", error)  # noqa: TRY400
                is_lost = True
                threading.Event().wait(RETRY)
                continue
            if happened or is_lost:
                is_lost = False
                with self._changed:
                    self._is_anything_new = True
                    self._changed.notify()

    def _place(self) -> None:
        while self._wait():
            with self._changed:
                is_anything_new, self._is_anything_new, self._is_noticed = self._is_anything_new, False, False
            chores_at = self._placer.chores_at
            try:
                self._placer.turn(is_anything_new=is_anything_new)
            except TableUnavailable as error:
                logger.error("nothing is placed: %s", error)  # noqa: TRY400
                threading.Event().wait(RETRY)
            except Exception:
                logger.exception("placing goes on after an error")
                threading.Event().wait(RETRY)
            if self._placer.chores_at != chores_at:
                self._on_chores()

    def _wait(self) -> bool:
        with self._changed:
            if not (self._is_anything_new or self._is_noticed or self._is_stopping):
                self._changed.wait(CHORES)
            return not self._is_stopping
