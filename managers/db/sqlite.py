"""The engine of a SQLite file that several processes write to."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from managers.db.address import SETTING, shown
from managers.db.forks import gate
from managers.errors import DatabaseError

#: Seconds a transaction waits for another process's.
BUSY_TIMEOUT = 30.0

#: Seconds between two attempts to turn on the write-ahead log.
_WAL_RETRY = 0.01


def create(url: URL) -> Engine:
    """Return an engine without a pool: a connection that stays open would be inherited by a fork (see `forks`)."""
    folder = Path(url.database or "").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(
            f"database {shown(url)}: can't create its folder: {error}; let {SETTING} name another place"
        ) from error
    engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={
            "factory": _Connection,
            "timeout": BUSY_TIMEOUT,
            "isolation_level": None,
            "check_same_thread": False,
        },
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


class _Connection(sqlite3.Connection):
    """A connection that the fork gate knows of for as long as it is open."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._process = os.getpid()
        self._key: int | None = gate.enter()
        try:
            super().__init__(*args, **options)
        except BaseException:
            gate.leave(self._key)
            raise

    def close(self) -> None:
        if self._process != os.getpid():
            return  # an inherited connection is leaked: closing it would touch the parent's log
        super().close()
        if self._key is not None:
            gate.leave(self._key)
            self._key = None


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    try:
        _turn_on_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file over; SQLite doesn't apply the busy timeout to this one statement."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY)
        else:
            return  # a file system without shared memory keeps its mode, and works


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("sqlite_readonly"):
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("BEGIN")
    else:
        # A transaction that reads first and writes later can't wait for its turn any more: take it at the start.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
