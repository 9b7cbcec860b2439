"""What can go wrong around the scheduler."""

from managers.errors import ManagerError


class SchedulerError(ManagerError):
    """Base of the scheduler's errors."""


class TableUnavailable(SchedulerError, ConnectionError):
    """Raised when the capability table's Redis doesn't answer; the message names its address."""


class NameTaken(SchedulerError):
    """Raised when another live worker holds a (service, host)."""


class HostNotFound(SchedulerError, LookupError):
    """Raised when the table knows no host of that name."""


class InvalidRequirement(SchedulerError, ValueError):
    """Raised when a requirement can't be read; the message names the fault, its column and, if obvious, the way out."""
