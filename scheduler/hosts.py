"""A host as the capability table knows it: its row, and what can be said of many."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from managers.reports import Capabilities
from scheduler.amounts import Amounts, quantity

#: Missed intervals after which a host is stale.
MISSED = 3

#: Numeric capabilities that are shown as claimable; any other is too as long as a task claims some of it.
CLAIMABLE = ("slots", "cpus", "memory_mb", "gpus")


def member_of(service: str, host: str) -> str:
    """Return how (service, host) is written in the table."""
    return f"{service}/{host}"


def split_member(member: str) -> tuple[str, str]:
    """Return the service and the host of *member*."""
    service, _, host = member.partition("/")
    return service, host


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds a (service, host): one life of one worker.

    ``machine`` and ``pid``, with the process's start time, let a worker on the same machine see that its predecessor is
    dead before it is stale; ``boot`` and ``joined_at`` are the table's to give. Intervals in seconds.
    """

    instance: str
    machine: str
    pid: int
    pid_started: float
    version: str
    heartbeat_interval: float
    interval: float
    boot: int = 0
    joined_at: float = 0.0

    def to_json(self) -> str:
        """Return the table's form."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the identity in *text*; keys of a newer version are passed over."""
        values = json.loads(text)
        return cls(**{entry.name: values[entry.name] for entry in fields(cls) if entry.name in values})


@dataclass(frozen=True, slots=True)
class Joined:
    """The names are taken: Redis's time and this life's boot number."""

    now: float
    boot: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A name is held by another live worker, stale in so many seconds unless it beats again; *now* is Redis's time."""

    member: str
    holder: Identity
    stale_in: float
    now: float


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the table can be believed; the reason says what is missing."""

    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """One row: a service on a host. ``state`` is up, stale, disabled or draining; ``reasons`` say why not up."""

    service: str
    host: str
    state: str
    reasons: tuple[str, ...]
    seen_seconds_ago: float
    reported_seconds_ago: float | None
    capabilities: Capabilities
    identity: Identity
    #: Sequence of the report by which the capabilities last changed; with the boot it names what was reported.
    changed: int = -1
    #: Thousandths that open claims hold.
    used: Amounts = field(default_factory=dict)
    total: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        service: str,
        host: str,
        *,
        identity: Identity,
        stale_at: float,
        report: Mapping[str, Any] | None,
        capabilities: Capabilities,
        disabled: str | None,
        draining: str | None,
        now: float,
        used: Amounts | None = None,
    ) -> Self:
        """Judge the row from what the table holds at *now* (Redis's time)."""
        seen = max(0.0, now - (stale_at - MISSED * identity.heartbeat_interval))
        reported = None if report is None else max(0.0, now - report["at"])
        stale = []
        if stale_at <= now:
            stale.append(f"presence {seen:.1f} s old (heartbeat interval {identity.heartbeat_interval:g} s)")
        if report is None or reported is None:
            said, age, interval = "joined without a report", now - identity.joined_at, identity.interval
        else:
            said, age, interval = "last report", reported, report["interval"]
        if age > MISSED * interval:
            stale.append(f"{said} {age:.1f} s ago (periodic interval {interval:g} s)")
        draining_reasons = [] if draining is None else [f"draining: {draining}"]
        disabled_reasons = [] if disabled is None else [f"disabled: {disabled}"]
        state = "stale" if stale else "draining" if draining_reasons else "disabled" if disabled_reasons else "up"
        used = used or {}
        total = {
            key: value
            for key in dict.fromkeys((*CLAIMABLE, *sorted(used)))
            if isinstance(value := capabilities.get(key), int | float) and not isinstance(value, bool)
        }
        return cls(
            service=service,
            host=host,
            state=state,
            reasons=(*stale, *draining_reasons, *disabled_reasons),
            seen_seconds_ago=round(seen, 3),
            reported_seconds_ago=None if reported is None else round(reported, 3),
            capabilities=capabilities,
            identity=identity,
            changed=-1 if report is None else report.get("changed", -1),
            used=used,
            total=total,
            free={key: _left(value, used.get(key, 0)) for key, value in total.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape that ``celeriac hosts --json`` promises."""
        return {
            "service": self.service,
            "host": self.host,
            "state": self.state,
            "reasons": list(self.reasons),
            "seen_seconds_ago": self.seen_seconds_ago,
            "reported_seconds_ago": self.reported_seconds_ago,
            "capabilities": dict(self.capabilities),
            "total": dict(self.total),
            "free": dict(self.free),
        }


def _left(total: float, used: int) -> float:
    """Return what is left of *total* when thousandths of it are *used*; less than nothing if it shrank meanwhile."""
    return quantity(round(total * 1000) - used) if used else total


def aggregate(hosts: Iterable[Host]) -> dict[str, tuple[Any, Any]]:
    """Return ``{"<service>.<key>": (min, max)}`` over the hosts that are up.

    Only what has an order counts: numbers with numbers (a bool is one), texts with texts. A key whose values mix both,
    or are lists, is left out: the origin compared them by Python 2's rules, which meant nothing.
    """
    values: dict[str, list[Any]] = {}
    for host in hosts:
        if host.state == "up":
            for key, value in host.capabilities.items():
                values.setdefault(f"{host.service}.{key}", []).append(value)
    return {key: (min(seen), max(seen)) for key, seen in sorted(values.items()) if _ordered(seen)}


def _ordered(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values) or all(isinstance(value, str) for value in values)


def readiness(hosts: list[Host], *, since: float | None, now: float) -> Readiness:
    """Say whether *hosts* can be the whole fleet.

    *since* is when the first host joined after Redis was last emptied, None if none has. Everyone has had the chance to
    join again once the longest heartbeat interval is over, and to report once the longest periodic interval is.
    """
    if since is None:
        return Readiness(ready=False, reason="the table is empty: no host has joined since Redis was last emptied")
    age = now - since
    joining = max((host.identity.heartbeat_interval for host in hosts), default=0.0)
    if age < joining:
        return Readiness(
            ready=False,
            reason=f"the table was emptied: {len(hosts)} services have joined in the {age:.1f} s since,"
            f" others have until {joining:g} s",
        )
    silent = sum(host.reported_seconds_ago is None and age < host.identity.interval for host in hosts)
    if silent:
        return Readiness(
            ready=False,
            reason=f"the table was emptied {age:.1f} s ago: {silent} of {len(hosts)} services have not reported yet",
        )
    return Readiness(ready=True)
