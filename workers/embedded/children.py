"""A process of the embedded fleet: started out of the terminal's reach, ended by its starter, never orphaned."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from workers.errors import FleetError
from workers.orphans import die_with_parent

#: Restarts within RESTART_WINDOW seconds after which a child that keeps dying is given up.
MAX_RESTARTS = 5
RESTART_WINDOW = 60.0


class Child:
    """One command, kept running; its output goes to *log*.

    It has a session of its own, so that Ctrl-C in the terminal reaches only the process that started it, and it is sent
    SIGTERM by the kernel if that one is killed. Not thread-safe: to be used by one supervising thread.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        keep_open: Iterable[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts: list[float] = []

    @property
    def pid(self) -> int | None:
        """The pid while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How it ended, None while it runs; negative for a signal."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it.

        Raises:
            FleetError: it has been started too often in a short time, or can't be started at all.
        """
        now = time.monotonic()
        self._starts = [*(start for start in self._starts if now - start < RESTART_WINDOW), now]
        if len(self._starts) > MAX_RESTARTS:
            raise FleetError(f"{self.name} ended {MAX_RESTARTS} times within {RESTART_WINDOW:g} s.\n{self.tail()}")
        try:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603  # our own command line
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                    pass_fds=self._keep_open,
                    preexec_fn=partial(die_with_parent, signal.SIGTERM, parent=os.getpid()),  # noqa: PLW1509
                )
        except OSError as error:
            raise FleetError(f"{self.name} can't be started: {error}") from error

    def signal(self, number: int) -> None:
        """Send a signal if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait for its end; return False if it still runs after *timeout* seconds."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(timeout, 0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self, lines: int = 15) -> str:
        """Return the end of what it wrote, for an error message."""
        try:
            written = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"({self.log}: {error})"
        return "\n".join([f"{self.log} ends with:", *(f"  {line}" for line in written[-lines:])])


def stop_all(children: Sequence[Child], *, patience: float, hurried: Callable[[], bool] = bool) -> list[str]:
    """End *children* together: SIGTERM, *patience* seconds for running work, then SIGKILL; return who needed that.

    *hurried* is asked meanwhile; once it says so, patience is over.
    """
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + patience
    while any(not child.wait(0.05) for child in children):
        if hurried() or time.monotonic() > deadline:
            break
    slow = [child for child in children if not child.wait(0)]
    for child in slow:
        child.signal(signal.SIGKILL)
        child.wait(10)
    return [child.name for child in slow]
