"""The INSERT that knows what to do about a row that is there already; each database has its own."""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from managers.db.models import Base


def insert(opened: Session, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT for the session's database that can be told what to do on a conflict."""
    return sqlite.insert(table) if opened.get_bind().dialect.name == "sqlite" else postgresql.insert(table)
