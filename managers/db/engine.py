"""Which database this process uses, and its engine.

An engine never crosses a fork: a child starts without one and builds its own at its first use. The parent's
PostgreSQL connections are left alone there, neither used nor closed; SQLite has none open at that moment (`forks`).
A spawned process starts with nothing: it takes the environment's database unless it calls `use()` itself.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import URL, Engine, Pool
from sqlalchemy.orm import Session

from managers.db import postgresql, sqlite
from managers.db.address import SETTING, parse
from managers.db.errors import translated
from managers.errors import DatabaseError


class _Process:
    """What this process knows of its databases."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.named: URL | None = None
        self.engines: dict[URL, Engine] = {}
        self.inherited: list[Pool] = []

    def after_fork_in_child(self) -> None:
        self.lock = threading.Lock()
        for inherited in self.engines.values():
            # Kept, so that the child's collector never touches connections that are the parent's.
            self.inherited.append(inherited.pool)
            inherited.dispose(close=False)
        self.engines = {}


_process = _Process()
_using: ContextVar[URL | None] = ContextVar("celeriac_database", default=None)
os.register_at_fork(after_in_child=_process.after_fork_in_child)


def use(url: str | URL | None) -> None:
    """Name this process's database, for all of its threads and future forks; None goes back to the environment's.

    Called from the settings before the first query. Nothing is opened yet. A relative SQLite path is taken from the
    current folder of this moment.
    """
    _process.named = None if url is None else parse(url)


@contextmanager
def using(url: str | URL) -> Iterator[None]:
    """Use another database for the length of the block, in this thread or greenlet."""
    token = _using.set(parse(url))
    try:
        yield
    finally:
        _using.reset(token)


def engine() -> Engine:
    """Return this process's engine for the database in use, built at the first call from any thread.

    Don't keep it: after a fork, or after `use()`, the next call answers with another one.

    Raises:
        DatabaseError: if no database is named, its driver is missing, or its folder can't be created.
    """
    url = _using.get() or _process.named or _from_environment()
    with _process.lock:
        if url not in _process.engines:
            backend = sqlite if url.get_backend_name() == "sqlite" else postgresql
            _process.engines[url] = backend.create(url)
        return _process.engines[url]


@contextmanager
def session(*, write: bool = True) -> Iterator[Session]:
    """Open a session that commits at the end of the block, or rolls back if the block raises.

    A writing session on SQLite holds the file's only write lock from its first line: keep the block short, and don't
    fork inside it. With `write=False` it waits for no writer, and the database refuses changes.

    Raises:
        DatabaseError: if the database doesn't answer, its schema is missing, or a lock isn't to be had in time.
    """
    bound = engine()
    readonly = {"postgresql_readonly": True, "sqlite_readonly": True}
    with translated(bound.url), Session(bound, expire_on_commit=False) as opened, opened.begin():
        opened.connection(execution_options={} if write else readonly)
        yield opened


def close() -> None:
    """Close this process's idle connections; the next `engine()` starts anew. Call it where a process ends."""
    with _process.lock:
        engines, _process.engines = _process.engines, {}
    for closing in engines.values():
        closing.dispose()


def _from_environment() -> URL:
    url = os.environ.get(SETTING)
    if not url:
        raise DatabaseError(
            f"no database is named; set {SETTING}, for example to sqlite:////var/lib/celeriac/celeriac.db"
        )
    return parse(url)
