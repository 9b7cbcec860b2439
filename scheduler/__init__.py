"""Where a task should run: the capability table, and the manager that keeps it."""

from scheduler.errors import HostNotFound, NameTaken, SchedulerError, TableUnavailable
from scheduler.hosts import Host, Identity
from scheduler.manager import SchedulerManager
from scheduler.table import Table

__all__ = [
    "Host",
    "HostNotFound",
    "Identity",
    "NameTaken",
    "SchedulerError",
    "SchedulerManager",
    "Table",
    "TableUnavailable",
]
