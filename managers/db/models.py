"""The tables, as typed classes."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Index, MetaData, String, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from managers.db.timestamps import UtcDateTime


class Base(DeclarativeBase):
    """Every table of the project; its constraints are named by one convention, so that migrations can find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime, str: Text}


class Service(Base):
    """A service on a host: who registered, when it was last there, and what the operator says about it.

    `started_at`, `last_seen_at` and `stopped_at` belong to the worker; `disabled`, `disabled_reason`, `forced_down`
    and `updated_at` to the operator. Neither writes the other's.
    """

    __tablename__ = "services"
    __table_args__ = (UniqueConstraint("service", "host"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    service: Mapped[str]
    host: Mapped[str]
    version: Mapped[str]
    disabled: Mapped[bool] = mapped_column(default=False, server_default=false())
    disabled_reason: Mapped[str | None]
    forced_down: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    started_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    stopped_at: Mapped[datetime | None]


class Placement(Base):
    """An attempt to run a placed task, once it has ended; attempt 0 is a request that ended without being placed.

    A row is added and one day pruned, never changed. Lengths are in letters; `history_add` keeps to them.
    """

    __tablename__ = "placements"
    # The newest of a task or a host are asked for, so one index finds them in their order.
    __table_args__ = (Index(None, "task", "ended_at"), Index(None, "host", "ended_at"))

    request_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(String(255), index=True)
    task: Mapped[str] = mapped_column(String(255))
    service: Mapped[str] = mapped_column(String(64))
    host: Mapped[str | None] = mapped_column(String(128))
    outcome: Mapped[str] = mapped_column(String(32))
    submitted_at: Mapped[datetime]
    placed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime] = mapped_column(index=True)
    claims: Mapped[str]
    reasons: Mapped[str | None]
