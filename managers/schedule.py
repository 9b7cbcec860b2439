"""A manager's periodic tasks: which are due, and running them one by one."""

import logging
import time
from collections.abc import Callable
from typing import Any

from managers.periodic import PeriodicTask, decide, jitter_of, periodic_tasks_of
from managers.runs import ProcessRuns, Runs

logger = logging.getLogger(__name__)


class Schedule:
    """Runs the periodic tasks of *manager* that are due.

    Outside a worker the process is host and fleet at once, and everything runs inline; a worker puts its own *runs*,
    *fleet_runs*, *now* and *send* here. Not thread-safe: a manager's ticks never overlap.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self.tasks = tuple(periodic_tasks_of(type(manager)))
        #: The last runs of tasks of scope "host".
        self.runs: Runs = ProcessRuns()
        #: The last runs of tasks of scope "fleet".
        self.fleet_runs: Runs = ProcessRuns()
        #: The time by which tasks are due, in seconds; a worker says the tick's own.
        self.now: Callable[[], float] = time.time
        #: Sends a task with ``pool=True`` to the host's own queue; None runs it here.
        self.send: Callable[[PeriodicTask], None] | None = None
        #: Told of what a task raised.
        self.failed: Callable[[PeriodicTask, BaseException], None] = self._log_failure

    def run_due(self) -> None:
        """Run each task that is due; one that fails is logged and stops no other."""
        for task in self.tasks:
            try:
                if self._take(task):
                    if task.pool and self.send is not None:
                        self.send(task)
                    else:
                        self.run(task)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  # a SystemExit would stop the others and the report
                self.failed(task, error)

    def run(self, task: PeriodicTask) -> None:
        """Run *task* here and now; one that outlasts its spacing is logged with its figures."""
        started = time.monotonic()
        try:
            getattr(self._manager, task.name)()
        finally:
            took = time.monotonic() - started
            if 0 < task.spacing < took:
                logger.warning(
                    "%s of %s took %.2f s, longer than its spacing of %g s",
                    task.name, self._manager, took, task.spacing,
                    extra=self._extra,
                )  # fmt: skip

    def _take(self, task: PeriodicTask) -> bool:
        """Return whether *task* is to run now, and is this host's to run."""
        if task.spacing == 0:
            return True
        service: str = self._manager.service_name
        runs = self.fleet_runs if task.scope == "fleet" else self.runs
        names = (service, task.name) if task.scope == "fleet" else (service, task.name, self._manager.host)
        before = runs.last_run(service, task.name)
        decision = decide(task, before, now=self.now(), jitter=jitter_of(*names))
        if decision.last_run == before:
            return False
        return runs.advance(service, task.name, before, decision.last_run) and decision.is_due

    def _log_failure(self, task: PeriodicTask, error: BaseException) -> None:
        logger.error("%s of %s failed", task.name, self._manager, exc_info=error, extra=self._extra)

    @property
    def _extra(self) -> dict[str, str]:
        return {"host": self._manager.host, "service": self._manager.service_name}
