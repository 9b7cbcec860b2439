"""A fleet without processes: its rows in a real Valkey, its records in SQLite, its settings in the environment."""

import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from managers import db
from managers.db import api
from managers.reports import Report
from managers.version import version
from scheduler.claims import Claim, Claims
from scheduler.connections import connect
from scheduler.hosts import Identity, Joined, member_of
from scheduler.pending import Pending
from scheduler.placer import Placer
from scheduler.requests import Request, check_options
from scheduler.table import Table

HEARTBEAT, INTERVAL = 10.0, 60.0
CAPABILITIES = {"slots": 4, "cpus": 8, "memory_mb": 15921, "zone": "a"}


class Rows:
    """Writes rows as hosts, scheduler and operators do; ages are in seconds before now."""

    def __init__(self, url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.broker_url = f"{url.removesuffix('/0')}/9"
        self.database_url = f"sqlite:///{directory / 'registry.db'}"
        self.name = f"cli-{uuid.uuid4()}"
        self.age = 0.0
        self.table = Table(connect(url), fleet=self.name, now=lambda: time.time() - self.age)
        for setting, value in (
            ("TABLE_URL", url),
            ("BROKER_URL", self.broker_url),
            ("DATABASE_URL", self.database_url),
            ("FLEET", self.name),
        ):
            monkeypatch.setenv(f"CELERIAC_{setting}", value)
        monkeypatch.chdir(directory)

    @contextmanager
    def at(self, age: float) -> Iterator[None]:
        self.age = age
        yield
        self.age = 0.0

    def add(
        self,
        host: str,
        services: Sequence[str] = ("host",),
        *,
        capabilities: Mapping[str, Any] | None = CAPABILITIES,
        joined: float = 1000.0,
        seen: float = 0.0,
        reported: float | None = 0.0,
        version: str = version(),
    ) -> None:
        """Add a host that joined, was seen and reported so many seconds ago."""
        members = [member_of(service, host) for service in services]
        identity = Identity(
            instance=host, machine="box:12ab:1", pid=4711, pid_started=1.0, version=version,
            heartbeat_interval=HEARTBEAT, interval=INTERVAL,
        )  # fmt: skip
        with self.at(joined):
            answer = self.table.join(identity, members)
        assert isinstance(answer, Joined)
        with self.at(seen):
            self.table.heartbeat(host, HEARTBEAT, members)
        if reported is not None:
            said = {service: capabilities if service == "host" else None for service in services}
            with self.at(reported):
                self.table.store([Report(host, answer.boot, 1, INTERVAL, version, said)])

    def add_scheduler(self, **ages: Any) -> None:
        self.add("sched-1", ["scheduler"], **ages)

    def park(self, task_id: str, *, task: str = "shop.render", count: int = 1, **asked: Any) -> None:
        """Have requests wait that ask for what check_options takes."""
        options = check_options(asked)
        ids = [f"{task_id}-{number}" for number in range(count)]
        requests = [Request(id=each, task_id=task_id, task=task, service="host", **options) for each in ids]
        Pending(self.table).submit([(request, {}) for request in requests])

    def hold(self, task_id: str, *, begun: bool = True, **asked: Any) -> Claim:
        """Have a task placed on a host where it fits, and begun there."""
        self.park(task_id, **asked)
        placed: list[Claim] = []
        Placer(self.table, dispatch=lambda claim, _: placed.append(claim)).turn(is_anything_new=True)
        (claim,) = placed
        if begun:
            assert Claims(self.table).start(claim.host, claim.id, claim.attempt, by="child") == "go"
        return claim

    def release(self, claim: Claim, outcome: str = "done") -> None:
        assert Claims(self.table).release(claim.host, claim.id, claim.attempt, outcome)

    def register(self, host: str, service: str = "host", *, stopped: bool = False) -> None:
        db.use(self.database_url)
        db.upgrade()
        api.service_register(service, host, version=version())
        if stopped:
            api.service_stopped(service, host)


@contextmanager
def rows_at(url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rows]:
    rows = Rows(url, directory, monkeypatch)
    broker = connect(rows.broker_url)
    broker.delete("scheduler")
    yield rows
    broker.delete("scheduler")
    broker.close()
    rows.table.redis.close()
    db.use(None)
    db.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]
