"""Lives of workers and the reports they send."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from managers.reports import Capabilities, Report
from scheduler.hosts import Identity, Joined, Refusal
from scheduler.table import Table
from tests.scheduler.bodies import HEARTBEAT, Body


@dataclass
class Life:
    """One life of one worker, which talks to the table as a worker does."""

    table: Table
    host: str
    services: Sequence[str]
    identity: Identity
    boot: int = 0
    sequence: int = field(default=0)

    @property
    def members(self) -> list[str]:
        return [f"{service}/{self.host}" for service in self.services]

    def join(self, *replaces: str) -> Joined | Refusal:
        answer = self.table.join(self.identity, self.members, boot=self.boot, replaces=replaces)
        if isinstance(answer, Joined):
            self.boot = answer.boot
        return answer

    def beat(self) -> str:
        return self.table.heartbeat(self.identity.instance, self.identity.heartbeat_interval, self.members)[1]

    def leave(self) -> int:
        return self.table.leave(self.identity.instance, self.members)

    def drain(self, reason: str) -> int:
        return self.table.drain(self.identity.instance, self.members, reason)

    def say(self, capabilities: Capabilities | None, **changes: Any) -> Report:
        """Return this life's next report, the same for each of its services; *changes* forge a field."""
        self.sequence += 1
        told = {
            "host": self.host,
            "boot": self.boot,
            "sequence": self.sequence,
            "interval": self.identity.interval,
            "version": self.identity.version,
            "services": dict.fromkeys(self.services, capabilities),
        }
        return Report(**{**told, **changes})

    def report(self, capabilities: Capabilities | None, **changes: Any) -> list[str]:
        """Report, and return the table's words."""
        return [word for _, _, word in self.table.store([self.say(capabilities, **changes)])]


@pytest.fixture
def life(table: Table) -> Callable[..., Life]:
    """Make a life of a worker on a host, not joined yet."""
    count = 0

    def make(
        host: str = "a",
        *,
        services: Sequence[str] = ("volume",),
        heartbeat: float = 10.0,
        interval: float = 60.0,
        machine: str = "vm",
    ) -> Life:
        nonlocal count
        count += 1
        identity = Identity(
            instance=f"{host}-{count}",
            machine=machine,
            pid=4000 + count,
            pid_started=12.5,
            version="0.1.0",
            heartbeat_interval=heartbeat,
            interval=interval,
        )
        return Life(table, host, services, identity)

    return make


@pytest.fixture
def joined(life: Callable[..., Life]) -> Callable[..., Life]:
    """Make a life of a worker that has taken its names."""

    def make(host: str = "a", **options: Any) -> Life:
        made = life(host, **options)
        assert isinstance(made.join(), Joined)
        return made

    return make


@pytest.fixture
def up(table: Table, clock: Any) -> Callable[..., Body]:
    """Make a host that has joined and reported what its machine and its service have; the table can be believed."""
    count = 0

    def make(
        host: str = "a", of_host: Capabilities | None = None, of_render: Capabilities | None = None, **identity: Any
    ) -> Body:
        nonlocal count
        count += 1
        body = Body(table, host, f"{host}-{count}", **identity)
        assert body.join()
        body.report({"slots": 2} if of_host is None else of_host, {} if of_render is None else of_render)
        if count == 1:
            clock.advance(HEARTBEAT)
        return body

    return make
