"""The state directory of an embedded fleet.

::

    lock         held (flock) by the supervisor and by Valkey: a second fleet here is refused until both are gone
    fleet.json   addresses and pids while the fleet runs, for every command run from this folder; the owner's alone
    celeriac.db  SQLite            valkey/  Valkey's AOF            logs/  one file per process
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil

from workers.config import FLEET_FILE, read_fleet_file
from workers.errors import FleetError

#: Seconds to wait for what a killed supervisor left behind.
LOCK_PATIENCE = 10.0


class StateDirectory:
    """The folder at *path*, held by one fleet at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None

    @property
    def lock(self) -> int:
        """The lock's file descriptor: a child that keeps it open keeps the directory taken."""
        if self._lock is None:
            raise FleetError(f"{self.path} is not held by this process")
        return self._lock.fileno()

    def take(self) -> None:
        """Hold the directory, made if missing.

        Raises:
            FleetError: another fleet holds it; the message names its pid and the way out.
        """
        try:
            for name in ("", "valkey", "logs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise FleetError(f"no state can be kept in {self.path}: {error}; name another --dir") from error
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = read_fleet_file(self.path).get("pid")
                alive = holder is not None and psutil.pid_exists(holder)
                if alive or time.monotonic() > deadline:
                    lock.close()
                    who = f"pid {holder}" if alive else "another process"
                    raise FleetError(
                        f"a fleet runs in {self.path} already ({who}); stop it, or name another --dir"
                    ) from None
                time.sleep(0.1)
            else:
                self._lock = lock
                return

    def announce(self, settings: Mapping[str, str], pids: Mapping[str, int | None]) -> None:
        """Say where the fleet is; whole or not at all, and to nobody but the owner: it holds Valkey's password."""
        path = self.path / f"{FLEET_FILE}.new"
        path.touch(mode=0o600)
        found_here = {name: value for name, value in settings.items() if name != "dir"}
        path.write_text(json.dumps({"pid": os.getpid(), "children": dict(pids), "settings": found_here}, indent=1))
        path.replace(self.path / FLEET_FILE)

    def release(self) -> None:
        """Let go; safe to call twice, or without having taken it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / FLEET_FILE).unlink()
            self._lock.close()
            self._lock = None
