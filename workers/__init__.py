"""The processes: workers whose managers live with them, beat, the command line."""

from managers.errors import NotAdopted
from scheduler.task import ScheduledTask
from workers.adoption import celeriac_app
from workers.config import Settings, load_settings
from workers.errors import AlreadyAdopted, FleetError, HalfDone, InvalidSettings, UnknownService, WorkerError
from workers.links import connection_settings
from workers.registry import registry_of

__all__ = [
    "AlreadyAdopted",
    "FleetError",
    "HalfDone",
    "InvalidSettings",
    "NotAdopted",
    "ScheduledTask",
    "Settings",
    "UnknownService",
    "WorkerError",
    "celeriac_app",
    "connection_settings",
    "load_settings",
    "registry_of",
]
