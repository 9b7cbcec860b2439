"""Periods: the numbered stretches of time that ticks are for.

Period *n* of interval *i* lasts from ``n * i`` to ``(n + 1) * i`` seconds of the fleet's clock (Redis's). A tick
carries its period's number, a host runs each number once and never an older one: so any number of beats may tick.
"""

import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

#: The part of an interval over which a fleet's ticks are spread; the rest is left for the work itself.
SPREAD = 0.5


def period_number(now: float, interval: float) -> int:
    """Return the number of the period that *now* lies in."""
    return math.floor(now / interval)


def host_offset(host: str, interval: float) -> float:
    """Return how many seconds into a period *host* starts its work: fixed for a name, even over the fleet."""
    digest = hashlib.blake2b(host.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 * interval * SPREAD


@dataclass(frozen=True, slots=True)
class Tick:
    """Beat's word to a service that period *number* has begun; *interval* in seconds is the sender's."""

    number: int
    interval: float

    def due_at(self, offset: float) -> float:
        """Return when a host with this offset starts its work, in seconds of the fleet's clock: whole microseconds."""
        return round(self.number * self.interval + offset, 6)

    def expires_at(self, offset: float) -> float:
        """Return when it is too late to start: one interval after it was due."""
        return self.due_at(offset) + self.interval


class TickQueue:
    """What one manager of *host* has to run: only the newest tick, each period once, never an older one.

    *offset(interval)* says how many seconds into a period the host starts its work. Not thread-safe, and never waits;
    *now* is the fleet's time.
    """

    def __init__(self, service: str, host: str, offset: Callable[[float], float]) -> None:
        self._offset = offset
        self._name = f"{service} on {host}"
        self._extra = {"service": service, "host": host}
        self._newest = float("-inf")
        self._pending: Tick | None = None

    def offer(self, tick: Tick, *, now: float) -> bool:
        """Take note of *tick*; return False where it is no news: a repetition, or older than the last.

        A period that begins more than an interval from now is refused: one beat with a wrong clock would otherwise
        silence all the right ones until then.
        """
        begins = tick.due_at(0)
        if self._newest - now > tick.interval:
            self._newest = float("-inf")  # the fleet's clock was set back: what came before says nothing any more
        if begins <= self._newest:
            return False
        if begins - now > tick.interval:
            logger.warning(
                "period %d of %s refused: it begins in %.0f s; some beat's clock is wrong",
                tick.number, self._name, begins - now,
                extra=self._extra,
            )  # fmt: skip
            return False
        self._newest = begins
        self._pending = tick
        return True

    def take(self, *, now: float) -> Tick | None:
        """Return the tick that is to be run now, if one is; a tick that is an interval late is dropped."""
        if self._pending is None or self.due_at is None or now < self.due_at:
            return None
        tick, self._pending = self._pending, None
        offset = self._offset(tick.interval)
        if now < tick.expires_at(offset):
            return tick
        logger.warning(
            "period %d of %s dropped: %.2f s late", tick.number, self._name, now - tick.due_at(offset),
            extra=self._extra,
        )  # fmt: skip
        return None

    @property
    def due_at(self) -> float | None:
        """When there is something to take, in the fleet's time; None if no tick is noted."""
        return None if self._pending is None else self._pending.due_at(self._offset(self._pending.interval))
