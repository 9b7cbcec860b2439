"""What can go wrong around the scheduler."""

from collections.abc import Sequence

from managers.errors import ManagerError


class SchedulerError(ManagerError):
    """Base of the scheduler's errors."""


class TableUnavailable(SchedulerError, ConnectionError):
    """Raised when the capability table's Redis doesn't answer; the message names its address."""


class TableFault(SchedulerError):
    """Raised when the capability table's Redis refuses what it was asked, and would again; the message says what."""


class NameTaken(SchedulerError):
    """Raised when another live worker holds a (service, host)."""


class InvalidPlacement(SchedulerError, ValueError):
    """Raised when an option that says where a task may run can't be used; the message names it, and the way out."""


class NoValidHost(SchedulerError):
    """Raised, as the result of a task that could not be placed in time; the message counts who said no, and why.

    ``reasons`` are those parts, such as "7 gpus >= 1 (most free: 0)".
    """

    def __init__(self, message: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(message, list(reasons))
        self.reasons = list(reasons)

    def __str__(self) -> str:
        return str(self.args[0])


class HostLost(SchedulerError):
    """Raised, as the result of a task whose host died while it ran; only ``acks_late`` tasks are run again."""


class HostNotFound(SchedulerError, LookupError):
    """Raised when the table knows no host of that name."""


class InvalidRequirement(SchedulerError, ValueError):
    """Raised when a requirement can't be read; the message names the fault, its column and, if obvious, the way out."""
