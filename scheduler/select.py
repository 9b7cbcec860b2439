"""The choice of hosts for a request: pure, over a snapshot; only the claim that follows is certain."""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scheduler import filters, weighers
from scheduler.amounts import quantity
from scheduler.filters import Filter, No
from scheduler.requests import Request
from scheduler.snapshot import Candidate, Snapshot
from scheduler.weighers import Weigher, normalised

logger = logging.getLogger(__name__)

#: Hosts that a claim tries in one step, beyond those it needs.
ALTERNATIVES = 8

#: Hosts whose weight is this near to the best's are as good: the choice between them is random, so that several
#: schedulers don't all choose the same one. It is a part of what the least of the weighers that tell them apart can
#: make: a host that another weigher sets far below the others makes these no more alike.
AS_GOOD = 0.1

#: What stands between two reasons where they are told in one line.
SEPARATOR = ", "

#: Answers to "can it run?", from best to worst.
FEASIBLE, FULL, INFEASIBLE, NOT_READY = "feasible", "full", "infeasible", "not-ready"


@dataclass(frozen=True, slots=True)
class Selection:
    """The hosts to try, best first, and what was said of all the others.

    ``verdict``: feasible; full (it would fit if claims ended); infeasible (no host up would do even if it were empty);
    not-ready (the table can't tell who is there).
    """

    hosts: list[Candidate]
    verdict: str
    fit: int
    asked: int
    refusals: Mapping[str, "Tally"] = field(default_factory=dict)
    #: Hosts that are needed at once.
    wanted: int = 1

    @property
    def reasons(self) -> list[str]:
        """Why hosts are out, the most frequent first, such as "7 gpus >= 1 (most free: 0)"."""
        if self.verdict == NOT_READY:
            return list(self.refusals)
        if not self.asked:
            return ["none is known of that service"]
        counted = sorted(self.refusals.items(), key=lambda entry: -entry[1].hosts)
        told = [tally.said(reason) for reason, tally in counted]
        return [*told, f"{self.wanted} are needed at once"] if self.fit < self.wanted > 1 else told

    def __str__(self) -> str:
        return f"{self.fit}/{self.asked} hosts: {SEPARATOR.join(self.reasons) or 'all fit'}"


@dataclass(slots=True)
class Tally:
    """How many hosts gave one reason, how many of them only for now, and the most that is left of what they lack."""

    hosts: int = 0
    full: int = 0
    most_free: int | None = None

    def add(self, no: No) -> None:
        """Count a host."""
        self.hosts += 1
        self.full += no.is_full
        if no.most_free is not None:
            self.most_free = no.most_free if self.most_free is None else max(self.most_free, no.most_free)

    def said(self, reason: str) -> str:
        """Return it for people."""
        most = "" if self.most_free is None else f" (most free: {quantity(self.most_free)})"
        return f"{self.hosts} {reason}{most}"


@dataclass(frozen=True)
class Selector:
    """The filters and weighers of one fleet, the built-in ones and those that settings name."""

    filters: Sequence[Filter] = filters.BUILT_IN
    weighers: Mapping[str, tuple[Weigher, float]] = field(default_factory=lambda: weighers.BUILT_IN)

    def refusal(self, request: Request, candidate: Candidate) -> No | None:
        """Return the first "no" of the filters, all of which must pass; one for good before one for now."""
        full: No | None = None
        for no in self.refusals(request, candidate):
            if not no.is_full:
                return no
            full = full or no
        return full

    def refusals(self, request: Request, candidate: Candidate) -> Iterator[No]:
        """Yield the "no" of each filter that has one; one that fails is one."""
        for asked in self.filters:
            try:
                no = asked(request, candidate)
            except Exception as error:  # noqa: BLE001  # somebody's own: a host that can't be judged is not used
                no = No(f"{getattr(asked, '__name__', asked)} failed with {type(error).__name__}: {error}")
            if no is not None:
                yield no

    def select(
        self, request: Request, snapshot: Snapshot, *, count: int = 1, rng: random.Random | None = None
    ) -> Selection:
        """Return the hosts to try for *request*, as many as *count* needs and some more; none where too few fit."""
        candidates = snapshot.candidates(request.service)
        if not snapshot.readiness.ready:
            told = {snapshot.readiness.reason: Tally(len(candidates))}
            return Selection([], NOT_READY, 0, len(candidates), told, count)
        fitting: list[Candidate] = []
        refusals: dict[str, Tally] = {}
        for candidate in candidates:
            no = self.refusal(request, candidate)
            if no is None:
                fitting.append(candidate)
            else:
                refusals.setdefault(no.reason, Tally()).add(no)
        full = sum(tally.full for tally in refusals.values())
        verdict = FEASIBLE if len(fitting) >= count else FULL if len(fitting) + full >= count else INFEASIBLE
        ranked = self._ranked(request, fitting, snapshot, rng or random.Random()) if verdict == FEASIBLE else []  # noqa: S311
        return Selection(ranked[: count + ALTERNATIVES - 1], verdict, len(fitting), len(candidates), refusals, count)

    def _ranked(
        self, request: Request, fitting: list[Candidate], snapshot: Snapshot, rng: random.Random
    ) -> list[Candidate]:
        weights, told_apart = [0.0] * len(fitting), []
        for name, (weigher, multiplier) in self.weighers.items():
            if multiplier:
                try:
                    given = normalised([weigher(request, candidate, snapshot) for candidate in fitting])
                except Exception:
                    logger.exception("the weigher %s is left out", name)
                    continue
                if any(given):
                    weights = [weight + multiplier * score for weight, score in zip(weights, given, strict=True)]
                    told_apart.append(abs(multiplier))
        best = max(weights)
        near = AS_GOOD * min(told_apart, default=0.0)
        order = sorted(
            range(len(fitting)),
            key=lambda index: (0.0, rng.random()) if weights[index] >= best - near else (best - weights[index], 0.0),
        )
        return [fitting[index] for index in order]
