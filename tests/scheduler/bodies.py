"""Hosts and schedulers as placement sees them, without Celery: what they say to the table, and what it answers."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from managers.reports import Report
from scheduler.claims import Claim, Claimed, Claims
from scheduler.conclusions import Conclusions
from scheduler.events import Events
from scheduler.filters import No
from scheduler.hosts import Identity, Joined
from scheduler.manager import SchedulerManager
from scheduler.pending import Failing, Pending, unit_shape
from scheduler.placer import Placer
from scheduler.requests import Request, check_options
from scheduler.select import Selection, Selector
from scheduler.snapshot import Candidate, Snapshot
from scheduler.table import Table

SERVICES = ("host", "render")
HEARTBEAT, INTERVAL = 10.0, 60.0


@dataclass
class Body:
    """One life of a host's worker: what it was sent, what it runs, what it says.

    ``accepted`` are claims whose task was handed to the pool and has not asked to begin; ``untold`` are ends of which
    the table has not heard.
    """

    table: Table
    host: str
    instance: str
    boot: int = 0
    sequence: int = 0
    reports_at: float = 0.0
    starts: int = 0
    running: dict[str, dict[str, Any]] = field(default_factory=dict)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    untold: list[tuple[dict[str, Any], str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.claims = Claims(self.table)
        self.scheduler = SchedulerManager("s", table=self.table)
        self.members = [f"{service}/{self.host}" for service in SERVICES]
        self.identity = Identity(self.instance, "vm", 1, 2.5, "0.1.0", HEARTBEAT, INTERVAL)

    def join(self, *replaces: str) -> bool:
        """Take the names, with the boot it has or a new one."""
        answer = self.table.join(self.identity, self.members, boot=self.boot, replaces=replaces)
        if isinstance(answer, Joined):
            self.boot = answer.boot
        return isinstance(answer, Joined)

    def beat(self) -> str:
        return self.table.heartbeat(self.instance, HEARTBEAT, self.members)[1]

    def leave(self) -> int:
        return self.table.leave(self.instance, self.members)

    def drain(self) -> int:
        return self.table.drain(self.instance, self.members, "its worker is stopping")

    def say(self, of_host: Mapping[str, Any] | None, of_render: Mapping[str, Any] | None, **changes: Any) -> Report:
        """Return the next report: capabilities, and the claims that it holds now."""
        self.sequence += 1
        held = [*self.running.values(), *self.accepted, *(claim for claim, _, _ in self.untold)]
        told: dict[str, Any] = {
            "host": self.host, "boot": self.boot, "sequence": self.sequence, "interval": INTERVAL, "version": "0.1.0",
            "services": {"host": of_host, "render": of_render}, "at": self.table.now(), "claims": tuple(held),
        }  # fmt: skip
        return Report(**{**told, **changes})

    def report(
        self, of_host: Mapping[str, Any] | None, of_render: Mapping[str, Any] | None = None, **changes: Any
    ) -> Any:
        """Report as the scheduler takes it in."""
        return self.scheduler.update_service_capabilities([self.say(of_host, of_render, **changes).to_dict()])

    def start(self, claim: Mapping[str, Any], *, by: str | None = None) -> str:
        """Begin what was sent if the table says "go"; each beginning has a word of its own unless it is said."""
        self.starts += 1
        word = self.claims.start(self.host, claim["id"], claim["attempt"], by=by or f"{self.instance}-{self.starts}")
        if word == "go":
            self.running[field_of(claim)] = dict(claim)
        return word

    def end(self, claim: Mapping[str, Any], outcome: str = "done", then: str = "over", **more: Any) -> bool:
        """End what runs, and tell the table."""
        self.running.pop(field_of(claim), None)
        return self.claims.release(self.host, claim["id"], claim["attempt"], outcome, then=then, **more)


class Watched:
    """A selector that counts its calls, and lets the test act between its choice and the claim."""

    def __init__(self) -> None:
        self.selector = Selector()
        self.calls = 0
        self.then: Callable[[], object] | None = None
        self._rng = random.Random(4)

    def refusals(self, request: Request, candidate: Candidate) -> Iterator[No]:
        return self.selector.refusals(request, candidate)

    def select(self, request: Request, snapshot: Snapshot, *, count: int = 1, **_: Any) -> Selection:
        self.calls += 1
        selection = self.selector.select(request, snapshot, count=count, rng=self._rng)
        then, self.then = self.then, None
        if then is not None:
            then()
        return selection


class Scheduler:
    """A placer with its own events, snapshots and revoked tasks; ``sent`` is what it put into the hosts' queues."""

    def __init__(self, table: Table, *, revoked: Callable[[], Iterable[str]] = tuple) -> None:
        self.table = table
        self.selector = Watched()
        self.sent: list[tuple[Claim, Any]] = []
        self.concluded: list[Failing] = []
        self.events = Events(table)
        self.placer = Placer(
            table,
            dispatch=lambda claim, message: self.dispatch(claim, message),  # noqa: PLW0108  # a test may replace it
            selector=self.selector,  # type: ignore[arg-type]
            revoked=lambda: set(revoked()),
        )  # fmt: skip
        self.conclusions = Conclusions(table, lambda failing: self.conclude(failing))  # noqa: PLW0108

    def dispatch(self, claim: Claim, message: Any) -> None:
        self.sent.append((claim, message))

    def conclude(self, failing: Failing) -> None:
        self.concluded.append(failing)

    def turn(self) -> list[Claim]:
        """Read events and place, then tell what failed, as a scheduler's threads do; return what was sent."""
        before = len(self.sent)
        self.placer.turn(is_anything_new=bool(self.events.read()))
        self.conclusions.turn()
        return [claim for claim, _ in self.sent[before:]]


def request(name: str, **asked: Any) -> Request:
    """Return a request for the service ``render`` whose task is called *name*; *asked* as a task would say it."""
    own = {key: asked.pop(key) for key in ("is_late", "expires_at", "gang", "service") if key in asked}
    options = check_options(asked)
    return Request(id=f"r-{name}", task_id=f"t-{name}", task="tasks.render", **{"service": "render", **own}, **options)


def submit(table: Table, *requests: Request, **when: Any) -> str | None:
    """Record *requests*, several as a gang; return their shape if somebody must be told."""
    return Pending(table).submit([(one, {"body": one.id}) for one in requests], **when)


def gang(*names: str, **asked: Any) -> list[Request]:
    """Return requests that are placed together."""
    return [request(name, gang=f"r-{names[0]}", **asked) for name in names]


def field_of(claim: Mapping[str, Any]) -> str:
    return f"{claim['id']}:{claim['attempt']}"


def keys_of(table: Table) -> dict[str, Any]:
    """Return all that the table holds, by the names of its keys."""
    prefix = table.key("")
    client: Any = table.redis
    names = sorted(client.keys(f"{prefix}*"))
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.type(name)
    kinds = pipeline.execute()
    read: dict[str, Callable[[str], Any]] = {
        "hash": pipeline.hgetall, "zset": lambda name: pipeline.zrange(name, 0, -1, withscores=True),
        "string": pipeline.get, "list": lambda name: pipeline.lrange(name, 0, -1), "set": pipeline.smembers,
        "stream": pipeline.xlen,
    }  # fmt: skip
    for name, kind in zip(names, kinds, strict=True):
        read[kind](name)
    found = {}
    for name, kind, value in zip(names, kinds, pipeline.execute(), strict=True):
        found[name.removeprefix(prefix)] = dict(value) if kind == "zset" else value
    return found


def summed(claims: Sequence[Claim]) -> dict[str, dict[str, int]]:
    """Return what *claims* withdraw, by member and resource."""
    sums: dict[str, dict[str, int]] = {}
    for claim in claims:
        for member, resources in claim.amounts.items():
            of = sums.setdefault(member, {})
            for resource, amount in resources.items():
                of[resource] = of.get(resource, 0) + amount
    return sums


def candidates(table: Table) -> list[Candidate]:
    """Return the hosts of ``render`` as the table has them now, whatever their state."""
    rows, readiness = table.snapshot()
    return Snapshot(rows, readiness).candidates("render")


def claim(table: Table, *requests: Request, offered: Sequence[Candidate] | None = None, **options: Any) -> Claimed:
    """Claim for *requests*, a unit, one of the *offered* hosts, by default of all in their order."""
    first = requests[0]
    return Claims(table).claim(
        [one.id for one in requests], unit_shape(first, len(requests)),
        candidates(table) if offered is None else offered, first.claims,
        start_deadline=first.start_deadline, sticky=first.sticky, **options,
    )  # fmt: skip


def placed(table: Table, name: str = "1", **asked: Any) -> Any:
    """Submit a request and claim a host for it; return what its message carries."""
    one = request(name, **asked)
    submit(table, one)
    (place,) = claim(table, one).places
    return next(held for held in Claims(table).of(place.host) if held.id == one.id).to_header()


def running(table: Table, body: Body, name: str = "1", **asked: Any) -> Any:
    """Have *body* begin a request; return what its message carries."""
    header = placed(table, name, **asked)
    assert body.start(header) == "go"
    return header
