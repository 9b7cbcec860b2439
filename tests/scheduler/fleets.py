"""Hosts, snapshots and requests for those who choose between them."""

from collections.abc import Iterable, Mapping
from typing import Any

from managers.reports import Value
from scheduler.hosts import Host, Identity, Readiness
from scheduler.requests import Request, check_options
from scheduler.snapshot import Candidate, Snapshot

IDENTITY = Identity(
    instance="one",
    machine="vm",
    pid=7,
    pid_started=1.0,
    version="0.1.0",
    heartbeat_interval=10.0,
    interval=60.0,
    boot=4,
)


def row(
    host: str,
    capabilities: Mapping[str, Value] | None = None,
    *,
    service: str = "host",
    state: str = "up",
    used: Mapping[str, float] | None = None,
    slots: float = 8,
) -> Host:
    """Return the table's row of a host; *used* is in whole units."""
    return Host(
        service=service,
        host=host,
        state=state,
        reasons=(),
        seen_seconds_ago=1.0,
        reported_seconds_ago=1.0,
        capabilities={**({"slots": slots} if service == "host" else {}), **(capabilities or {})},
        identity=IDENTITY,
        changed=3,
        used={name: round(amount * 1000) for name, amount in (used or {}).items()},
    )


def snapshot(rows: Iterable[Host], *, reason: str = "", **failures: int) -> Snapshot:
    """Return a snapshot of *rows*, not ready for *reason* if there is one."""
    return Snapshot(list(rows), Readiness(ready=not reason, reason=reason), failures)


def candidate(
    host: str = "a", capabilities: Mapping[str, Value] | None = None, *, failures: int = 0, **facts: Any
) -> Candidate:
    """Return one host as a request sees it."""
    return snapshot([row(host, capabilities, **facts)], **{host: failures}).candidates("host")[0]


def request(*, service: str = "host", **options: Any) -> Request:
    """Return what a task with these *options* asks; fields of the request may be among them."""
    options.pop("count", None)
    known = {
        name: options.pop(name)
        for name in ("ran", "home", "avoided", "id", "task_id", "task", "gang")
        if name in options
    }
    fields = {"id": "r1", "task_id": "t1", "task": "tasks.render", **known, **check_options(options)}
    fields.pop("placement_timeout", None)
    return Request(service=service, **fields)
