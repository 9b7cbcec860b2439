"""A database's address: read from a URL, shown without its password."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from managers.errors import DatabaseError

#: The setting, and the environment variable, that names the database.
SETTING = "CELERIAC_DATABASE_URL"

_EXAMPLES = "sqlite:////var/lib/celeriac/celeriac.db or postgresql://user@host/name"


def parse(url: str | URL) -> URL:
    """Return the address with its driver named and a SQLite file's path made absolute.

    Raises:
        DatabaseError: if it isn't the URL of a database that this project runs on. The message never repeats the URL:
            what can't be taken apart may hold a password anywhere.
    """
    parsed = _taken_apart(url)
    if parsed is None:
        raise DatabaseError(
            f"{SETTING} can't be read as a URL; write {_EXAMPLES}, with @ : / ? # % of a password percent-encoded"
        )
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _file(parsed)
    if parsed.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    raise DatabaseError(f"{SETTING} asks for {parsed.drivername!r}, which isn't supported; write {_EXAMPLES}")


def shown(url: URL) -> str:
    """Return the address for people: without its password, and without its query, which can hold another."""
    return url.set(query={}).render_as_string(hide_password=True)


def _taken_apart(url: str | URL) -> URL | None:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    # An unescaped @ leaves the rest of the password in the host's name, where it would be shown.
    return None if "@" in (parsed.host or "") else parsed


def _file(url: URL) -> URL:
    name = url.database or ":memory:"
    if name == ":memory:" or name.startswith("file:"):
        raise DatabaseError(
            f"{SETTING} is {shown(url)}, which isn't the path of a file; processes share a database only through "
            "one: write sqlite:////var/lib/celeriac/celeriac.db"
        )
    return url.set(drivername="sqlite", database=str(Path(name).expanduser().absolute()))
