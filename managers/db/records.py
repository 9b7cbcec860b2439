"""A row of the registry as a fact: it outlives its session and never changes."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from managers.db.models import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """What the registry knew of a service on a host at the moment of the question; times are in UTC."""

    id: int
    service: str
    host: str
    version: str
    disabled: bool
    #: Why, in the operator's words.
    disabled_reason: str | None
    #: The operator says it is down, whatever its heartbeat says.
    forced_down: bool
    #: When it registered for the first time.
    created_at: datetime
    #: When an operator last edited it.
    updated_at: datetime | None
    #: When its present, or last, worker started.
    started_at: datetime
    last_seen_at: datetime
    #: When it stopped gracefully; None while it runs, and after a crash.
    stopped_at: datetime | None

    @classmethod
    def of(cls, row: "Service") -> Self:
        """Copy a row."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})
