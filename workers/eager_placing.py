"""Placement in eager mode: the process is the host that its task is placed on, while it runs.

Tasks run one within another there, which in a fleet would run one after another. So what one claims is given back
before it begins, and ``slots``, of which a process without a pool has none, are not asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from scheduler.amounts import SLOTS
from scheduler.claims import Claims
from scheduler.errors import InvalidPlacement, NoValidHost
from scheduler.explain import explain, parts
from scheduler.hosts import Host, Readiness
from scheduler.pending import Pending
from scheduler.requests import Request
from scheduler.select import Selector
from scheduler.snapshot import Snapshot
from workers.registry import Registry


@contextmanager
def place_here(registry: Registry, selector: Selector, request: Request, count: int) -> Iterator[None]:
    """Place *request* now, and be its host for the block; in a fleet of no host at all, be this process's.

    Raises:
        InvalidPlacement: it is for several hosts, and this process is one.
        NoValidHost: none fits now, and nobody could make room while this process waits.
    """
    if count > 1:
        raise InvalidPlacement(f"{request.task} is to run on {count} hosts at once; eager mode runs one after another")
    rows = registry.table.hosts()
    if not rows:
        yield
        return
    with registry.acting_as(_host(registry, selector, request, rows)):
        yield


def _host(registry: Registry, selector: Selector, request: Request, rows: list[Host]) -> str:
    """Return the host that *request* was placed on."""
    claims, pending = Claims(registry.table), Pending(registry.table)
    asked = {resource: amount for resource, amount in request.claims.items() if resource != SLOTS}
    known = replace(pending.knowing(request), claims=asked)
    # what this process reported is all there is: there are no others to wait for
    snapshot = Snapshot(rows, Readiness(ready=True), claims.failures())
    selection = selector.select(known, snapshot)
    if selection.hosts:
        pending.submit([(known, {})])
        claimed = claims.claim(
            [known.id], known.shape, selection.hosts, asked, start_deadline=known.start_deadline, sticky=known.sticky
        )
        for place in claimed.places:
            claims.release(place.host, known.id, place.attempt, "done")
            return place.host
        for unit in pending.waiting_of([known.task_id]):  # a host has gone meanwhile
            pending.fail(unit, "timeout", "refused")
            pending.finish(known.id, "unplaced", "refused")
    why = str(explain(known, snapshot, selector))
    raise NoValidHost(f"no valid host for {request.task}; {why}", parts(why))
