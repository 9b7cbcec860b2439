"""Points in time as the database keeps them: with their zone, in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, Dialect, TypeDecorator

from managers.errors import shown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The end of the year 9999, in seconds since 1970.
_END = 253402300800.0


def utc(moment: datetime) -> datetime:
    """Return the same moment in UTC.

    Raises:
        ValueError: if it is naive: whose midnight it means can't be known.
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; use datetime.now(UTC)")
    return moment.astimezone(UTC)


def moment(when: datetime | float) -> datetime:
    """Return a datetime, or seconds since 1970 as Redis's clock counts them, in UTC and to the microsecond.

    Raises:
        ValueError: if it is naive, or no moment from 1970 to 9999.
    """
    if isinstance(when, datetime):
        return utc(when)
    if not isinstance(when, int | float) or isinstance(when, bool) or not 0 <= when < _END:
        raise ValueError(f"{shown(when)} is no moment from 1970 to 9999; use seconds since 1970")
    return _EPOCH + timedelta(seconds=when)


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
