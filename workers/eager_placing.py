"""Placement in eager mode: the process is the host that its task is placed on, while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from scheduler.claims import Claim, Claims
from scheduler.errors import InvalidPlacement, NoValidHost
from scheduler.explain import explain, parts
from scheduler.placer import Placer
from scheduler.requests import Request
from scheduler.select import Selector
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
    placed: list[Claim] = []
    placer = Placer(
        registry.table, dispatch=lambda claim, _: placed.append(claim), conclude=lambda _: None,
        selector=selector,
    )  # fmt: skip
    snapshot = placer.snapshot()
    if not snapshot.rows:
        yield
        return
    placer.pending.submit([(request, {})])
    placer.notice(request.shape)
    placer.turn(is_anything_new=False)
    if not placed:
        why = str(explain(placer.pending.knowing(request), snapshot, placer.selector))
        for unit in placer.pending.waiting_of([request.task_id]):
            placer.pending.fail(unit, "timeout", why)
        placer.pending.finish(request.id, "unplaced", why)
        raise NoValidHost(f"no valid host for {request.task}; {why}", parts(why))
    claims, (claim,) = Claims(registry.table), placed
    claims.start(claim.host, claim.id, claim.attempt, by=claim.id)
    outcome = "failed"
    try:
        with registry.acting_as(claim.host):
            yield
        outcome = "done"
    finally:
        claims.release(claim.host, claim.id, claim.attempt, outcome)
