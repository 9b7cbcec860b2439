"""The fleet's clock, Redis's own, kept in a process that can't ask Redis each time."""

import threading
import time
from collections.abc import Callable


class FleetClock:
    """Seconds since 1970 by Redis's clock, carried on by this process's monotonic one between two readings.

    A step of the machine's wall clock changes nothing. Before the first reading it is the wall clock. Thread-safe.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._base = time.time() - time.monotonic()
        self._read_at: float | None = None

    def now(self) -> float:
        """Return the fleet's time; never blocks."""
        return self._base + time.monotonic()

    def set(self, now: float) -> None:
        """Take *now*, just read from Redis."""
        with self._lock:
            self._read_at = time.monotonic()
            self._base = now - self._read_at

    def refresh(self, max_age: float) -> None:
        """Read Redis's clock if the last try is over *max_age* seconds old; raises what the reading raises.

        A failed try counts, so that a Redis that hangs costs one time-out per *max_age*, not one per call.
        """
        with self._lock:
            if self._read_at is not None and time.monotonic() - self._read_at < max_age:
                return
            self._read_at = time.monotonic()
        self.set(self._read())
