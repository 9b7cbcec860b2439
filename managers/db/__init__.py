"""The registry of services and the history of placements, on SQLite or PostgreSQL: reached through `api`."""

from managers.db.engine import close, session, use, using
from managers.db.errors import InvalidRecord, ServiceNotFound
from managers.db.records import PlacementRecord, ServiceRecord
from managers.db.schema import upgrade

__all__ = [
    "InvalidRecord",
    "PlacementRecord",
    "ServiceNotFound",
    "ServiceRecord",
    "close",
    "session",
    "upgrade",
    "use",
    "using",
]
