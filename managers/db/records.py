"""A row as a fact: it outlives its session and never changes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from managers.db.models import Placement, Service


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRecord:
    """An attempt to run a placed task, and how it ended; times are in UTC, by Redis's clock."""

    request_id: str
    #: Counts from 1; 0 is a request that ended without being placed.
    attempt: int
    task_id: str
    task: str
    service: str
    #: None where it was never placed.
    host: str | None
    outcome: str
    submitted_at: datetime
    placed_at: datetime | None
    started_at: datetime | None
    ended_at: datetime
    claims: Mapping[str, float] = field(hash=False)
    #: Why it ended so; cut at `managers.db.placements.MAX_REASONS`.
    reasons: str | None

    @classmethod
    def of(cls, row: "Placement") -> Self:
        """Copy a row."""
        copied = {column.name: getattr(row, column.name) for column in fields(cls)}
        return cls(**{**copied, "claims": json.loads(row.claims)})
