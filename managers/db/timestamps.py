"""Points in time as the database keeps them: with their zone, in UTC."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, TypeDecorator


def utc(moment: datetime) -> datetime:
    """Return the same moment in UTC.

    Raises:
        ValueError: if it is naive: whose midnight it means can't be known.
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; use datetime.now(UTC)")
    return moment.astimezone(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A time-zone aware column on every database; SQLite, which keeps no zone, stores UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 the base names it
        """Refuse a naive moment on its way in."""
        return None if value is None else utc(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 the base names it
        """Answer in UTC, whatever zone the connection is in."""
        if value is None:
            return None
        return utc(value) if value.tzinfo else value.replace(tzinfo=UTC)
