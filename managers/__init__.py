"""What a host does: managers, their drivers, and the reports they send."""

from managers.answers import Answers, Fanout
from managers.context import ContextFilter, RequestContext, current_context, get_admin_context
from managers.errors import (
    CallRefused,
    CallTimeout,
    DatabaseError,
    DeadlinePassed,
    DriverNotFound,
    HostNotUp,
    InvalidArguments,
    InvalidContext,
    InvalidLabels,
    InvalidName,
    InvalidReport,
    ManagerError,
    NotAdopted,
    RemoteTraceback,
)
from managers.host import HostManager
from managers.manager import Manager, SchedulerDependentManager
from managers.methods import expose
from managers.periodic import periodic_task
from managers.remote import Remote
from managers.reports import Capabilities, Report

__all__ = [
    "Answers",
    "CallRefused",
    "CallTimeout",
    "Capabilities",
    "ContextFilter",
    "DatabaseError",
    "DeadlinePassed",
    "DriverNotFound",
    "Fanout",
    "HostManager",
    "HostNotUp",
    "InvalidArguments",
    "InvalidContext",
    "InvalidLabels",
    "InvalidName",
    "InvalidReport",
    "Manager",
    "ManagerError",
    "NotAdopted",
    "Remote",
    "RemoteTraceback",
    "Report",
    "RequestContext",
    "SchedulerDependentManager",
    "current_context",
    "expose",
    "get_admin_context",
    "periodic_task",
]
