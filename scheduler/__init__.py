"""Where a task should run: the capability table, and the manager that keeps it."""

from scheduler.errors import HostNotFound, InvalidRequirement, NameTaken, SchedulerError, TableUnavailable
from scheduler.hosts import Host, Identity
from scheduler.manager import SchedulerManager
from scheduler.requirements import Requirement
from scheduler.table import Table

__all__ = [
    "Host",
    "HostNotFound",
    "Identity",
    "InvalidRequirement",
    "NameTaken",
    "Requirement",
    "SchedulerError",
    "SchedulerManager",
    "Table",
    "TableUnavailable",
]
