"""Periods: the numbered stretches of time that ticks are for.

Period *n* of interval *i* lasts from ``n * i`` to ``(n + 1) * i`` seconds of the fleet's clock (Redis's). A tick
carries its period's number, a host runs each number once and never an older one: so any number of beats may tick.
"""

import hashlib
import math
from dataclasses import dataclass

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
        """Return when a host with this offset starts its work, in seconds of the fleet's clock."""
        return self.number * self.interval + offset

    def expires_at(self, offset: float) -> float:
        """Return when it is too late to start: one interval after it was due."""
        return self.due_at(offset) + self.interval
