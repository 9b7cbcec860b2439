"""Weighers: each gives a host a number for a request, more being better; normalised to 0..1 among those that fit.

A multiplier says how much one counts; a negative one turns it round. Where all fitting hosts have the same number it
says nothing.
"""

import math
from collections.abc import Callable, Sequence

from scheduler.requests import Request
from scheduler.snapshot import Candidate, Snapshot

#: Returns how good *candidate* is for *request*.
Weigher = Callable[[Request, Candidate, Snapshot], float]


def free(request: Request, candidate: Candidate, snapshot: Snapshot) -> float:  # noqa: ARG001
    """Prefer the host that has most left, of the resource it has least of; a request that packs, the opposite."""
    left = min(
        ((candidate.free(name) - amount) / candidate.total[name] for name, amount in request.claims.items()),
        default=0.0,
    )
    return -left if request.strategy == "pack" else left


def prefers(request: Request, candidate: Candidate, snapshot: Snapshot) -> float:  # noqa: ARG001
    """Prefer the host that has more of what the task prefers, by the weights it gave."""
    return sum(weight for wish, weight in request.prefers if wish.matches(candidate.capabilities))


def sticky(request: Request, candidate: Candidate, snapshot: Snapshot) -> float:  # noqa: ARG001
    """Prefer the host that the same ``sticky`` was last placed on."""
    return float(candidate.host == request.home)


def reliable(request: Request, candidate: Candidate, snapshot: Snapshot) -> float:  # noqa: ARG001
    """Prefer hosts on which less failed lately, and above all not this request; two failed tasks are nobody's fault."""
    return -max(0, candidate.failures - 2) - 1000.0 * request.avoided.count(candidate.host)


def plain(request: Request, candidate: Candidate, snapshot: Snapshot) -> float:
    """Prefer the host that has least of what is scarce and nobody asked for: keep the special for those who need it."""
    return -sum(
        1.0 - share
        for key, share in snapshot.shares.items()
        if share <= SCARCE and key not in request.keys and candidate.capabilities.get(key)
    )


#: The part of the fleet that has what counts as scarce, at most.
SCARCE = 0.5

BUILT_IN: dict[str, tuple[Weigher, float]] = {
    "free": (free, 1.0),
    "prefers": (prefers, 4.0),
    "sticky": (sticky, 2.0),
    "reliable": (reliable, 10.0),  # more than all the others together
    "plain": (plain, 2.0),
}


def normalised(weights: Sequence[float]) -> list[float]:
    """Return *weights* between 0 and 1; all 0 where they are equal.

    Raises:
        ValueError: one of them is no finite number, beside which the others mean nothing.
    """
    if not math.isfinite(sum(weights)):
        raise ValueError(f"{list(weights)} are not all finite numbers")
    least, most = min(weights), max(weights)
    return [(weight - least) / (most - least) if most > least else 0.0 for weight in weights]
