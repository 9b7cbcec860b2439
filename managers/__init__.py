"""What a host does: managers, their drivers, and the reports they send."""

from managers.context import RequestContext, get_admin_context
from managers.errors import (
    DatabaseError,
    DriverNotFound,
    InvalidLabels,
    InvalidName,
    InvalidReport,
    ManagerError,
)
from managers.host import HostManager
from managers.manager import Manager, SchedulerDependentManager
from managers.reports import Capabilities, Report

__all__ = [
    "Capabilities",
    "DatabaseError",
    "DriverNotFound",
    "HostManager",
    "InvalidLabels",
    "InvalidName",
    "InvalidReport",
    "Manager",
    "ManagerError",
    "Report",
    "RequestContext",
    "SchedulerDependentManager",
    "get_admin_context",
]
