"""The schema's revision, and the way to the newest one.

Every process may call `upgrade()` when it starts. One at a time works: it holds the database's own lock (SQLite's
write lock, a PostgreSQL advisory lock) for one transaction around all steps. A crash rolls everything back and frees
the lock. Alembic is imported by the process that has steps to take: the others start without it.
"""

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.orm import Session

from managers.db.address import shown
from managers.db.engine import session
from managers.errors import DatabaseError

if TYPE_CHECKING:
    from alembic.config import Config

#: The PostgreSQL advisory lock of migrations: "celeriac" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"celeriac", "big")

#: Seconds a migration, or the wait for another process's, may take on PostgreSQL.
TIMEOUT = 600

_MIGRATIONS = Path(__file__).parent / "migrations"

logger = logging.getLogger(__name__)


class _Turn:
    """One migration at a time in this process as well: Alembic keeps its context in module globals."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def after_fork_in_child(self) -> None:
        self.lock = threading.Lock()


_turn = _Turn()
os.register_at_fork(after_in_child=_turn.after_fork_in_child)


def upgrade() -> None:
    """Bring an empty or older database to this code's revision; leave a newer one alone.

    Raises:
        DatabaseError: if the database can't be used, or another process's migration outlasts the time-out.
    """
    newest = head()
    if revision() == newest:
        return
    with _turn.lock, session() as opened:
        _lock(opened)
        current = _revision(opened)
        if current == newest:
            return
        address = shown(opened.get_bind().engine.url)
        if current is not None and current not in _numbers():
            logger.warning("schema of %s is newer (%s) than this code (%s): left alone", address, current, newest)
            return
        logging.getLogger("alembic").setLevel(logging.WARNING)  # ten lines of its own are nobody's news
        from alembic import command  # noqa: PLC0415  # a database that is up to date needs none of it

        command.upgrade(config(opened.connection()), "head")
        logger.info("schema of %s upgraded from %s to %s", address, current or "nothing", newest)


def downgrade(target: str) -> None:
    """Take the schema back to an older revision, "base" for none at all; what that revision can't hold is lost."""
    from alembic import command  # noqa: PLC0415  # heavy, and rarely needed

    with _turn.lock, session() as opened:
        _lock(opened)
        command.downgrade(config(opened.connection()), target)
        logger.info("schema of %s downgraded to %s", shown(opened.get_bind().engine.url), target)


def revision() -> str | None:
    """Return the database's revision; None if it is empty."""
    with session(write=False) as opened:
        return _revision(opened)


def head() -> str:
    """Return this code's revision. It asks no database."""
    numbers = _numbers()
    if not numbers:
        raise DatabaseError(f"no migrations in {_MIGRATIONS}; the package is incomplete, install it again")
    return max(numbers)


def config(connection: Connection | None = None) -> "Config":
    """Return Alembic's configuration, for its commands; they run on `connection`, or on this process's database."""
    from alembic.config import Config  # noqa: PLC0415  # heavy, and rarely needed

    attributes: dict[str, Any] = {"connection": connection}
    settings = Config(attributes=attributes)
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    settings.set_main_option("path_separator", "os")
    return settings


def _numbers() -> set[str]:
    """Return the revisions this code knows; they are counted up, and each step's file begins with its own."""
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py")}


def _revision(opened: Session) -> str | None:
    if not inspect(opened.connection()).has_table("alembic_version"):
        return None
    found: str | None = opened.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _lock(opened: Session) -> None:
    """Wait for this transaction's turn; SQLite's writing transaction has it from its start."""
    if opened.get_bind().dialect.name == "postgresql":
        opened.execute(text(f"SET LOCAL statement_timeout = '{TIMEOUT}s'"))
        opened.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
