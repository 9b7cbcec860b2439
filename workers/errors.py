"""What can go wrong around the processes."""

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
