"""What can be asked of placement: why a task fits where it does, what waits and why, what is held, what has been."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from managers.db import PlacementRecord
from scheduler.claims import Claim, Claims
from scheduler.errors import HostNotFound
from scheduler.explain import Explanation
from scheduler.explain import explain as explanation_of
from scheduler.pending import Pending, Unit
from scheduler.requests import Request, check_options
from scheduler.select import FEASIBLE
from scheduler.snapshot import HOST_SERVICE, Snapshot
from scheduler.table import Table
from workers.console.reading import snapshot
from workers.placing import selector
from workers.servers import Fleet, Servers, nearest, reach

#: What is said of a request that waits although it fits.
_NEXT = "it fits now: the next look of a scheduler places it"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for a host, *count* of them at once where it is a gang; ``verdict`` is as of ``explain``."""

    task_id: str
    task: str
    service: str
    count: int
    since_seconds: float
    verdict: str
    reasons: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape that ``celeriac pending --json`` promises."""
        return {**asdict(self), "host": None}


def explain(
    requires: Any = None,
    *,
    claims: Mapping[str, float] | None = None,
    service: str = HOST_SERVICE,
    only: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    same_host: str | Sequence[str] = (),
    different_host: str | Sequence[str] = (),
    count: int = 1,
    fleet: Fleet = None,
) -> Explanation:
    """Say where a task that asks this would fit now, and what the others lack; nothing is placed.

    *fleet* is an adopted application or settings, by default those of this process's environment.

    Raises:
        InvalidRequirement, InvalidPlacement, InvalidName: what is asked can't be.
        TableUnavailable: Redis doesn't answer.
    """
    asked = check_options({
        "service": service, "requires": requires, "claims": claims, "only": only, "exclude": exclude,
        "same_host": same_host, "different_host": different_host, "count": count,
    })  # fmt: skip
    count = asked.pop("count")
    request = Request(id="", task_id="", task="", service=service, **asked)
    with reach(fleet) as servers:
        known = Pending(servers.table).knowing(request)
        return explanation_of(known, _snapshot(servers.table), selector(servers.settings), count=count)


def pending(*, limit: int = 1000, fleet: Fleet = None) -> list[Waiting]:
    """Return the first that wait for a host, in their order, each with why. Raises TableUnavailable."""
    with reach(fleet) as servers:
        return _explained(servers, Pending(servers.table).all(limit))


def waiting_of(task_id: str, *, fleet: Fleet = None) -> list[Waiting]:
    """Return the request of *task_id* if it waits for a host, and why. Raises TableUnavailable."""
    with reach(fleet) as servers:
        return _explained(servers, Pending(servers.table).waiting_of([task_id]))


def claims(host: str | None = None, *, fleet: Fleet = None) -> list[Claim]:
    """Return what is claimed of *host*, or of all, the oldest first.

    Raises:
        HostNotFound: nothing is, and the table knows no such host; the message has the nearest name.
        TableUnavailable: Redis doesn't answer.
    """
    with reach(fleet) as servers:
        if host is None:
            return Claims(servers.table).all()
        held = Claims(servers.table).of(host)
        names = {row.host for row in snapshot(servers.table)[0]}
        if not held and host not in names:
            raise HostNotFound(f"the table knows no host {host!r}; {nearest(host, names)}")
        return held


def history(
    *,
    task: str | None = None,
    host: str | None = None,
    service: str | None = None,
    task_id: str | None = None,
    outcome: str | None = None,
    since: datetime | float | None = None,
    limit: int = 100,
    fleet: Fleet = None,
) -> list[PlacementRecord]:
    """Return the newest attempts that ended, the last first, narrowed by what is given.

    *since* is a datetime with its zone, or seconds since 1970. A scheduler writes them in batches, so the very last may
    not be there yet.

    Raises:
        DatabaseError: the database can't be used, or its driver keeps no history.
    """
    with reach(fleet) as servers, servers.database() as module:
        found: list[PlacementRecord] = module.history_list(
            task=task, host=host, service=service, task_id=task_id, outcome=outcome, since=since, limit=limit
        )
        return found


def _explained(servers: Servers, units: Sequence[Unit]) -> list[Waiting]:
    if not units:
        return []
    parked, chosen = Pending(servers.table), selector(servers.settings)
    seen, now = _snapshot(servers.table), servers.table.now()
    why: dict[str, Explanation] = {}
    for unit in units:
        if unit.shape not in why:  # all of a shape fit the same hosts
            why[unit.shape] = explanation_of(parked.knowing(unit.request), seen, chosen, count=len(unit.ids))
    return [_waiting(unit, why[unit.shape], now) for unit in units]


def _snapshot(table: Table) -> Snapshot:
    rows, readiness = snapshot(table)
    return Snapshot(rows, readiness, Claims(table).failures())


def _waiting(unit: Unit, why: Explanation, now: float) -> Waiting:
    request = unit.request
    return Waiting(
        task_id=request.task_id,
        task=request.task,
        service=request.service,
        count=len(unit.ids),
        since_seconds=round(max(0.0, now - unit.since), 3),
        verdict=why.verdict,
        reasons=[_NEXT] if why.verdict == FEASIBLE else why.reasons,
    )
