"""What can go wrong around the database, and how its driver's errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from managers.db.address import SETTING, shown
from managers.errors import DatabaseError, ManagerError


class ServiceNotFound(DatabaseError, LookupError):
    """Raised when a service was never registered on that host, or was deleted since."""

    def __init__(self, service: str, host: str) -> None:
        super().__init__(service, host)
        self.service = service
        self.host = host

    def __str__(self) -> str:
        return (
            f"no service {self.service!r} on host {self.host!r} in the database; "
            "it is registered when a worker of that host starts, check both names"
        )


class InvalidRecord(ManagerError, ValueError):
    """Raised when a record given to the history breaks a limit or isn't one; nothing of its batch is written.

    No DatabaseError: that batch fails again however often it is tried; without the record at `index` it may not.
    """

    def __init__(self, index: int, fault: str) -> None:
        super().__init__(index, fault)
        self.index = index
        self.fault = fault

    def __str__(self) -> str:
        return f"record {self.index} of the batch: {self.fault}"


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise what the driver raises inside as a DatabaseError; a broken constraint stays an IntegrityError."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeoutError) as error:
        cause = (isinstance(error, DBAPIError) and error.orig) or error
        detail = " ".join(str(cause).split())
        raise DatabaseError(f"database {shown(url)}: {detail}; {_way_out(cause)}") from error


def _way_out(cause: BaseException) -> str:
    detail = str(cause)
    missing = "no such table" in detail or "no such column" in detail
    if missing or getattr(cause, "sqlstate", None) in {"42P01", "42703"}:  # undefined table, undefined column
        return "its schema is missing or too old, bring it up to date with managers.db.upgrade()"
    if "was forked" in detail:
        return "fork outside of session()"
    if "locked" in detail:
        return "another process has been writing for too long, find and stop it"
    return f"check that it answers and that {SETTING} names it"
