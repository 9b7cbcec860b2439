"""A fleet in one process whose steps a test takes by hand: what is recorded, placed, sent and run."""

import uuid
from functools import partial
from typing import Any

from celery import Celery
from kombu import Message, Queue

from managers.reports import Report
from scheduler.conclusions import Conclusions
from scheduler.connections import connect
from scheduler.envelope import from_json
from scheduler.hosts import Identity
from scheduler.pending import Pending
from scheduler.placing import PLACE_TASK
from scheduler.requests import Request
from scheduler.table import Table
from workers.dispatch import conclude
from workers.placed import PlacedRequest
from workers.registry import registry_of

NOW = 1_800_000_000.0


class Fleet:
    """An application whose tasks wait to be placed, a scheduler, and hosts that run what reaches their queues."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        app.conf.update(result_backend="cache+memory://", task_publish_retry=False)
        self.registry = registry_of(app)
        self.now = NOW
        self.registry.table = Table(
            connect(f"memory://{uuid.uuid4()}"), fleet="test", url="memory://", now=lambda: self.now
        )
        self.table = self.registry.table
        self.pending = Pending(self.table)
        self.conclusions = Conclusions(self.table, partial(conclude, app))
        for queue in ("scheduler", "mine", "plain", *(f"{of}.{host}" for of in ("host", "network") for host in "abc")):
            self.taken(queue)  # brokers in memory are all one

    def host(self, name: str, *, service: str | None = None, **capabilities: Any) -> None:
        """Have a host there that reported *capabilities*, of its *service* or else its machine, a while ago."""
        services: dict[str, Any] = {"host": {"slots": 4}}
        services[service or "host"] = {**services.get(service or "host", {}), **capabilities}
        members = [f"{one}/{name}" for one in services]
        joined: Any = self.table.join(Identity(name, "vm", 7, 1.0, "0.1.0", 1000.0, 1000.0), members)
        for sequence in (1, 2):
            self.table.heartbeat(name, 1000.0, members)
            self.table.store([Report(name, joined.boot, sequence, 1000.0, "0.1.0", services)])
            self.now += 1001 * (2 - sequence)

    def taken(self, queue: str) -> list[Message]:
        """Take all messages out of *queue*."""
        with self.app.connection_for_read() as connection:
            bound = Queue(queue)(connection.default_channel)
            bound.declare()
            return list(iter(lambda: bound.get(no_ack=True, accept=["json", "pickle"]), None))

    def announced(self) -> list[Any]:
        """Return what schedulers were told of."""
        messages = self.taken("scheduler")
        assert {message.headers["task"] for message in messages} <= {PLACE_TASK}
        return [message.payload[0][0] for message in messages]

    def waiting(self) -> list[tuple[Request, Any]]:
        """Return the requests that wait for a host, with their messages."""
        ids = [one for unit in self.pending.all() for one in unit.ids]
        return [(Request.from_json(self._told("requests", one)), from_json(self._told("messages", one))) for one in ids]

    def waits(self) -> tuple[Request, Any]:
        """Return the only request that waits."""
        (entry,) = self.waiting()
        return entry

    def _told(self, key: str, one: str) -> str:
        told: Any = self.table.redis.hget(self.table.key(key), one)
        return str(told)

    def place(self) -> None:
        """Have the scheduler place what it can."""
        self.registry.placer.turn(is_anything_new=True)
        self.conclusions.turn()

    def run(self, host: str, service: str = "host") -> list[str]:
        """Have *host* run what is in its queue of *service*; return the names of the tasks."""
        return self.execute(self.taken(f"{service}.{host}"), host)

    def execute(self, messages: list[Message], host: str) -> list[str]:
        """Have *host* run the tasks of *messages*; return their names."""
        with self.registry.acting_as(host):
            for message in messages:
                PlacedRequest(message, app=self.app, hostname=f"celery@{host}").execute()
        return [message.headers["task"] for message in messages]

    def release(self, *hosts: str) -> None:
        """Have *hosts* give back what they hold."""
        for host in hosts:
            for claim in self.registry.claims.of(host):
                self.registry.claims.release(host, claim.id, claim.attempt, "done")

    def settle(self, *hosts: str) -> list[str]:
        """Place and run until nothing is left to do; return the names of the tasks as they ran."""
        ran: list[str] = []
        while True:
            self.release(*hosts)
            self.place()
            new = [name for host in hosts for name in self.run(host)]
            if not new:
                return ran
            ran += new
