"""A fleet of unlike hosts, and what their own journals say of the work that was placed on them."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from scheduler.claims import Claims
from scheduler.hosts import member_of
from scheduler.pending import Pending
from tests.fleet.conftest import own_fleet
from tests.fleet.harness import PATIENCE, Harness, Process

#: What a task claims that doesn't say otherwise.
SLOT = {"slots": 1}


@dataclass(frozen=True)
class Unlike:
    """A host as a test starts it."""

    pool: str
    slots: int
    labels: Mapping[str, Any]
    services: str = "host"
    #: Tasks for which its pool has room: more than its slots, so that only its claims hold them back.
    room: int = 0

    @property
    def has(self) -> dict[str, Any]:
        return {**self.labels, "slots": self.slots}


EIGHT = {
    "a1": Unlike("prefork", 2, {"zone": "a", "disk": "ssd", "gpus": 2}, "host,render"),
    "a2": Unlike("threads", 4, {"zone": "a", "disk": "hdd", "licences": 1}, room=20),
    "a3": Unlike("threads", 1, {"zone": "a", "disk": "nvme", "gpus": 1}, room=20),
    "b1": Unlike("threads", 3, {"zone": "b", "disk": "ssd", "licences": 3}, "host,render", room=20),
    "b2": Unlike("gevent", 4, {"zone": "b", "gpus": 4, "fast": True}, room=20),
    "b3": Unlike("solo", 1, {"zone": "b"}),
    "c1": Unlike("prefork", 2, {"zone": "c", "disk": "ssd", "gpus": 2}),
    "d1": Unlike("threads", 6, {"disk": "hdd", "licences": 2, "fast": True}, room=20),
}

POOLS = {
    pool: Unlike(pool, slots, {"pool": pool})
    for pool, slots in (("prefork", 4), ("threads", 4), ("gevent", 4), ("solo", 1))
}


@contextmanager
def placing_fleet(request: pytest.FixtureRequest, broker: str, hosts: Mapping[str, Unlike]) -> Iterator[Harness]:
    """A fleet of *hosts*, a scheduler and a beat, with a Redis of its own; all are up and ready."""
    settings = {
        "managers": "managers.host:HostManager,tests.fleet.work:RenderManager",
        "tasks": "tests.fleet.work",
        "start_deadline": "60",
    }
    with own_fleet(request, broker, ("host", "render", "scheduler"), hosts, **settings) as fleet:
        fleet.scheduler()
        fleet.beat()
        for name, host in hosts.items():
            start(fleet, name, host)
        fleet.up(*hosts)
        fleet.wait(lambda: fleet.table.readiness().ready, PATIENCE, "the table can tell who is there")
        yield fleet


def start(fleet: Harness, name: str, host: Unlike) -> Process:
    labels = ",".join(f"{key}={str(value).lower()}" for key, value in host.has.items())
    return fleet.worker(
        name,
        pool=host.pool,
        slots=host.room or host.slots,
        services=host.services,
        CELERIAC_LABELS=labels,
        HAS=json.dumps(host.has),
    )


@contextmanager
def alone(fleet: Harness, host: str) -> Iterator[None]:
    """Let nothing be placed within the block but on *host*."""
    others = [member_of("host", other) for other in fleet.rows() if other != host]
    for member in others:
        fleet.table.disable(member, "for the test")
    yield
    for member in others:
        fleet.table.enable(member)


def ran(fleet: Harness, *words: str) -> list[dict[str, Any]]:
    """Return what hosts wrote of tasks with *words*, or of all, in the order of each host's own journal."""
    entries = [
        json.loads(line) for path in sorted(fleet.journal.glob("*.work")) for line in path.read_text().splitlines()
    ]
    return [entry for entry in entries if not words or entry["word"] in words]


def hosts_of(fleet: Harness, *words: str) -> list[str]:
    """Return the hosts that began tasks with *words*, once for each time, in the order of time."""
    begun = [entry for entry in ran(fleet, *words) if entry["what"] == "begin"]
    return [entry["host"] for entry in sorted(begun, key=lambda entry: entry["at"])]


def assert_satisfied(entries: Collection[Mapping[str, Any]]) -> None:
    """Hold every entry's host to what the task required, by Python's own reading of the expression."""
    for entry in entries:
        assert is_satisfied(entry["asked"].get("requires"), entry["has"]), entry


def is_satisfied(requires: Any, has: Mapping[str, Any]) -> bool:
    if requires is None:
        return True
    if isinstance(requires, dict):
        return all(has.get(key) == value for key, value in requires.items())
    return bool(eval(requires, {"__builtins__": {}}, defaultdict(Missing, has)))


class Missing:
    """A capability that a host doesn't have: no comparison with it holds."""

    def __eq__(self, other: object) -> bool:
        return False

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return False


def assert_within(entries: Collection[Mapping[str, Any]]) -> None:
    """Add up, entry by entry of each host's journal, what was claimed by what ran there; never more than it has."""
    running: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        sums = running[entry["host"]]
        sign = 1 if entry["what"] == "begin" else -1
        for resource, amount in {**SLOT, **entry["asked"].get("claims", {})}.items():
            sums[resource] += sign * amount
            assert sums[resource] <= entry["has"].get(resource, 0), (entry, sums)


def assert_once(entries: Collection[Mapping[str, Any]], ids: Collection[str]) -> None:
    """Hold that each of *ids* began once and ended once, and nothing else did."""
    for what in ("begin", "end"):
        counted = Counter(entry["id"] for entry in entries if entry["what"] == what)
        asked = Counter([*ids])
        assert counted == asked, (what, counted - asked, asked - counted)


def wait_until_over(fleet: Harness, within: float = PATIENCE) -> None:
    """Wait until no request waits and no claim is held."""
    claims, pending = Claims(fleet.table), Pending(fleet.table)
    fleet.wait(lambda: not claims.all() and not pending.all(), within, f"all is over: {claims.all()} {pending.all()}")
