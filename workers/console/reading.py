"""Reads a fleet's servers from outside any worker: within time-outs, changing nothing, showing no password."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import URL

from managers.db import engine
from managers.db.address import parse
from managers.db.address import shown as shown_database
from managers.db.records import ServiceRecord
from managers.drivers import load_db_driver
from managers.errors import DatabaseError, ManagerError
from managers.manager import DB_DRIVER
from scheduler.connections import connect
from scheduler.errors import SchedulerError
from scheduler.hosts import Host, Readiness
from scheduler.table import Table
from workers.config import PREFIX, Settings
from workers.errors import InvalidSettings

#: Seconds that a command waits for any one server.
PATIENCE = 5.0

T = TypeVar("T")


def shown(setting: str, url: str) -> str:
    """Return the address that *setting* names without user, password and query; a list of brokers one by one.

    Raises:
        InvalidSettings: it is no URL. The message never repeats it: a part of a password may lie anywhere in it.
    """
    return "; ".join(_shown(setting, part) for part in url.split(";"))


def _shown(setting: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        readable = parts.scheme and "@" not in parts.path + parts.fragment and parts.port != 0
    except ValueError:
        parts, readable = None, False
    if parts is None or not readable:
        raise InvalidSettings(
            f"{PREFIX}{setting} can't be read as a URL; write redis://:PASSWORD@host:6379/0 and the like,"
            " with @ : / ? # % of a password percent-encoded"
        )
    secret, _, place = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{'***@' if secret else ''}{place}{parts.path}"


@contextmanager
def open_table(settings: Settings) -> Iterator[Table]:
    """Open the fleet's capability table for one command: one try, no second one over a new connection.

    Raises:
        InvalidSettings: its address is none of a Redis.
    """
    address = shown("TABLE_URL", settings.table_address)
    try:
        client = connect(settings.table_address)
    except ValueError as error:
        raise InvalidSettings(
            f"{PREFIX}TABLE_URL is {address}, which names no Redis; write redis://, rediss:// or unix://"
        ) from error
    client.set_retry(Retry(NoBackoff(), 0))
    try:
        yield Table(client, fleet=settings.fleet, url=address)
    finally:
        client.close()


def snapshot(table: Table) -> tuple[list[Host], Readiness]:
    """Return all rows and whether they can be believed.

    Raises:
        TableUnavailable: Redis doesn't answer.
        SchedulerError: somebody else's rows, or a newer version's.
    """
    try:
        return table.snapshot()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SchedulerError(
            f"the capability table holds rows that this version can't read ({type(error).__name__}: {error});"
            f" check {PREFIX}FLEET, and that all workers run one version"
        ) from error


def database_address(settings: Settings) -> str:
    """Return the database's address for people. Raises DatabaseError if it is none."""
    return shown_database(parse(settings.database_address))


def open_database(settings: Settings) -> None:
    """Make the fleet's database this process's.

    Raises:
        DatabaseError: there is none.
    """
    engine.use(database_url(settings))


def database_url(settings: Settings) -> URL:
    """Return where the fleet's database is; an SQLite file that isn't there is not made by a look at it.

    Raises:
        DatabaseError: there is none.
    """
    url = parse(settings.database_address)
    if settings.db_driver == DB_DRIVER and url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise DatabaseError(
            f"there is no database {shown_database(url)} yet; the first worker makes it, or let {PREFIX}DATABASE_URL"
            " name the fleet's"
        )
    return url


def records(settings: Settings) -> list[ServiceRecord]:
    """Return what the durable registry knows.

    Raises:
        ManagerError: it can't be asked, or doesn't answer in time.
    """

    def ask() -> list[ServiceRecord]:
        open_database(settings)
        found: list[ServiceRecord] = load_db_driver(settings.db_driver).service_get_all()
        return found

    try:
        return begin(ask).result(timeout=PATIENCE)
    except ManagerError:
        raise
    except TimeoutError as error:
        raise DatabaseError(
            f"database {database_address(settings)} does not answer in {PATIENCE:g} s; check that it runs and that"
            f" {PREFIX}DATABASE_URL names it"
        ) from error
    except Exception as error:
        raise DatabaseError(
            f"{settings.db_driver} can't tell: {type(error).__name__}: {error}; check {PREFIX}DB_DRIVER"
        ) from error


def begin(ask: Callable[[], T]) -> "Future[T]":
    """Call *ask* in a thread that nobody needs to wait for, not even the end of the process."""
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # whoever waits for the answer gets it
            answer.set_exception(error)

    threading.Thread(target=run, name="celeriac-ask", daemon=True).start()
    return answer
