"""One worker process under measurement."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).parents[1]

#: Seconds between two looks at how far the worker is.
LOOK = 0.005
#: Seconds that a worker may take to stop before it is killed.
STOP = 20.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How many messages a second, and the microseconds of the worker's own CPU time that each took."""

    per_second: float
    cpu_us: float


class Worker:
    """``celery -A <app> worker`` with one slot, in a session of its own, ended on leaving the ``with`` block.

    *configured* are Celery settings as its command line takes them, ``name=value``.
    """

    def __init__(
        self, app: str, *, pool: str, environment: Mapping[str, str], folder: Path, configured: Sequence[str] = ()
    ) -> None:
        self._command = [
            sys.executable, "-m", "celery", "-A", app, "worker",
            "--pool", pool, "--concurrency", "1", "--loglevel", "WARNING", *configured,
        ]  # fmt: skip
        ours = {name: value for name, value in os.environ.items() if not name.startswith("CELERIAC_")}
        path = f"{ROOT}{os.pathsep}{Path(__file__).parent}"
        self._environment = {**ours, "PYTHONPATH": path, **environment}
        self._folder = folder
        self._log = folder / "worker.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own command line
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._known = psutil.Process(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def rate(self, progress: Callable[[], int], total: int, *, limit: float) -> Rate:
        """Return the rate from the first to the last of *total*; start-up doesn't count.

        Raises:
            RuntimeError: the worker died, or wasn't done after *limit* seconds; with its last words.
        """
        deadline = time.monotonic() + limit
        done, earlier, now = 0, _Moment(0, 0.0, 0.0), self._moment(0)
        while not done:
            self._look(deadline)
            done, earlier = progress(), now
            now = self._moment(done)
        # all done between two looks: count from the one that saw nothing
        first = now if done < total else earlier
        while done < total:
            self._look(deadline)
            done = progress()
        last = self._moment(done)
        count = total - first.done
        return Rate(count / (last.wall - first.wall), 1e6 * (last.cpu - first.cpu) / count)

    @property
    def cpu(self) -> float:
        """The CPU seconds that the worker has spent so far."""
        return self._moment(0).cpu

    def _moment(self, done: int) -> "_Moment":
        spent = 0.0
        for process in (self._known, *self._known.children(recursive=True)):
            # a child that has just ended is in its parent's sum
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent += times.user + times.system + times.children_user + times.children_system
        return _Moment(done, time.perf_counter(), spent)

    def _look(self, deadline: float) -> None:
        if self._process.poll() is not None or time.monotonic() > deadline:
            said = self._log.read_text(errors="replace")[-2000:]
            state = "still runs" if self._process.returncode is None else f"ended with {self._process.returncode}"
            raise RuntimeError(f"not done in time, the worker {state}: {said}")
        time.sleep(LOOK)


@dataclass(frozen=True, slots=True)
class _Moment:
    """How many were done, the wall clock and the CPU seconds spent by then."""

    done: int
    wall: float
    cpu: float
