"""The durable registry of services: SQLAlchemy on SQLite or PostgreSQL, reached through the functions of `api`."""

from managers.db.engine import close, session, use, using
from managers.db.errors import ServiceNotFound
from managers.db.records import ServiceRecord
from managers.db.schema import upgrade

__all__ = ["ServiceNotFound", "ServiceRecord", "close", "session", "upgrade", "use", "using"]
