"""Managers: a logical grouping of code that owns one part of one host.

The idea is OpenStack Nova's of 2011: *smart managers, dumb data*. Whoever wants to change what a manager owns calls
the manager, directly when it is local and as a Celery task when it is not. What is specific to one implementation
belongs in the manager's driver. A worker's main process holds the host's manager: the hooks below run there, once per
host.
"""

import logging
import os
import socket
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from managers.context import RequestContext
from managers.drivers import load_db_driver, load_driver
from managers.memory import Memory, ProcessMemory
from managers.methods import check_overrides
from managers.reports import Capabilities, check_capabilities
from managers.routing import UNDEFINED, check_host
from managers.schedule import Schedule

logger = logging.getLogger(__name__)

DriverT = TypeVar("DriverT")

#: The module of database functions, unless a manager is given another.
DB_DRIVER = "managers.db.api"


class Manager(Generic[DriverT]):
    """One object per (service, host); subclass it with ``class VolumeManager(Manager[Driver], service_name="volume")``.

    *host* falls back to the setting ``CELERIAC_HOST`` and then to the machine's name; *db_driver* is the dotted path of
    a module of functions, loaded into ``self.db``; *driver* is an instance, a class, a key of ``drivers`` or a dotted
    path, and falls back to the setting ``CELERIAC_<SERVICE>_DRIVER`` and then to ``drivers["default"]``.
    """

    service_name: str = UNDEFINED
    #: Known drivers: a short name each, or "default", for a dotted path ``package.module:Class``.
    drivers: ClassVar[Mapping[str, str]] = {}
    driver: DriverT

    def __init_subclass__(cls, *, service_name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if service_name is not None:
            cls.service_name = service_name
        check_overrides(cls)

    def __init__(self, host: str | None = None, db_driver: str | None = None, *, driver: Any = None) -> None:
        self.host = check_host(host or os.environ.get("CELERIAC_HOST") or socket.gethostname())
        self.db: ModuleType = load_db_driver(db_driver or DB_DRIVER)
        self.driver = load_driver(self.service_name, driver, self.drivers)
        #: Which of the methods marked by ``@periodic_task`` are due.
        self.schedule = Schedule(self)

    def init_host(self) -> None:
        """Prepare the host.

        Called in the worker's main process once per host and start, before anything is consumed; raising stops the
        worker with the error and a non-zero exit status.
        """

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        """Run every ``@periodic_task`` that is due.

        Called in a thread of the worker's main process, on every tick of beat, with *context* being the current one;
        runs of one manager never overlap. A task that raises is logged and stops no other. Override it for work of
        every tick, and call ``super()`` last; raising here is logged and ends this run, not the next one.
        """
        del context  # it is the current one
        self.schedule.run_due()

    def cleanup_host(self) -> None:
        """Give back what init_host took.

        Called in the worker's main process once per host on a graceful stop, after the last task has ended; raising is
        logged.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_name} on {self.host}>"


class Reporter(Protocol):
    """Takes a manager's report outside a worker; inside one, the worker sends one for all services of the host."""

    def report(self, manager: "SchedulerDependentManager[Any]") -> None:
        """Send what *manager* remembers."""


class SchedulerDependentManager(Manager[DriverT]):
    """A manager that tells the scheduler what its host can do.

    It remembers the capabilities it was last given and they are reported after every periodic run until others replace
    them: None says only that the host is alive (what was reported stays), ``{}`` retracts all that was reported.
    """

    def __init__(
        self,
        host: str | None = None,
        db_driver: str | None = None,
        service_name: str = UNDEFINED,
        *,
        driver: Any = None,
    ) -> None:
        if service_name != UNDEFINED:
            self.service_name = service_name
        super().__init__(host, db_driver, driver=driver)
        #: Where this host remembers; a worker puts one here that its pool's processes share.
        self.memory: Memory = ProcessMemory()
        #: Who sends the report; None inside a worker, which reports all of a host's services at once.
        self.reporter: Reporter | None = None

    @property
    def last_capabilities(self) -> Capabilities | None:
        """What will be reported next; learnt in whichever process of this host called last."""
        return self.memory.recall(self.service_name)

    def update_service_capabilities(self, capabilities: Capabilities | None) -> None:
        """Remember *capabilities* in place of all earlier ones; they are sent after the next periodic run.

        Callable in any process and thread of the host.

        Raises:
            InvalidReport: a key or value that no table would take; what was remembered before stays.
        """
        if capabilities is not None:
            check_capabilities(self.service_name, capabilities)
        self.memory.remember(self.service_name, capabilities)

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        """Do the due work first, then report, so that what is reported is fresh."""
        super().periodic_tasks(context)
        if self.reporter is not None:
            self.reporter.report(self)
