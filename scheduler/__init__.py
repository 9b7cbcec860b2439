"""Where a task should run: the capability table, and the manager that keeps it."""

from scheduler.claims import Claim, Claims
from scheduler.errors import (
    HostLost,
    HostNotFound,
    InvalidPlacement,
    InvalidRequirement,
    NameTaken,
    NoValidHost,
    SchedulerError,
    TableUnavailable,
)
from scheduler.hosts import Host, Identity
from scheduler.manager import SchedulerManager
from scheduler.requirements import Requirement
from scheduler.table import Table
from scheduler.task import ScheduledTask

__all__ = [
    "Claim",
    "Claims",
    "Host",
    "HostLost",
    "HostNotFound",
    "Identity",
    "InvalidPlacement",
    "InvalidRequirement",
    "NameTaken",
    "NoValidHost",
    "Requirement",
    "ScheduledTask",
    "SchedulerError",
    "SchedulerManager",
    "Table",
    "TableUnavailable",
]
