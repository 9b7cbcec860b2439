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
from scheduler.filters import No
from scheduler.hosts import Host, Identity
from scheduler.manager import SchedulerManager
from scheduler.requests import Request
from scheduler.requirements import Requirement
from scheduler.snapshot import Candidate, Snapshot
from scheduler.table import Table
from scheduler.task import ScheduledTask

__all__ = [
    "Candidate",
    "Claim",
    "Claims",
    "Host",
    "HostLost",
    "HostNotFound",
    "Identity",
    "InvalidPlacement",
    "InvalidRequirement",
    "NameTaken",
    "No",
    "NoValidHost",
    "Request",
    "Requirement",
    "ScheduledTask",
    "SchedulerError",
    "SchedulerManager",
    "Snapshot",
    "Table",
    "TableUnavailable",
]
