"""The registry of services and the history of placements: what a manager finds as its `db`, the default of `db_driver`.

Every function is callable from any thread and process, and raises DatabaseError if the database can't be used. Those of
the registry are one transaction each; a moment is the current time in UTC unless `now` names another; a naive one is a
ValueError. Those of the history are told of in `managers.db.history`.
"""

from datetime import UTC, datetime
from types import EllipsisType

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.orm import Session

from managers.db.engine import session
from managers.db.errors import ServiceNotFound
from managers.db.history import history_add, history_list, history_prune
from managers.db.inserts import insert
from managers.db.models import Service
from managers.db.records import ServiceRecord
from managers.db.schema import upgrade
from managers.db.timestamps import utc

__all__ = [
    "history_add",
    "history_list",
    "history_prune",
    "service_destroy",
    "service_get",
    "service_get_all",
    "service_register",
    "service_seen",
    "service_stopped",
    "service_update",
    "upgrade",
]


def service_register(service: str, host: str, *, version: str, now: datetime | None = None) -> ServiceRecord:
    """Insert the service on this host, or revive it: started and seen now, not stopped.

    What an operator set (disabled, its reason, forced_down) stays. Processes that register the same pair at once end
    up with the same row.
    """
    moment = _moment(now)
    alive = {"version": version, "started_at": moment, "last_seen_at": moment, "stopped_at": None}
    with session() as opened:
        opened.execute(
            insert(opened, Service)
            .values(service=service, host=host, created_at=moment, **alive)
            .on_conflict_do_update(index_elements=[Service.service, Service.host], set_=alive)
        )
        return _get(opened, service, host)


def service_seen(service: str, host: str, *, now: datetime | None = None) -> bool:
    """Note that the service is there, and nothing else; False if its row is gone, deleted by an operator."""
    with session() as opened:
        return _change(opened, service, host, last_seen_at=_moment(now))


def service_stopped(service: str, host: str, *, now: datetime | None = None) -> ServiceRecord:
    """Note a graceful stop. Raises ServiceNotFound."""
    return _updated(service, host, stopped_at=_moment(now))


def service_get(service: str, host: str) -> ServiceRecord:
    """Return what is known of the service on that host. Raises ServiceNotFound."""
    with session(write=False) as opened:
        return _get(opened, service, host)


def service_get_all(
    *, service: str | None = None, host: str | None = None, disabled: bool | None = None
) -> list[ServiceRecord]:
    """Return what is registered, narrowed by what is given, sorted by service and host."""
    asked = {Service.service: service, Service.host: host, Service.disabled: disabled}
    narrowed = [column == value for column, value in asked.items() if value is not None]
    with session(write=False) as opened:
        found = [ServiceRecord.of(row) for row in opened.scalars(select(Service).where(*narrowed))]
    # Sorted here: a database sorts by its locale, and two databases would differ.
    return sorted(found, key=lambda record: (record.service, record.host))


def service_update(
    service: str,
    host: str,
    *,
    disabled: bool | EllipsisType = ...,
    disabled_reason: str | EllipsisType | None = ...,
    forced_down: bool | EllipsisType = ...,
    now: datetime | None = None,
) -> ServiceRecord:
    """Change what is given on an operator's behalf; what is left out stays. Raises ServiceNotFound."""
    given = {"disabled": disabled, "disabled_reason": disabled_reason, "forced_down": forced_down}
    changes = {name: value for name, value in given.items() if value is not ...}
    return _updated(service, host, **changes, updated_at=_moment(now)) if changes else service_get(service, host)


def service_destroy(service: str, host: str) -> None:
    """Delete the service on that host; it comes back when its worker starts again. Raises ServiceNotFound."""
    with session() as opened:
        if not opened.connection().execute(delete(Service).where(_is(service, host))).rowcount:
            raise ServiceNotFound(service, host)


def _updated(service: str, host: str, **changes: object) -> ServiceRecord:
    with session() as opened:
        _change(opened, service, host, **changes)
        return _get(opened, service, host)


def _change(opened: Session, service: str, host: str, **changes: object) -> bool:
    return opened.connection().execute(update(Service).where(_is(service, host)).values(changes)).rowcount > 0


def _get(opened: Session, service: str, host: str) -> ServiceRecord:
    row = opened.scalars(select(Service).where(_is(service, host))).one_or_none()
    if row is None:
        raise ServiceNotFound(service, host)
    return ServiceRecord.of(row)


def _is(service: str, host: str) -> ColumnElement[bool]:
    return and_(Service.service == service, Service.host == host)


def _moment(now: datetime | None) -> datetime:
    return utc(now or datetime.now(UTC))
