"""Everything known of one host: the table's rows beside the durable registry's records."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from managers.db.records import ServiceRecord
from scheduler.claims import Claim
from scheduler.hosts import Host, Identity, Readiness


def dossier(rows: Iterable[Host], records: Iterable[ServiceRecord], readiness: Readiness) -> list[dict[str, Any]]:
    """Return an entry for each service of a host, in the shape that ``celeriac show --json`` promises.

    A service that only the registry knows is "stopped" if it said so, else "lost"; while the table is not ready nobody
    can tell, and it is "unknown".
    """
    live = {row.service: row for row in rows}
    durable = {record.service: record for record in records}
    return [
        _entry(live.get(service), durable.get(service), readiness) for service in sorted(live.keys() | durable.keys())
    ]


def held(claims: Iterable[Claim], now: float) -> list[dict[str, Any]]:
    """Return open claims in the shape that ``celeriac claims --json`` promises."""
    return [
        {
            "task_id": claim.task_id,
            "task": claim.task,
            "service": claim.service,
            "host": claim.host,
            "state": claim.state,
            "attempt": claim.attempt,
            "since_seconds": round(max(0.0, now - claim.placed_at), 3),
            "claims": claim.claims,
        }
        for claim in claims
    ]


def _entry(row: Host | None, record: ServiceRecord | None, readiness: Readiness) -> dict[str, Any]:
    known = _absent(record, readiness) if row is None else row.to_dict()
    return {
        **known,
        "holder": None if row is None else _holder(row.identity),
        "record": None if record is None else dated(asdict(record)),
    }


def _holder(identity: Identity) -> dict[str, Any]:
    return {**asdict(identity), "joined_at": datetime.fromtimestamp(identity.joined_at, UTC).isoformat()}


def _absent(record: ServiceRecord | None, readiness: Readiness) -> dict[str, Any]:
    if record is None:
        return {}
    if record.stopped_at is not None:
        state, reason = "stopped", f"stopped gracefully at {record.stopped_at.isoformat(timespec='seconds')}"
    elif readiness.ready:
        state, reason = "lost", f"never said that it stopped; last seen at {_second(record.last_seen_at)}"
    else:
        state, reason = "unknown", f"the table is not ready; last seen at {_second(record.last_seen_at)}"
    disabled = [f"disabled: {record.disabled_reason or 'no reason given'}"] if record.disabled else []
    return {
        "service": record.service,
        "host": record.host,
        "state": state,
        "reasons": [reason, *disabled],
        "seen_seconds_ago": None,
        "reported_seconds_ago": None,
        "capabilities": {},
        "total": {},
        "free": {},
    }


def dated(values: dict[str, Any]) -> dict[str, Any]:
    """Return *values* with their moments as JSON has them."""
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}


def _second(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
