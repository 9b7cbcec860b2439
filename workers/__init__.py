"""The processes: workers whose managers live with them, beat, the command line."""

from workers.adoption import celeriac_app
from workers.config import Settings, load_settings
from workers.errors import AlreadyAdopted, FleetError, InvalidSettings, NotAdopted, UnknownService, WorkerError

__all__ = [
    "AlreadyAdopted",
    "FleetError",
    "InvalidSettings",
    "NotAdopted",
    "Settings",
    "UnknownService",
    "WorkerError",
    "celeriac_app",
    "load_settings",
]
