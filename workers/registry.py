"""The managers an application knows, and those that live in this process."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any, cast

from celery import Celery

from managers import db
from managers.errors import NotAdopted
from managers.host import HostManager
from managers.manager import Manager, SchedulerDependentManager
from managers.memory import HostMemory
from managers.periodic import PeriodicTask
from managers.routing import check_service, host_queue
from managers.runs import HostRuns
from managers.version import version
from scheduler.claims import Claims
from scheduler.clock import FleetClock
from scheduler.connections import connect
from scheduler.manager import SchedulerManager
from scheduler.pending import Pending
from scheduler.placer import Placer
from scheduler.table import Table
from workers.carried import CarriedThread
from workers.config import Settings
from workers.eager import OneByOne
from workers.errors import AlreadyAdopted, UnknownService
from workers.holding import Holding
from workers.membership import Membership

#: The attribute of a Celery application that holds its registry.
_ATTRIBUTE = "celeriac"


class Registry:
    """What Celeriac knows of one Celery application: settings, managers, table and clock.

    ``local`` builds a manager once per process: in a worker's main process at start, in a pool child when first asked
    for. Two applications in one process have a registry each and share nothing.
    """

    def __init__(self, app: Celery, settings: Settings, managers: Iterable[type[Manager[Any]]]) -> None:
        self.app = app
        self.settings = settings
        self.managers: dict[str, type[Manager[Any]]] = {}
        for manager in managers:
            self.add(manager)
        self.add(SchedulerManager)
        for service in settings.services:
            self.manager_class(service)
        self.in_worker = False
        #: The claims that this worker's main process holds; None in any other process.
        self.holding: Holding | None = None
        #: Returns a new placer for this application; placement sets it.
        self.make_placer: Callable[[], Placer] | None = None
        #: The database of this application's managers outside a worker, which has just one; None for the process's.
        self.database_address: str | None = None
        #: The host whose managers ``local`` answers with.
        self.host = settings.host
        self._local: dict[str, dict[str, Manager[Any]]] = {}
        self._lock = threading.RLock()
        self._reporter = OneByOne(app, lambda service: self.membership((service,)))

    @property
    def services(self) -> tuple[str, ...]:
        """The services that a worker with these settings runs: SERVICES, by default all but the scheduler."""
        return self.settings.services or tuple(service for service in self.managers if service != "scheduler")

    @cached_property
    def table(self) -> Table:
        """The capability table; connects on first use."""
        url = self.settings.table_address
        return Table(connect(url), fleet=self.settings.fleet, url=url)

    @cached_property
    def claims(self) -> Claims:
        """The claims in the table."""
        return Claims(self.table)

    @cached_property
    def placer(self) -> Placer:
        """What this process places with, if it is a scheduler's."""
        if self.make_placer is None:
            raise NotAdopted(f"{self.app!r} can't place tasks; call workers.celeriac_app first")
        return self.make_placer()

    @cached_property
    def carried(self) -> CarriedThread:
        """What records the requests that announcements carry; a scheduler's worker starts it."""
        return CarriedThread(Pending(self.table), self.placer.notice)

    @cached_property
    def clock(self) -> FleetClock:
        """The fleet's clock."""
        return FleetClock(self.table.now)

    def add(self, manager: type[Manager[Any]]) -> str:
        """Make *manager* known and return its service; UnknownService if another class claims it."""
        service = check_service(manager.service_name)
        if self.managers.setdefault(service, manager) is not manager:
            raise UnknownService(
                f"{manager.__qualname__} and {self.managers[service].__qualname__} both claim the service"
                f" {service!r}; give one another service_name"
            )
        return service

    def manager_class(self, service: str) -> type[Manager[Any]]:
        """Return the manager of *service*, else raise UnknownService."""
        try:
            return self.managers[service]
        except KeyError:
            raise UnknownService(
                f"no manager for service {service!r}: the application knows {', '.join(sorted(self.managers))};"
                " add its class to CELERIAC_MANAGERS"
            ) from None

    def local(self, service: str, **options: Any) -> Manager[Any]:
        """Return this process's manager of *service*, built when first asked for; *options* go to its constructor."""
        with self._lock:
            built = self._local.setdefault(self.host, {})
            if service not in built:
                built[service] = self._build(self.manager_class(service), **options)
            return built[service]

    def own(self, service: str) -> Manager[Any]:
        """Return this process's manager of *service* for a message that reached it.

        Raises:
            UnknownService: this worker doesn't run the service; the message was sent to a queue of another.
        """
        running = self.running()
        if running is not None and service not in running:
            raise UnknownService(f"host {self.host!r} runs {', '.join(running)}, not {service!r}")
        return self.local(service)

    def running(self) -> Collection[str] | None:
        """Return the services of the host that this process is; None outside a worker, where it is any."""
        return self.services if self.in_worker else None

    def database(self) -> AbstractContextManager[None]:
        """Return a block in which managers use this application's database, whatever others this process knows."""
        if self.in_worker or self.database_address is None:
            return nullcontext()
        return db.using(self.database_address)

    def alone(self, service: str, task: str) -> AbstractContextManager[bool]:
        """Return a block that yields whether no other process or thread of this host is in it for *task*."""
        return self._runs.alone(service, task) if self.in_worker else nullcontext(enter_result=True)

    def send_periodic_task(self, service: str, task: PeriodicTask) -> None:
        """Send *task*, one of the pool, to this host's own queue; it expires when the next period's would come."""
        self.app.tasks[task.celery_name(service)].apply_async(
            queue=host_queue(service, self.host), expires=task.spacing or self.settings.periodic_interval
        )

    @contextmanager
    def acting_as(self, host: str) -> Iterator[None]:
        """Be *host* for the length of the block: the hosts of the testing kit share a process, and take turns in it."""
        before, self.host = self.host, host
        try:
            yield
        finally:
            self.host = before

    def scheduler(self) -> SchedulerManager:
        """Return this process's scheduler."""
        return cast("SchedulerManager", self.local("scheduler"))

    def membership(self, services: Sequence[str]) -> Membership:
        """Return a new claim on this host's name for *services*, not joined yet."""
        return Membership(
            self.table,
            host=self.host,
            services=services,
            heartbeat_interval=self.settings.heartbeat_interval,
            interval=self.settings.periodic_interval,
            version=version(),
        )

    def enter_worker(self) -> None:
        """Say that this process belongs to a worker: its managers remember for the whole host and don't report."""
        db.use(self.settings.database_address)
        self.settings.host_dir.mkdir(parents=True, exist_ok=True)
        self.forget()
        self.in_worker = True

    def forget(self) -> None:
        """Drop this host's managers: what was built before a fork is the parent's."""
        with self._lock:
            self._local.pop(self.host, None)

    def _build(self, manager_class: type[Manager[Any]], **options: Any) -> Manager[Any]:
        options = {"host": self.host, "db_driver": self.settings.db_driver, **options}
        if issubclass(manager_class, SchedulerManager):
            options["table"] = self.table
        manager = manager_class(**options)
        self._schedule(manager)
        if isinstance(manager, HostManager):
            manager.labels = self.settings.parsed_labels
        if isinstance(manager, SchedulerDependentManager):
            if self.in_worker:
                learnt = manager.last_capabilities
                manager.memory = HostMemory(self.settings.host_dir)
                if learnt is not None and manager.last_capabilities is None:
                    manager.update_service_capabilities(learnt)  # in its constructor
            else:
                manager.reporter = self._reporter
        return manager

    def _schedule(self, manager: Manager[Any]) -> None:
        """Put the fleet's clock, memory and queues behind the periodic tasks of *manager*."""
        schedule = manager.schedule
        schedule.now = self.clock.now
        if any(task.scope == "fleet" for task in schedule.tasks):
            schedule.fleet_runs = self.table
        if self.in_worker:
            schedule.runs = self._runs
            schedule.send = partial(self.send_periodic_task, manager.service_name)

    @property
    def _runs(self) -> HostRuns:
        return HostRuns(self.settings.host_dir)


def registry_of(app: Celery) -> Registry:
    """Return what *app* knows: its ``table``, and by ``local(service)`` this process's manager, built if need be.

    Raises:
        NotAdopted: it was given no managers.
    """
    registry = getattr(app, _ATTRIBUTE, None)
    if not isinstance(registry, Registry):
        raise NotAdopted(f"{app!r} knows no managers; call workers.celeriac_app({app.main or 'app'}) first")
    return registry


def is_adopted(app: Celery) -> bool:
    """Return whether *app* was given its managers."""
    return hasattr(app, _ATTRIBUTE)


def adopt(app: Celery, registry: Registry) -> None:
    """Make *registry* the one of *app*, else raise AlreadyAdopted."""
    if is_adopted(app):
        raise AlreadyAdopted(f"{app!r} has its managers already; give celeriac_app all of them in one call")
    setattr(app, _ATTRIBUTE, registry)
