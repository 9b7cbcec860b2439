"""Why a request fits or doesn't: clause by clause, host by host, without placing it."""

import re
from dataclasses import dataclass
from typing import Any

from scheduler.amounts import quantity
from scheduler.requests import Request
from scheduler.select import Selector
from scheduler.snapshot import Candidate, Snapshot

#: What is between two reasons, each of which begins with a number of hosts; a clause has commas of its own.
_NEXT = re.compile(r", (?=\d+ )")

#: Hosts that come nearest, of which is told.
NEAREST = 3


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What ``celeriac explain`` says: how many hosts pass each clause by itself, and what the nearest lack."""

    service: str
    hosts: int
    fit: int
    verdict: str
    clauses: list[tuple[str, int]]
    reasons: list[str]
    nearest: list[tuple[str, list[str]]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape that ``celeriac explain --json`` promises."""
        return {
            "service": self.service,
            "hosts": self.hosts,
            "fit": self.fit,
            "verdict": self.verdict,
            "clauses": [{"clause": clause, "passed": passed} for clause, passed in self.clauses],
            "reasons": self.reasons,
            "nearest": [{"host": host, "lacks": lacks} for host, lacks in self.nearest],
        }

    def __str__(self) -> str:
        """Return it as one line: "0/12 hosts: 9 gpus >= 1 (most free: 0), 3 stale; nearest: a lacks gpus >= 1"."""
        text = f"{self.fit}/{self.hosts} hosts: {', '.join(self.reasons) or 'all fit'}"
        if not self.nearest:
            return text
        nearest = (f"{host} lacks {' and '.join(lacks)}" for host, lacks in self.nearest)
        return f"{text}; nearest: {'; '.join(nearest)}"

    def __repr__(self) -> str:
        return f"<{self.verdict}, {self}>"


def explain(request: Request, snapshot: Snapshot, selector: Selector, *, count: int = 1) -> Explanation:
    """Return why *request* fits where it does and not elsewhere."""
    selection = selector.select(request, snapshot, count=count)
    candidates = snapshot.candidates(request.service)
    lacks = {candidate.host: _lacks(request, candidate, selector) for candidate in candidates}
    passed = [
        (str(clause), sum(clause.matches(candidate.capabilities) for candidate in candidates))
        for clause in request.requires.clauses
    ] + [
        (f"{resource} >= {quantity(amount)}", sum(candidate.free(resource) >= amount for candidate in candidates))
        for resource, amount in request.claims.items()
    ]
    nearest = sorted(((host, of) for host, of in lacks.items() if of), key=lambda entry: (len(entry[1]), entry[0]))
    return Explanation(
        service=request.service,
        hosts=len(candidates),
        fit=selection.fit,
        verdict=selection.verdict,
        clauses=passed,
        reasons=selection.reasons,
        nearest=nearest[:NEAREST] if selection.fit < count else [],
    )


def _lacks(request: Request, candidate: Candidate, selector: Selector) -> list[str]:
    """Return everything that *candidate* lacks, where the filters together name only the first."""
    clauses = [str(clause) for clause in request.requires.clauses if not clause.matches(candidate.capabilities)]
    short = {
        f"{resource} >= {quantity(amount)}": quantity(max(0, candidate.free(resource)))
        for resource, amount in request.claims.items()
        if candidate.free(resource) < amount
    }
    others = [no.reason for no in selector.refusals(request, candidate)]
    return [
        *clauses,
        *(f"{resource} (free: {free})" for resource, free in short.items()),
        *(reason for reason in others if reason not in clauses and reason not in short),
    ]


def parts(why: str) -> list[str]:
    """Return the reasons in what an explanation said in one line."""
    _, _, counted = why.partition(" hosts: ")
    return [part for part in _NEXT.split(counted.partition("; nearest: ")[0]) if part]
