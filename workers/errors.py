"""What can go wrong around the processes."""

from collections.abc import Sequence

from managers.errors import ManagerError


class WorkerError(ManagerError):
    """Base of the errors of workers, beat and the command line."""


class InvalidSettings(WorkerError, ValueError):
    """Raised when a CELERIAC_ setting is unknown or can't be used."""


class AlreadyAdopted(WorkerError, ValueError):
    """Raised when celeriac_app is given the same application twice."""


class UnknownService(WorkerError, LookupError):
    """Raised when an application knows no manager for a service."""


class FleetError(WorkerError):
    """Raised when the embedded fleet can't start, or one runs here already."""


class HalfDone(WorkerError):
    """Raised when only one of the table and the database took what an operator decided; the message says which.

    ``services`` are those that it was about; ``in_table`` says whether placement goes by it already.
    """

    def __init__(self, message: str, services: Sequence[str], *, in_table: bool) -> None:
        super().__init__(message)
        self.services = list(services)
        self.in_table = in_table
