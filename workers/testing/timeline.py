"""Time that stands still until somebody moves it, and what is to happen in it."""

import heapq
import itertools
from collections.abc import Callable

from scheduler.clock import FleetClock


class Timeline(FleetClock):
    """The fleet's clock, which stands still but for ``run``, and what is to happen when."""

    def __init__(self, now: float) -> None:
        super().__init__(self.now)
        self._now = now
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        """Return the time."""
        return self._now

    def set(self, now: float) -> None:
        """Keep the time: it is Redis's own here."""

    def refresh(self, max_age: float) -> None:
        """Keep the time."""

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Have *act* called at *moment*, or at the next step if that is over."""
        heapq.heappush(self._due, (moment, next(self._order), act))

    def step(self, until: float) -> bool:
        """Do the next thing that is due by *until*; else move the time there and return False."""
        if self._due and self._due[0][0] <= until:
            moment, _, act = heapq.heappop(self._due)
            self._move_to(moment)
            act()
            return True
        self._move_to(until)
        return False

    def _move_to(self, moment: float) -> None:
        self._now = max(self._now, round(moment, 6))  # whole microseconds, which a datetime gives back unchanged
