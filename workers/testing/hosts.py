"""A host's life without threads, by a clock in somebody's hand: what Lifecycle and its threads do in a worker."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from celery.app.trace import trace_task
from kombu import Message

from managers.context import RequestContext, without_context
from managers.host import HostManager
from managers.manager import Manager, SchedulerDependentManager
from managers.periodic import PeriodicTask
from managers.periods import Tick, TickQueue, host_offset
from managers.reports import send_report
from managers.routing import fanout_exchange, fanout_queue, host_queue, service_queue
from managers.runs import Runs
from scheduler.conclusions import Conclusions
from scheduler.hosts import member_of
from scheduler.manager import SchedulerManager
from workers.dispatch import conclude
from workers.fanouts import make_own
from workers.holding import Holding, Release
from workers.placed import PlacedRequest
from workers.registry import registry_of
from workers.reports import HostReports
from workers.testing.facts import Facts
from workers.testing.placing import InlinePlacing
from workers.testing.recorder import RecordedApp, Waiting
from workers.testing.timeline import Timeline
from workers.ticks import tick_name

logger = logging.getLogger(__name__)


class Killed(BaseException):
    """Raised where code of a host has that host killed: none of it runs any further."""


class InlineHost:
    """One life of one host; *failed(host, doing, error)* is told of what a worker would only log."""

    def __init__(
        self,
        app: RecordedApp,
        name: str,
        *,
        timeline: Timeline,
        runs: Runs,
        failed: Callable[[str, str, BaseException], None],
    ) -> None:
        self.name = name
        self.is_live = True
        self.managers: dict[str, Manager[Any]] = {}
        #: What each manager was built from, in this order.
        self.plan: list[tuple[type[Manager[Any]], Mapping[str, Any]]] = []
        self.queues: set[str] = set()
        self._registry = registry_of(app)
        self._app = app
        self._timeline = timeline
        self._runs = runs
        self._failed = failed
        self._ticks: dict[str, TickQueue] = {}
        self._contexts: dict[str, RequestContext] = {}
        #: What places, if this is a scheduler.
        self.placing: InlinePlacing | None = None
        self._holding = InlineHolding(name, self._registry.claims)
        with self._acting():
            self._membership = self._registry.membership(())
        # No process is behind this name: whoever asks finds its holder dead, so a killed host's is free at once.
        self._membership.identity = replace(self._membership.identity, pid_started=-1e6)
        self._reports = HostReports(self._membership, self.managers, clock=timeline.now, running=self._holding.running)
        self._beat_later()

    def start(self, manager_class: type[Manager[Any]], options: Mapping[str, Any]) -> Manager[Any]:
        """Take the name, ``init_host``, consume, report.

        Raises:
            Exception: whatever the manager's constructor or ``init_host`` raised; the host has ended, as its worker
                would have.
        """
        service = manager_class.service_name
        with self._acting():
            self._membership.members += (member_of(service, self.name),)
            self._membership.join(lambda _: True)
            try:
                manager = self._registry.local(service, **options)
                self.managers[service] = manager
                manager.schedule.runs = self._runs
                manager.schedule.send = partial(self._registry.send_periodic_task, service)
                manager.schedule.failed = partial(self._failed_task, service)
                if isinstance(manager, SchedulerDependentManager):
                    manager.reporter = None
                if isinstance(manager, HostManager) and not isinstance(manager.driver, Facts):
                    manager.slots = 1
                manager.init_host()
            except BaseException:
                self.managers.pop(service, None)
                self.stop()
                raise
            self.plan.append((manager_class, options))
            if isinstance(manager, SchedulerManager) and self._registry.make_placer is not None:
                conclusions = Conclusions(self._registry.table, partial(conclude, self._app))
                self.placing = InlinePlacing(self._registry.make_placer(), conclusions, self._timeline)
            self._ticks[service] = TickQueue(service, self.name, partial(host_offset, self.name))
            self.queues |= {service_queue(service).name, host_queue(service, self.name).name}
            queue = fanout_queue(service, self.name).name
            self.queues.add(queue)
            self._app.recorder.bound[fanout_exchange(service).name].append(queue)
            self._report()
        return manager

    def report(self) -> None:
        """Report now what the managers remember."""
        with self._acting():
            self._report()

    def place(self, *, is_touched: bool) -> bool:
        """Place if this is a scheduler and there is reason to; return whether there was."""
        if self.placing is None or not self.is_live:
            return False
        with self._acting():
            return self.placing.look(is_touched=is_touched)

    def handle(self, waiting: Waiting) -> None:
        """Do what a message asks: heed a tick, or run a task as Celery's worker does."""
        message = waiting.message
        name = message.headers["task"]
        with self._acting():
            for service in self.managers:
                if message.delivery_info["exchange"] == fanout_exchange(service).name:
                    if name == tick_name(service):
                        self._heed(service, message)
                        return
                    make_own(message, service, self.name)
            if name not in self._app.tasks:
                self._failed(
                    self.name, name, LookupError(f"no task {name!r} is registered; register it on cluster.app")
                )
                return
            request = _Request(
                message,
                app=self._app,
                hostname=f"celery@{self.name}",
                on_reject=partial(self._reject, waiting),
            )
            try:
                request.run()
            except Killed:
                if not request.acknowledged:
                    self._app.recorder.take_back(waiting)

    def stop(self) -> None:
        """End as on SIGTERM: drain, ``cleanup_host``, give the names back."""
        with self._acting():
            self._membership.drain("its worker is stopping")
            for service, manager in reversed(self.managers.items()):
                self._try(f"{service}.cleanup_host", manager.cleanup_host)
            self.vanish()
            self._membership.leave()

    def vanish(self) -> None:
        """End as on SIGKILL: from one moment to the next, telling nobody."""
        self.is_live = False
        if self.placing is not None:
            self.placing.end()
        for service in self.managers:
            queue = fanout_queue(service, self.name).name
            if queue in self.queues:
                self._app.recorder.unbind(fanout_exchange(service).name, queue)
        with self._acting():
            self._registry.forget()

    @contextmanager
    def _acting(self) -> Iterator[None]:
        registry = self._registry
        before = registry.holding
        registry.holding = self._holding
        if self.placing is not None:
            registry.placer = self.placing.placer
        try:
            with registry.acting_as(self.name), self._app.as_current(), without_context():
                yield
        finally:
            registry.holding = before

    def _reject(self, waiting: Waiting, _logger: Any, _errors: Any, requeue: bool) -> None:  # noqa: FBT001  # Celery's
        if requeue:
            self._app.recorder.take_back(waiting)

    def _beat(self) -> None:
        if not self.is_live:
            return
        _, word = self._membership.beat()
        if word == "replaced":
            logger.critical("another host took the name %s while this one was silent; stopping", self.name)
            self.stop()
            return
        self._beat_later()
        if word == "joined":
            with self._acting():
                self._report()

    def _beat_later(self) -> None:
        self._timeline.at(self._timeline.now() + self._membership.identity.heartbeat_interval, self._beat)

    def _heed(self, service: str, message: Message) -> None:
        headers: dict[str, Any] = message.headers
        _, kwargs, _ = message.payload
        tick = Tick(number=kwargs["number"], interval=kwargs["interval"])
        ticks, now = self._ticks[service], self._timeline.now()
        if ticks.offer(tick, now=now):
            self._contexts[service] = RequestContext.from_dict(headers["celeriac_context"])
            self._timeline.at(max(now, ticks.due_at or now), self._run_periodic_tasks)

    def _run_periodic_tasks(self) -> None:
        """Run what is due; called once for each service of a period, of which the first finds them all."""
        if not self.is_live:
            return
        with self._acting():
            due = [service for service, ticks in self._ticks.items() if ticks.take(now=self._timeline.now())]
            try:
                for service in due:
                    manager, context = self.managers[service], self._contexts[service]
                    with context.as_current():
                        self._try(f"{service}.periodic_tasks", manager.periodic_tasks, context)
                if due:
                    self._report()
            except Killed:
                return

    def _failed_task(self, service: str, task: PeriodicTask, error: BaseException) -> None:
        logger.error("%s.%s of %s failed", service, task.name, self.name, exc_info=error, extra={"host": self.name})
        self._failed(self.name, f"{service}.{task.name}", error)

    def _report(self) -> None:
        self._try("report", lambda: send_report(self._app, self._reports.next()))

    def _try(self, doing: str, act: Callable[..., Any], *args: Any) -> None:
        try:
            act(*args)
        except Exception as error:
            logger.exception("%s of %s failed", doing, self.name, extra={"host": self.name})
            self._failed(self.name, doing, error)


class _Request(PlacedRequest):
    """A task on its way through a host, whose clock is the cluster's."""

    def run(self) -> None:
        """Run here and now, and have the ends told that a worker's main process tells."""
        if self.revoked():
            return
        self.on_accepted(os.getpid(), time.monotonic())
        _, _, embed = self.message.payload
        self.request_dict.update({"is_eager": False, **(embed or {})})
        returned, info, runtime, text = trace_task(
            self.task, self.id, self.args, self.kwargs, self.request_dict,
            hostname=self.hostname, loader=self.task.app.loader, app=self.task.app,
        )  # fmt: skip
        self.on_success((1, returned, runtime) if info else (0, text, runtime))

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        """Celery's own; it is here that the parent wraps it."""
        return super().on_success(failed__retval__runtime, **kwargs)

    def maybe_expire(self) -> Literal[True] | None:
        """Return whether its time is over."""
        return True if self.expires and self.task.app.now() > self.expires else None


class InlineHolding(Holding):
    """The claims of one host; the end of one is told at once."""

    def tell(self, release: Release) -> None:
        """Release the claim."""
        self._tell(release)

    def running(self) -> list[dict[str, Any]]:
        """Return the claims of what runs."""
        return [{**claim.to_header(), "is_begun": True} for _, claim in self._held.values()]
