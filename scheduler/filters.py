"""Filters: each removes hosts on which a request can't run, and says why.

All of them are asked, in this order, and the first "no" is the host's reason. None is ever left out: what prefers a
host (``prefers``, ``sticky``) is a weigher.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.amounts import quantity
from scheduler.requests import Request
from scheduler.snapshot import Candidate


@dataclass(frozen=True, slots=True)
class No:
    """Why a host is out.

    ``most_free`` is what is left of what it lacks, in thousandths, of which the fleet's most is told; ``is_full`` says
    that it is only for now: the host would do if its claims ended.
    """

    reason: str
    most_free: int | None = None
    is_full: bool = False


#: Returns why *candidate* can't run *request*, None if it can.
Filter = Callable[[Request, Candidate], No | None]


def state(request: Request, candidate: Candidate) -> No | None:  # noqa: ARG001  # every filter is asked the same
    """Ask that it is up: neither stale nor draining nor disabled."""
    return None if candidate.state == "up" else No(candidate.state)


def names(request: Request, candidate: Candidate) -> No | None:
    """Ask that ``only`` and ``exclude`` leave it."""
    if request.only and candidate.host not in request.only:
        return No(f"only {', '.join(request.only)}")
    return No("excluded by name") if candidate.host in request.exclude else None


def relations(request: Request, candidate: Candidate) -> No | None:
    """Ask that ``same_host``, ``different_host`` and a ``sticky`` that must stick are kept."""
    for task_id in request.same_host:
        host = request.ran.get(task_id)
        if host is None:
            return No(f"same host as task {task_id}, which has not been placed")
        if host != candidate.host:
            return No(f"same host as task {task_id}")
    for task_id in request.different_host:
        if request.ran.get(task_id) == candidate.host:
            return No(f"different host from task {task_id}")
    if request.must_stick and request.home not in {None, candidate.host}:
        return No(f"sticks to {request.home}")
    return None


def requires(request: Request, candidate: Candidate) -> No | None:
    """Ask that it has what is required, clause by clause."""
    for clause in request.requires.clauses:
        if not clause.matches(candidate.capabilities):
            return No(str(clause))
    return None


def room(request: Request, candidate: Candidate) -> No | None:
    """Ask that it has room for what is claimed: at all, and now."""
    lacking = [resource for resource, amount in request.claims.items() if candidate.total.get(resource, 0) < amount]
    is_full = not lacking
    lacking += [resource for resource, amount in request.claims.items() if candidate.free(resource) < amount]
    if not lacking:
        return None
    resource = lacking[0]
    free = max(0, candidate.free(resource))
    return No(f"{resource} >= {quantity(request.claims[resource])}", most_free=free, is_full=is_full)


BUILT_IN: tuple[Filter, ...] = (state, names, relations, requires, room)
