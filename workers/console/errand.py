"""A task that the command line sends by name, and what becomes of it."""

import json
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery
from celery.states import READY_STATES, SUCCESS

from scheduler.claims import Claims
from scheduler.errors import InvalidPlacement
from scheduler.pending import Pending
from scheduler.snapshot import HOST_SERVICE
from scheduler.table import Table
from scheduler.task import ScheduledTask
from workers import questions
from workers.config import Settings
from workers.questions import Waiting

#: Seconds between two looks at what became of it.
LOOK = 0.1
#: Looks without a place after which is told why.
PATIENCE = 10
#: Seconds beyond its time after which a request that still waits has no scheduler to give it up.
LATE = 10.0
#: Looks at a request that is over after which no result is to be expected.
GRACE = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task as far as it is known; ``host`` is where it was placed last."""

    task_id: str
    task: str
    state: str
    host: str | None
    waited_seconds: float
    result: Any = None
    error: BaseException | None = None
    reasons: Sequence[str] = ()
    is_over: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape that ``celeriac run --json`` promises."""
        return {
            "task_id": self.task_id,
            "task": self.task,
            "state": self.state,
            "host": self.host,
            "waited_seconds": self.waited_seconds,
            "result": json.loads(json.dumps(self.result, default=str)),
            "error": None if self.error is None else f"{type(self.error).__name__}: {self.error}",
            "reasons": list(self.reasons),
        }


class Errand:
    """The task named *name*, to be placed by the options *said* and by those of its code, where that is known here.

    ``unread`` says which modules of the setting TASKS are not, and why.

    Raises:
        InvalidPlacement: its code is known, and it is no ScheduledTask: no host would run it under its claim.
    """

    def __init__(self, settings: Settings, table: Table, name: str, said: Mapping[str, Any]) -> None:
        from workers.celery import make_app  # noqa: PLC0415  # an application that speaks to this fleet, not to a default

        self._settings = settings
        self._table = table
        self._app = make_app(settings)
        self.name = name
        self.unread = _import(self._app, settings.tasks)
        self._said = dict(said)
        self._task = self._known() or _by_name(self._app, name)
        self.task_id = str(uuid.uuid4())
        self._sent_at = 0.0

    def send(self, arguments: Sequence[Any]) -> None:
        """Have it placed.

        Raises:
            InvalidPlacement, InvalidRequirement: an option can't be used.
            TypeError: its code is known, and takes other arguments.
            TableUnavailable: Redis doesn't answer.
        """
        self._sent_at = self._table.now()
        service = self._said.get("service") or self._task.service or HOST_SERVICE
        self._task.apply_async(list(arguments), task_id=self.task_id, **{**self._said, "service": service})

    def wait(self, tell: Callable[[str], None]) -> Outcome:
        """Return what became of it when that is known; *tell* hears why it waits, once.

        A request that still waits although its time is over is left to the fleet: nobody gives it up.
        """
        pending, looks, over = Pending(self._table), 0, 0
        until = self._said.get("placement_timeout", math.inf) + LATE
        while True:
            is_open = pending.is_open(self.task_id)
            seen = self.look()
            if seen.state in READY_STATES:
                return seen
            over = 0 if is_open else over + 1
            if over >= GRACE:
                return replace(seen, is_over=True)
            if looks == PATIENCE:
                self._tell_why(tell)
            if looks * LOOK >= until and (waiting := self._waiting()) is not None:
                return replace(seen, reasons=waiting.reasons)
            looks += 1
            time.sleep(LOOK)

    def look(self) -> Outcome:
        """Return what is known of it now."""
        meta = self._app.backend.get_task_meta(self.task_id)
        ran = Claims(self._table).ran(self.task_id)
        host, until = ran or (None, self._table.now())
        error = meta["result"] if meta["status"] in READY_STATES - {SUCCESS} else None
        return Outcome(
            task_id=self.task_id,
            task=self.name,
            state=meta["status"],
            host=host,
            waited_seconds=round(max(0.0, until - self._sent_at), 3),
            result=meta["result"] if meta["status"] == SUCCESS else None,
            error=error,
            reasons=getattr(error, "reasons", ()),
        )

    def _known(self) -> ScheduledTask | None:
        found = self._app.tasks.get(self.name)
        if found is None or isinstance(found, ScheduledTask):
            return found
        raise InvalidPlacement(
            f"{self.name} is no ScheduledTask, so no host would run it under a claim; give it base=ScheduledTask"
        )

    def _tell_why(self, tell: Callable[[str], None]) -> None:
        if (waiting := self._waiting()) is not None:
            tell(f"{self.name}[{self.task_id}] waits, {waiting.verdict}: {', '.join(waiting.reasons)}")

    def _waiting(self) -> Waiting | None:
        """Return why it has no host; None where it has one, or needs none any more."""
        found = questions.waiting_of(self.task_id, fleet=self._settings)
        return found[0] if found else None


def _by_name(app: Celery, name: str) -> ScheduledTask:
    """Return what sends a task whose code isn't here."""
    task: type[ScheduledTask] = type("ByName", (ScheduledTask,), {"name": name, "typing": False})
    task.bind(app)
    return task()


def _import(app: Celery, modules: Sequence[str]) -> dict[str, str]:
    """Import *modules* as a worker would; return those that can't be, and why."""
    unread = {}
    for module in modules:
        try:
            app.loader.import_task_module(module)
        except Exception as error:  # noqa: BLE001  # a module of somebody's own
            unread[module] = f"{type(error).__name__}: {error}"
    app.finalize()
    return unread
