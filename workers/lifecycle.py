"""A host's life in a worker: from taking its name to giving it back.

Start: take the names, beat, register in the database, ``init_host`` of every manager; then the worker may consume.
Run: each tick goes to its manager's own thread; when all have run, one report goes out.
Stop: say "draining", heed no more ticks, let the pool finish, ``cleanup_host`` of every manager, "stopped" in the
database, give the names back, stop beating. The heart beats longest, so that a host which drains for an hour is seen.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from managers.context import RequestContext
from managers.errors import DatabaseError
from managers.host import HostManager
from managers.manager import Manager
from managers.memory import HostMemory
from managers.periods import Tick, host_offset
from managers.version import version
from scheduler.conclusions import Conclusions
from scheduler.ended import Ended
from scheduler.errors import TableUnavailable
from scheduler.hosts import member_of
from workers.carried import CarriedThread
from workers.concluding import ConcludingThread
from workers.dispatch import conclude
from workers.history import HistoryThread
from workers.holding import Holding
from workers.placing_thread import PlacingThread
from workers.presence import Presence
from workers.registry import Registry
from workers.reporting import Reporting
from workers.runner import TickRunner

logger = logging.getLogger(__name__)

#: Seconds that stopping waits for periodic tasks under way.
TICK_PATIENCE = 30.0
#: Seconds that leaving waits for the ends of tasks to be told.
RELEASE_PATIENCE = 5.0
#: Seconds between two tries to reach a Redis that doesn't answer at the start.
RETRY = 2.0
#: Seconds between two looks at whether the worker shall stop, while its start waits.
LOOK = 0.2


class Lifecycle:
    """The managers of one host while their worker lives; used in the worker's main process only.

    *slots* is how many tasks the worker runs at once; *on_replaced* is called when another worker took the name;
    *is_stopping* is asked while the start waits, for Redis or for a silent holder of the name.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        slots: int,
        on_replaced: Callable[[], None],
        is_stopping: Callable[[], bool] = bool,
    ) -> None:
        self.registry = registry
        self.host = registry.settings.host
        self._slots = slots
        self._on_replaced = on_replaced
        self._is_stopping = is_stopping
        self._stopped = threading.Event()
        self._is_replaced = False
        self.managers: dict[str, Manager[Any]] = {}
        self._prepared: list[Manager[Any]] = []
        self._runners: dict[str, TickRunner] = {}
        self.membership = registry.membership(registry.services)
        self._presence = Presence(self.membership, registry.clock, on_joined=self._restore, on_replaced=self._replaced)
        self._reporting: Reporting | None = None
        self._serving: list[PlacingThread | ConcludingThread | CarriedThread | HistoryThread] = []

    def start(self) -> None:
        """Bring the host to life; nothing is left behind when it raises.

        Raises:
            NameTaken: another live worker is one of this host's services.
            Exception: whatever a manager's constructor or ``init_host`` raised.
        """
        self._join()
        self._presence.start()
        try:
            memory = HostMemory(self.registry.settings.host_dir)
            for service in self.registry.services:
                memory.forget(service)  # an earlier life's facts are none of this one's
            for service in self.registry.services:
                self.managers[service] = self._build(service)
            self._register()
            for manager in self.managers.values():
                logger.debug("init_host of %s", manager)
                manager.init_host()
                self._prepared.append(manager)
        except BaseException:
            self.stop()
            raise
        holding = self.registry.holding = Holding(self.host, self.registry.claims)
        holding.start()
        self._reporting = Reporting(
            self.registry.app, self.membership, self.registry.clock, managers=self.managers, running=holding.running
        )
        self._reporting.start()
        if "scheduler" in self.managers:
            self._serve(self.managers["scheduler"])
        for service, manager in self.managers.items():
            self._runners[service] = TickRunner(
                manager, self.registry.clock, self._offset_of, partial(self._ran, service)
            )
            self._runners[service].start()
        logger.info("host %s is %s", self.host, ", ".join(self.managers), extra={"host": self.host})

    def consuming(self) -> None:
        """Report at once: the worker's queues are open. Called again after each reconnection to the broker."""
        if self._reporting is not None:
            self._reporting.soon()

    def tick(self, service: str, tick: Tick, context: RequestContext) -> None:
        """Heed beat's word; called in the consumer's thread, never blocks."""
        runner = self._runners.get(service)
        if runner is not None and runner.offer(tick, context) and self._reporting is not None:
            self._reporting.expect(tick, self._offset_of(tick.interval))

    def drain(self) -> None:
        """Say that this host takes no new work, and heed no more ticks; runs under way go on."""
        try:
            self.membership.drain("its worker is stopping")
        except TableUnavailable as error:
            logger.warning("can't say that %s is draining: %s", self.host, error)
        for runner in self._runners.values():
            runner.stop(timeout=0)

    def stop(self) -> None:
        """End the host's life after its last task; safe to call twice, or after a failed start."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        for runner in self._runners.values():
            if not runner.stop(timeout=TICK_PATIENCE):
                logger.warning("periodic tasks of %s still run after %g s", runner.manager, TICK_PATIENCE)
        if self._reporting is not None:
            self._reporting.stop()
        for thread in self._serving:
            thread.stop()
        for manager in reversed(self._prepared):
            try:
                manager.cleanup_host()
            except Exception:
                logger.exception("cleanup_host of %s failed", manager)
        self.leave()

    def leave(self) -> None:
        """Give the names back and say so in the database; without ``cleanup_host`` where the stop was a hard one."""
        self._stopped.set()
        if self.registry.holding is not None:
            self.registry.holding.stop(RELEASE_PATIENCE)
        mine = {} if self._is_replaced else self.managers
        for service, manager in mine.items():
            try:
                manager.db.service_stopped(service, self.host)
            except DatabaseError as error:
                logger.warning("the database doesn't know that %s stopped: %s", manager, error)
            except Exception:
                logger.exception("the database doesn't know that %s stopped", manager)
        self._presence.stop()
        try:
            self.membership.leave()
        except TableUnavailable as error:
            logger.warning("the capability table doesn't know that %s stopped: %s", self.host, error)
        logger.info("host %s left", self.host, extra={"host": self.host})

    def _join(self) -> None:
        waiting = False
        while True:
            try:
                joined = self.membership.join(self._wait)
            except TableUnavailable as error:
                if not waiting:
                    logger.error("%s. Trying again every %g s", error, RETRY)  # noqa: TRY400
                waiting = True
                if self._wait(RETRY):
                    raise
            else:
                self.registry.clock.set(joined.now)
                return

    def _wait(self, seconds: float) -> bool:
        """Wait; return True at once when the worker shall stop, which its signal handler can only note."""
        deadline = time.monotonic() + seconds
        while not self._is_stopping():
            if (remaining := deadline - time.monotonic()) <= 0:
                return False
            if self._stopped.wait(min(remaining, LOOK)):
                return True
        return True

    def _serve(self, scheduler: Manager[Any]) -> None:
        """Place, tell the ends of what can't be, and write the history: what a scheduler does beside its manager."""
        registry = self.registry
        concluding = ConcludingThread(Conclusions(registry.table, partial(conclude, registry.app)))
        placing = PlacingThread(registry.placer, on_chores=concluding.wake)
        history = HistoryThread(Ended(registry.table), scheduler.db, days=registry.settings.history_days)
        self._serving = [registry.carried, placing, concluding, history]
        for thread in self._serving:
            thread.start()

    def _build(self, service: str) -> Manager[Any]:
        manager = self.registry.local(service)
        if isinstance(manager, HostManager):
            manager.slots = self._slots
        return manager

    def _register(self) -> None:
        """Write the host into the durable registry, and tell the table what an operator decided there."""
        for module in dict.fromkeys(manager.db for manager in self.managers.values()):
            module.upgrade()
        for service, manager in self.managers.items():
            self._repeat(manager.db.service_register(service, self.host, version=version()))

    def _repeat(self, record: Any) -> None:
        """Tell the table what an operator decided of a service, which the database remembers."""
        member = member_of(record.service, record.host)
        if record.disabled:
            self.registry.table.disable(member, record.disabled_reason or "no reason given")
        else:
            self.registry.table.enable(member)

    def _replaced(self) -> None:
        """Leave the name to its new holder, in the database too."""
        self._is_replaced = True
        self._on_replaced()

    def _restore(self) -> None:
        """Tell an emptied table what it forgot; in a thread, since a slow database must not stop the heart."""
        self.consuming()
        threading.Thread(target=self._repeat_all, name="celeriac-restore", daemon=True).start()

    def _repeat_all(self) -> None:
        try:
            for service, manager in list(self.managers.items()):
                self._repeat(manager.db.service_get(service, self.host))
        except (DatabaseError, TableUnavailable) as error:
            logger.warning("can't tell the table which services are disabled: %s", error)
        except Exception:
            logger.exception("can't tell the table which services are disabled")

    def _ran(self, service: str, tick: Tick) -> None:
        manager = self.managers[service]
        if self._reporting is not None:
            self._reporting.ran(service, tick)
        try:
            manager.db.service_seen(service, self.host)
        except DatabaseError as error:
            logger.warning("the database doesn't know that %s was seen: %s", manager, error)

    def _offset_of(self, interval: float) -> float:
        return host_offset(self.host, interval)
