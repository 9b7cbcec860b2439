"""Methods that beat triggers, each no more often than its spacing.

A task's due times lie on a grid: multiples of its spacing, counted from its first tick. It runs on the first tick at or
after its due time less its jitter, up to a twentieth of the spacing, which spreads tasks of one spacing over several
ticks. What counts as its last run is the grid's own time, so nothing drifts. A period that was missed is skipped, never
made up. The rule is that of oslo.service's periodic tasks, where the jitter comes on top and moves the grid.
"""

import hashlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, TypeVar, overload

from managers.methods import Exposed, is_lazy

#: The part of a spacing by which a run may come early.
JITTER = 0.05
#: Seconds that sums of floats may be off.
_EPSILON = 0.001

_MARK = "_celeriac_periodic"

MethodT = TypeVar("MethodT", bound=Callable[..., Any] | Exposed[..., Any])


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """What ``@periodic_task`` says of the method *name*; *spacing* in seconds."""

    name: str
    spacing: float
    run_immediately: bool
    pool: bool
    scope: Literal["host", "fleet"]

    def celery_name(self, service: str) -> str:
        """Return the name of the Celery task that a task of the pool is."""
        return f"{service}.periodic_tasks.{self.name}"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a task is to run now, and the grid time that counts as its last run from now on."""

    is_due: bool
    last_run: float


def decide(task: PeriodicTask, last_run: float | None, *, now: float, jitter: float = 0.0) -> Decision:
    """Return whether *task*, whose last run counts as *last_run*, is due at *now*; times in seconds of one clock.

    *jitter* from 0 to 1 says how much of the twentieth of the spacing the task comes early. A task that never ran is
    due at once if it says ``run_immediately``, else one spacing from now. A last run more than a spacing ahead means
    that the clock was set back; the task is due, since nobody knows how long ago it ran.
    """
    if task.spacing < _EPSILON:
        return Decision(is_due=True, last_run=now)
    if last_run is None:
        return Decision(is_due=task.run_immediately, last_run=now)
    early = jitter * JITTER * task.spacing + _EPSILON
    if last_run - now > task.spacing + early:
        return Decision(is_due=True, last_run=now)
    periods = max(0, math.floor((now + early - last_run) / task.spacing))
    return Decision(is_due=periods > 0, last_run=round(last_run + periods * task.spacing, 6))


def jitter_of(*names: str) -> float:
    """Return how early a task comes, from 0 to 1: fixed for its *names*, so that it is the same on every tick."""
    digest = hashlib.blake2b("/".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


@overload
def periodic_task(method: MethodT, /) -> MethodT: ...
@overload
def periodic_task(
    *,
    spacing: float | timedelta = 60,
    run_immediately: bool = False,
    enabled: bool = True,
    pool: bool = False,
    scope: Literal["host", "fleet"] = "host",
) -> Callable[[MethodT], MethodT]: ...
def periodic_task(
    method: Any = None,
    /,
    *,
    spacing: float | timedelta = 60,
    run_immediately: bool = False,
    enabled: bool = True,
    pool: bool = False,
    scope: str = "host",
) -> Any:
    """Mark a manager's method, which takes nothing but ``self``, to be run by beat's ticks.

    Args:
        method: the method, where the mark is bare.
        spacing: seconds, or a timedelta, between two runs. Ticks come every PERIODIC_INTERVAL, so a shorter spacing
            means every tick, and so does 0; a negative one disables the task.
        run_immediately: where it never ran on this host, run on the first tick rather than one spacing later. Last runs
            survive a restart of the worker.
        enabled: False disables the task.
        pool: run as a task of the pool, on this host's own queue: for work so heavy that the manager's other periodic
            tasks should not wait for it. Runs never overlap.
        scope: "host" for every host of the service, "fleet" for at most one of them per period, whichever is up.

    Raises:
        TypeError: it takes other arguments than ``self``, or calling it would do nothing yet.
        ValueError: a spacing that is no number, a scope that doesn't exist, or a fleet's task with a spacing of 0.
    """
    seconds = spacing.total_seconds() if isinstance(spacing, timedelta) else spacing
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not abs(seconds) <= sys.float_info.max:  # the integers beyond it are no floats
        raise ValueError(f"spacing is {spacing!r}; use seconds or a timedelta")
    if scope not in {"host", "fleet"}:
        raise ValueError(f"scope is {scope!r}; use 'host' or 'fleet'")
    if scope == "fleet" and seconds == 0:
        raise ValueError("spacing is 0, every tick of every host; a task of scope 'fleet' needs a period to share")

    def mark(marked: Any) -> Any:
        function = marked.method if isinstance(marked, Exposed) else marked
        if not inspect.isfunction(function):
            raise TypeError(f"@periodic_task marks a method of a manager, not {marked!r}")
        try:
            inspect.signature(function).bind(None)
        except TypeError as error:
            raise TypeError(
                f"{function.__qualname__} is periodic and must take nothing but self: {error}; the context is"
                " current_context()"
            ) from None
        if is_lazy(function):
            raise TypeError(
                f"{function.__qualname__} is periodic and must do its work when called, not return a coroutine or"
                " generator"
            )
        task = None
        if enabled and seconds >= 0:
            task = PeriodicTask(function.__name__, float(seconds), run_immediately, pool, scope)  # type: ignore[arg-type]
        setattr(function, _MARK, task)
        return marked

    return mark if method is None else mark(method)


def periodic_tasks_of(manager_class: type) -> Iterator[PeriodicTask]:
    """Yield the enabled periodic tasks of *manager_class* in the order of their names; the most derived one decides."""
    for name in dir(manager_class):
        found = inspect.getattr_static(manager_class, name)
        task = getattr(found.method if isinstance(found, Exposed) else found, _MARK, None)
        if task is not None:
            yield replace(task, name=name)  # a decorator below the mark may have left another name
