"""A cluster: several hosts and a scheduler in the test's own thread.

Two clocks, as in life. The fleet's, which is Redis's, has ticks, heartbeats and reports; it begins at the same moment
in every test, so that a period is always as far along. The hosts' own, which ``expires``, ``eta`` and deadlines go by,
begins at the wall clock's now: code under test may say ``time.time() + 30``. Both stand still but for ``advance``.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import pytest
from celery.signals import task_failure
from celery.worker import state

from managers import applications
from managers.context import without_context
from managers.host import HostManager
from managers.manager import Manager, SchedulerDependentManager
from managers.methods import exposed_methods
from managers.periods import SPREAD, period_number
from managers.reports import Value
from managers.routing import check_host
from managers.runs import ProcessRuns
from scheduler.claims import Claim
from scheduler.explain import Explanation, explain
from scheduler.hosts import MISSED, Host, member_of
from scheduler.manager import SchedulerManager
from scheduler.pending import Pending
from scheduler.placing import placing_of, set_placing
from scheduler.requests import Request, check_options
from scheduler.select import FEASIBLE
from scheduler.snapshot import HOST_SERVICE
from scheduler.table import Table
from workers.adoption import equip, register_manager
from workers.beat import LAG
from workers.config import Settings
from workers.methods import refuse_unknown_options
from workers.testing.facts import Facts, FactsManager, facts_manager
from workers.testing.hosts import InlineHost, Killed
from workers.testing.placing import FleetPlacing
from workers.testing.post import Post
from workers.testing.processes import ClusterRegistry, redis_in_memory
from workers.testing.recorder import RecordedApp, Sent, sent
from workers.testing.timeline import Timeline
from workers.ticks import tick_name

ManagerT = TypeVar("ManagerT", bound=Manager[Any])

#: The fleet's time in a new cluster lies in the middle of this period, so that advancing by one interval has every host
#: run once.
BEGINNING = 1_800_000_000.0

#: Heartbeat intervals that the scheduler has been up then: a table so old knows whom it doesn't know.
AGE = 2

#: Who the test itself is, to the registry.
TEST = "test"


@dataclass(frozen=True, slots=True)
class Failure:
    """What a worker would have logged: while *host* was *doing* this, *error* was raised."""

    host: str
    doing: str
    error: BaseException


class Cluster:
    """Some hosts and a scheduler, in this thread; a context manager, at whose end every host still live stops.

    The scheduler is a host like the others, by the name of "scheduler". No database is opened: managers whose ``db``
    is used need ``managers.db.use`` as in any process.
    """

    def __init__(self, *, periodic_interval: float = 60.0, heartbeat_interval: float = 10.0) -> None:
        beginning = BEGINNING - BEGINNING % periodic_interval + SPREAD * periodic_interval
        self._timeline = Timeline(beginning - AGE * heartbeat_interval)
        #: Seconds that the hosts' clocks are ahead of the fleet's: whole microseconds, as times are in messages.
        self._ahead = round(time.time() - beginning, 6)
        #: The Celery application that all hosts run: register ordinary tasks on it, and configure it before ``start``.
        self.app = RecordedApp(
            "cluster",
            now=self._hosts_now,
            run=self._run_for_waiter,
            published=self._run_unless_held,
            revoke=self._revoke,
            waits=self._waits,
        )
        # model_construct: neither the environment's settings nor a running fleet's are a test's business
        settings = Settings.model_construct(
            managers=(),
            host=TEST,
            broker_url="memory://",
            table_url="memory://",
            periodic_interval=periodic_interval,
            heartbeat_interval=heartbeat_interval,
        )
        self._hosts: dict[str, InlineHost] = {}
        self._registry = ClusterRegistry(self.app, settings, self._hosts)
        equip(self.app, self._registry)
        #: The scheduler's table, as every process sees it.
        self.table = Table(redis_in_memory(), fleet=settings.fleet, url=settings.table_url, now=self._timeline.now)
        #: What workers would have logged as an error.
        self.errors: list[Failure] = []
        self._registry.table = self.table
        self._registry.clock = self._timeline
        set_placing(self.app, FleetPlacing.of(placing_of(self.app), ahead=self._ahead, submitted=self._run_unless_held))
        self._post = Post(self.app, self._timeline, self._hosts, ahead=self._ahead)
        self._runs: defaultdict[str, ProcessRuns] = defaultdict(ProcessRuns)
        self._is_held = False
        self._revoked: set[str] = set()
        self._under_test = ExitStack()

    def __enter__(self) -> Self:
        self._under_test.enter_context(applications.under_test(self.app))
        task_failure.connect(self._on_task_failure)
        self._beat_later()
        self.start(SchedulerManager, hosts=["scheduler"])
        self.advance(AGE * self._registry.settings.heartbeat_interval)
        vars(self.app).pop("amqp")  # its first message fixed the routes and queues, which a test has yet to say
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for host in reversed(self._hosts.values()):
                if host.is_live:
                    host.stop()
        finally:
            self._under_test.close()
            task_failure.disconnect(self._on_task_failure)
            for task_id in self._revoked:
                state.revoked.discard(task_id)
            self.app.close()

    @property
    def sent(self) -> list[Sent]:
        """Every message so far, oldest first: ticks, reports and whatever tests, tasks and managers sent."""
        return self.app.recorder.sent

    @property
    def casts(self) -> list[Sent]:
        """The messages of exposed methods so far, oldest first, however they were sent; a retry is one more.

        Each has its ``task`` such as "network.attach", the ``host`` that it is for, or None for any or all of the
        service's, and ``args`` and ``kwargs`` as the method gets them; ``queue`` and ``exchange`` say where it went::

            assert [(sent.task, sent.host, sent.kwargs) for sent in cluster.casts] == [
                ("network.attach", "there", {"port": 7})
            ]
        """
        exposed = {
            f"{service}.{method}"
            for service, manager_class in self._registry.managers.items()
            for method, _ in exposed_methods(manager_class)
        }
        return [sent for sent in self.sent if sent.task in exposed]

    def start(self, manager_class: type[ManagerT], hosts: Iterable[str], **options: Any) -> list[ManagerT]:
        """Start a manager on each of *hosts* and return them in that order; *options* go to their constructors.

        A driver class given as ``driver=`` is instantiated for each. A host that runs other managers already goes on
        and takes this one in. ``init_host`` has run and the first report has been stored when this returns.

        Raises:
            ValueError: a host runs this service already.
            Exception: whatever ``init_host`` raised; that host has stopped.
        """
        if isinstance(hosts, str):
            raise TypeError(f"hosts is a list of names; write hosts=[{hosts!r}]")
        service = manager_class.service_name
        is_new = service not in self._registry.managers
        refuse_unknown_options(manager_class)
        self._registry.add(manager_class)
        if is_new:
            register_manager(self.app, self._registry, manager_class)
        managers: list[ManagerT] = []
        for name in hosts:
            host = self._hosts.get(check_host(name))
            if host is None or not host.is_live:
                self._hosts.pop(name, None)
                self.advance(0.001)  # a new life has a boot number of its own, and those are milliseconds
                host = self._hosts[name] = InlineHost(
                    self.app, name, timeline=self._timeline, runs=self._runs[name], failed=self._failed
                )
            elif service in host.managers:
                raise ValueError(f"host {name!r} runs {service!r} already; stop or fail it first")
            managers.append(cast("ManagerT", host.start(manager_class, options)))
        self.run()
        return managers

    def add_host(self, name: str, capabilities: Mapping[str, Value] | None = None, *, service: str = "host") -> None:
        """Start a host that has these *capabilities*, as its *service*, and runs the tasks that are placed on it.

        It has one slot unless they say how many ``slots``. A host that runs already takes the service in; one that
        does not run ``host``, whose slots every placed task needs, runs that too.

        Raises:
            ValueError: it runs this service already; ``report`` changes what it has.
        """
        facts = {**({"slots": 1} if service == HOST_SERVICE else {}), **(capabilities or {})}
        manager_class = self._registry.managers.get(service)
        if manager_class is None:
            manager_class = HostManager if service == HOST_SERVICE else facts_manager(service)
        elif not issubclass(manager_class, HostManager | FactsManager):
            raise ValueError(
                f"the hosts of {service!r} run {manager_class.__qualname__}, which knows what it can do: start it with"
                f" cluster.start({manager_class.__qualname__}, hosts=[{name!r}]), and say it with cluster.report"
            )
        known = self._hosts.get(name)
        if service != HOST_SERVICE and (known is None or not known.is_live or HOST_SERVICE not in known.managers):
            self.add_host(name)
        self.start(manager_class, hosts=[name], driver=Facts(facts))

    def report(self, host: str, capabilities: Mapping[str, Value], *, service: str = "host") -> None:
        """Have *host* report these *capabilities* of its *service* in place of the earlier ones, now.

        What ``add_host`` started goes on saying so; any other manager may say otherwise at its next tick.
        """
        live = self._live(host)
        if service not in live.managers:
            raise ValueError(f"host {host!r} runs {', '.join(live.managers)}, not {service!r}")
        manager = live.managers[service]
        if isinstance(manager.driver, Facts):
            manager.driver.said = {**({"slots": 1} if service == HOST_SERVICE else {}), **capabilities}
            capabilities = manager.driver.said
        if not isinstance(manager, SchedulerDependentManager):
            raise TypeError(f"{manager!r} reports nothing: it is no SchedulerDependentManager")
        manager.update_service_capabilities(capabilities)
        live.report()
        self.run()

    def explain(
        self,
        requires: str | Mapping[str, Any] | None = None,
        *,
        claims: Mapping[str, float] | None = None,
        service: str = "host",
        **options: Any,
    ) -> Explanation:
        """Return which hosts have what is asked, and what the others lack, without placing anything.

        *options* are those of a task's place, such as ``exclude`` or ``count``. Assert its ``verdict``: "feasible",
        "full" (it would fit if something ended) or "infeasible"; printed, it names what each host lacks::

            assert cluster.explain("zone == 'a'", claims={"gpus": 2}).verdict == "feasible"

        Raises:
            InvalidPlacement, InvalidRequirement: a task that asks this could not be sent either.
        """
        checked = check_options({**options, "requires": requires, "claims": claims, "service": service})
        count = checked.pop("count", 1)
        checked.pop("placement_timeout", None)
        request = Request(id="", task_id="", task="", **{**checked, "service": service})
        return self._explain(request, count)

    @property
    def pending(self) -> list[Request]:
        """What waits for a place, in its order: each has ``task``, ``task_id``, ``requires``, ``claims``."""
        return [unit.request for unit in Pending(self.table).all()]

    @property
    def claims(self) -> list[Claim]:
        """What tasks hold of hosts, the oldest first: each has ``task``, ``host``, ``state`` and ``claims``."""
        return self._registry.claims.all()

    def disable(self, host: str, reason: str = "disabled by the test") -> None:
        """Have nothing new placed on *host*, as an operator does; what it runs goes on."""
        for service in self._known(host).managers:
            self.table.disable(member_of(service, host), reason)

    def enable(self, host: str) -> None:
        """Undo ``disable``."""
        for service in self._known(host).managers:
            self.table.enable(member_of(service, host))
        self._run_unless_held()

    def lose(self, queue: str) -> list[Sent]:
        """Lose what waits in *queue*, as a broker does with a connection that dies, and return it.

        Messages wait in ``hold``, and in the queues of hosts that are down.
        """
        return [sent(lost.message, queue) for lost in self.app.recorder.lose(queue)]

    def stop(self, host: str) -> None:
        """Stop *host* gracefully: ``cleanup_host`` runs and it is gone from the table at once."""
        self._live(host).stop()

    def fail(self, host: str) -> None:
        """Have *host* die as by kill -9: it says nothing more, is stale after 3 heartbeats and pruned after 6.

        Called by a task or a method on that very host, it does not return: this is where the host died.
        """
        self._live(host).vanish()
        forgotten_in = 2 * MISSED * self._registry.settings.heartbeat_interval + 0.001
        self._timeline.at(self._timeline.now() + forgotten_in, self._wake_schedulers)
        if self._registry.host == host:
            raise Killed

    def restart(self, host: str) -> list[Manager[Any]]:
        """Start *host* anew with managers of the same kinds and return them; a live one stops gracefully first."""
        before = self._known(host)
        if before.is_live:
            self.stop(host)
        return [
            manager
            for manager_class, options in before.plan
            for manager in self.start(manager_class, hosts=[host], **options)
        ]

    def hosts(self, service: str | None = None) -> list[Host]:
        """Return the table's rows, the scheduler's own among them; or those of one *service*."""
        return self.table.hosts(service)

    def advance(self, seconds: float) -> None:
        """Let time pass and all that falls into it happen, in its order: heartbeats, ticks, periodic tasks, reports."""
        until = self._timeline.now() + seconds
        self._post.deliver()
        while self._timeline.step(until):
            self._post.deliver()

    def run(self) -> None:
        """Have the hosts do all that can be done now; a message whose host is down, or whose eta is ahead, waits."""
        self.advance(0)

    @contextmanager
    def hold(self, *queues: str) -> Iterator[None]:
        """Leave what is sent within the block waiting in its queues; it is delivered at the block's end.

        Who waits for an answer meanwhile, by ``call``, ``gather`` or ``get``, gets an AssertionError: none can come.
        ``run`` and ``advance`` deliver all the same: they are the test's own word that hosts shall work.

        With *queues*, such as "host.gpu-1", only what is in these waits, through ``run`` and ``advance`` too: their
        hosts are slow to take it, and nobody else is.
        """
        before, self._is_held = self._is_held, self._is_held or not queues
        self._post.held.update(queues)
        try:
            yield
        finally:
            self._is_held = before
            self._post.held.subtract(queues)
        self._run_unless_held()

    def _run_unless_held(self) -> None:
        """Deliver what the test just sent; what a host sends has its turn when the host is done."""
        self._post.is_touched = True
        if not self._is_held and self._registry.host == TEST:
            self.run()

    def _run_for_waiter(self) -> None:
        """Have the hosts do what somebody waits for."""
        if self._is_held and self._registry.host == TEST:
            raise AssertionError(  # no error of a result backend's, which callers take for its absence
                "nobody answers while cluster.hold() keeps messages in their queues: send with cast or delay in its"
                " block, and wait for answers after it"
            )
        self.run()

    def _hosts_now(self) -> float:
        return self._timeline.now() + self._ahead

    def _beat_later(self) -> None:
        interval = self._registry.settings.periodic_interval
        number = period_number(self._timeline.now(), interval) + 1
        self._timeline.at(number * interval + min(LAG, interval / 10), self._beat)

    def _beat(self) -> None:
        with without_context():  # whatever the test's is
            for service in self._registry.managers:
                self.app.tasks[tick_name(service)].apply_async()
        self._beat_later()

    def _revoke(self, task_ids: list[str]) -> None:
        self._revoked.update(task_ids)
        state.revoked.update(task_ids)
        self._wake_schedulers()
        self._run_unless_held()

    def _wake_schedulers(self) -> None:
        for host in self._hosts.values():
            if host.placing is not None:
                host.placing.wake()

    def _waits(self, task_id: str) -> str:
        for unit in Pending(self.table).waiting_of([task_id]):
            if self.table.redis.zscore(self.table.key("delayed"), f"{unit.ids[0]} {unit.shape}") is not None:
                return "waits for its eta"
            found = self._explain(unit.request, len(unit.ids))
            if found.verdict == FEASIBLE:
                return f"waits for a scheduler, of which none is up, or none was told; {found}"
            return f"waits for a place; {found}"
        return ""

    def _explain(self, request: Request, count: int) -> Explanation:
        placer = self._registry.placer
        return explain(placer.pending.knowing(request), placer.snapshot(), placer.selector, count=count)

    def _live(self, name: str) -> InlineHost:
        host = self._known(name)
        if not host.is_live:
            raise ValueError(f"host {name!r} is down; cluster.restart({name!r}) brings it back")
        return host

    def _known(self, name: str) -> InlineHost:
        try:
            return self._hosts[name]
        except KeyError:
            raise ValueError(f"no host {name!r} was started; there are {', '.join(self._hosts)}") from None

    def _failed(self, host: str, doing: str, error: BaseException) -> None:
        self.errors.append(Failure(host, doing, error))

    def _on_task_failure(self, *, sender: Any, exception: BaseException, **_: Any) -> None:
        if sender.app is self.app:
            self._failed(self._registry.host, sender.name, exception)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Return a cluster of no hosts yet, ticked every 60 s of its own time."""
    with Cluster() as cluster:
        yield cluster
