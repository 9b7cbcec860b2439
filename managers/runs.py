"""The last runs of periodic tasks: what they count as, and that no two of one task overlap.

A host's are one JSON file per service, ``<service>.runs``, in the directory that its processes share; it outlives the
worker. ``<service>.<task>.lock`` is locked by whichever process runs a task of the pool; the kernel lets go of it when
that process ends, however it ends.
"""

import fcntl
import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from managers.memory import replace_file

logger = logging.getLogger(__name__)

#: What reading a file of anything as JSON, and what it says as last runs, can raise.
_GARBAGE = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)


class Runs(Protocol):
    """Where last runs are kept: a host's own, or the fleet's."""

    def last_run(self, service: str, task: str) -> float | None:
        """Return what counts as the last run of *task*, None if it never ran."""

    def advance(self, service: str, task: str, before: float | None, after: float) -> bool:
        """Replace *before* by *after*; return False where it is *before* no more, since another host was first."""
        ...


class ProcessRuns:
    """The last runs of managers that live in one process."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}

    def last_run(self, service: str, task: str) -> float | None:
        """Return what counts as the last run of *task*."""
        return self._last.get((service, task))

    def advance(self, service: str, task: str, before: float | None, after: float) -> bool:
        """Replace *before* by *after*."""
        if self._last.get((service, task)) != before:
            return False
        self._last[service, task] = after
        return True


class HostRuns:
    """The last runs on a host, which survive its worker; written by the worker's main process alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def last_run(self, service: str, task: str) -> float | None:
        """Return what counts as the last run of *task*."""
        return self._read(service).get(task)

    def advance(self, service: str, task: str, before: float | None, after: float) -> bool:
        """Replace *before* by *after*."""
        del before  # nobody else writes here
        replace_file(self._path(service), json.dumps({**self._read(service), task: after}))
        return True

    @contextmanager
    def alone(self, service: str, task: str) -> Iterator[bool]:
        """Yield whether no other process or thread of this host is inside this block for *task*."""
        process = os.getpid()
        with (self._directory / f"{service}.{task}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                if os.getpid() == process:  # a process forked meanwhile shares the lock; closing would leave it to that
                    fcntl.flock(file, fcntl.LOCK_UN)

    def _read(self, service: str) -> dict[str, float]:
        try:
            known = json.loads(self._path(service).read_text(encoding="utf-8"))
            return {str(task): _time(at) for task, at in known.items()}
        except FileNotFoundError:
            return {}
        except _GARBAGE as error:
            logger.warning("the last runs of %s can't be read and count as none: %r", service, error)
            return {}

    def _path(self, service: str) -> Path:
        return self._directory / f"{service}.runs"


def _time(value: Any) -> float:
    time = float(value)
    if not math.isfinite(time):
        raise ValueError(f"{value} is no time")
    return time
