"""Whatever workers, reports, operators and time do to the table, it agrees with a model of a page."""

import math
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from managers.reports import Report
from scheduler.connections import connect
from scheduler.hosts import Identity, Joined
from scheduler.table import Table

CAPABILITIES = st.sampled_from([None, {}, {"gb": 1}, {"gb": 2.5, "zone": "a"}, {"gb": "x", "models": ["a"]}])


@dataclass
class Life:
    """One life of one worker."""

    instance: str
    members: tuple[str, ...]
    heartbeat: int
    interval: int
    boot: int = 0
    sequence: int = 0


@dataclass
class Row:
    """What the model holds of one member."""

    life: Life
    boot: int
    stale_at: float
    joined_at: float
    sequence: int = -1
    known: int = -1
    at: float | None = None
    interval: float = 0
    capabilities: dict[str, Any] = field(default_factory=dict)
    draining: bool = False


class TableMachine(RuleBasedStateMachine):
    """Drives a table and the model side by side."""

    url = "memory://"
    lives = Bundle("lives")
    reports = Bundle("reports")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.client: Any = connect(self.url)
        self.table = Table(self.client, fleet=f"model-{uuid.uuid4()}", now=lambda: self.now)
        self.rows: dict[str, Row] = {}
        self.disabled: set[str] = set()
        self.since: float | None = None
        self.counted = dict.fromkeys(("reports_stored", "reports_old", "reports_unknown", "hosts_pruned"), 0)

    def teardown(self) -> None:
        self.flush()
        self.client.close()

    def join(self, life: Life, *, boot: int) -> bool:
        """Join in both; return whether the names were taken."""
        held = [self.rows[member] for member in life.members if member in self.rows]
        is_free = all(row.life is life or row.stale_at <= self.now for row in held)
        identity = Identity(life.instance, "vm", 1, 2.5, "0.1.0", life.heartbeat, life.interval)

        answer = self.table.join(identity, life.members, boot=boot)

        assert isinstance(answer, Joined) is is_free
        if isinstance(answer, Joined):
            assert answer.boot == boot or (
                not boot and answer.boot == max([math.floor(self.now * 1000), *(row.boot + 1 for row in held)])
            )
            life.boot = answer.boot
            self.since = self.now if self.since is None else self.since
            for member in life.members:
                fresh = Row(life, life.boot, self.now + 3 * life.heartbeat, self.now)
                known = self.rows.get(member)
                if boot and known is not None:
                    fresh.sequence, fresh.known, fresh.at = known.sequence, known.known, known.at
                    fresh.interval, fresh.capabilities = known.interval, known.capabilities
                self.rows[member] = fresh
        return is_free

    @initialize(target=lives)
    def first(self) -> Life:
        life = Life("first", ("volume/a", "network/a"), 10, 60)
        self.join(life, boot=0)
        return life

    @rule(
        target=lives,
        host=st.sampled_from("ab"),
        services=st.sampled_from([("volume",), ("network",), ("volume", "network")]),
        heartbeat=st.sampled_from([5, 10]),
        interval=st.sampled_from([20, 60]),
    )
    def start(self, host: str, services: tuple[str, ...], heartbeat: int, interval: int) -> Any:
        life = Life(uuid.uuid4().hex, tuple(f"{service}/{host}" for service in services), heartbeat, interval)
        return life if self.join(life, boot=0) else multiple()

    @rule(life=lives)
    def beat(self, life: Life) -> None:
        held = [self.rows.get(member) for member in life.members]
        expected = "ok"
        if any(row is not None and row.life is not life for row in held):
            expected = "replaced"
        elif None in held:
            expected = "unknown"

        assert self.table.heartbeat(life.instance, life.heartbeat, life.members) == (self.now, expected)

        if expected == "ok":
            for member in life.members:
                self.rows[member].stale_at = self.now + 3 * life.heartbeat
        elif expected == "unknown":
            self.join(life, boot=life.boot)

    @rule(target=reports, life=lives, capabilities=CAPABILITIES)
    def report(self, life: Life, capabilities: dict[str, Any] | None) -> Report:
        life.sequence += 1
        host = life.members[0].split("/")[1]
        told = dict.fromkeys((member.split("/")[0] for member in life.members), capabilities)
        return Report(host, life.boot, life.sequence, life.interval, "0.1.0", told)

    @rule(sent=st.lists(reports, max_size=3))
    def deliver(self, sent: list[Report]) -> None:
        words = []
        for report in sent:
            for service, capabilities in report.services.items():
                row = self.rows.get(f"{service}/{report.host}")
                if row is None or row.boot != report.boot:
                    words.append("unknown")
                elif report.sequence <= (row.sequence if capabilities is None else row.known):
                    words.append("old")
                else:
                    words.append("stored")
                    if capabilities is not None:
                        row.capabilities, row.known = capabilities, report.sequence
                    if report.sequence > row.sequence:
                        row.sequence, row.at, row.interval = report.sequence, self.now, report.interval
                self.counted[f"reports_{words[-1]}"] += 1

        assert [word for _, _, word in self.table.store(sent)] == words

    @rule(life=lives)
    def drain(self, life: Life) -> None:
        held = [member for member in life.members if member in self.rows and self.rows[member].life is life]
        assert self.table.drain(life.instance, life.members, "stopping") == len(held)
        for member in held:
            self.rows[member].draining = True

    @rule(life=consumes(lives))
    def leave(self, life: Life) -> None:
        held = [member for member in life.members if member in self.rows and self.rows[member].life is life]
        assert self.table.leave(life.instance, life.members) == len(held)
        for member in held:
            del self.rows[member]

    @rule(life=consumes(lives))
    def kill(self, life: Life) -> None:
        """Say nothing at all any more."""

    @rule(seconds=st.sampled_from([0.5, 1, 10, 15, 29.5, 30, 30.5, 60, 61, 180]))
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def prune(self) -> None:
        gone = {member for member, row in self.rows.items() if self.now - row.stale_at > 3 * row.life.heartbeat}

        assert {member for member, _ in self.table.prune()} == gone

        self.counted["hosts_pruned"] += len(gone)
        for member in gone:
            del self.rows[member]

    @rule(member=st.sampled_from(["volume/a", "network/b"]), is_disabled=st.booleans())
    def disable(self, member: str, is_disabled: bool) -> None:  # noqa: FBT001
        if is_disabled:
            self.table.disable(member, "why")
            self.disabled.add(member)
        else:
            self.table.enable(member)
            self.disabled.discard(member)

    @rule()
    def flush(self) -> None:
        for key in self.client.keys(f"{self.table._prefix}*"):
            self.client.delete(key)
        self.rows, self.disabled, self.since = {}, set(), None
        self.counted = dict.fromkeys(self.counted, 0)

    def state(self, member: str, row: Row) -> str:
        last = row.joined_at if row.at is None else row.at
        interval = row.life.interval if row.at is None else row.interval
        if row.stale_at <= self.now or self.now - last > 3 * interval:
            return "stale"
        if row.draining:
            return "draining"
        return "disabled" if member in self.disabled else "up"

    @invariant()
    def rows_agree(self) -> None:
        hosts, readiness = self.table.snapshot()
        found = {f"{host.service}/{host.host}": (host.state, host.capabilities) for host in hosts}

        assert found == {member: (self.state(member, row), row.capabilities) for member, row in self.rows.items()}
        assert readiness.ready or self.since is None or self.now - self.since < 60
        if self.since is None:
            assert not readiness.ready

    @invariant()
    def the_aggregate_agrees(self) -> None:
        up = [
            (member.split("/")[0], row.capabilities["gb"])
            for member, row in self.rows.items()
            if self.state(member, row) == "up" and "gb" in row.capabilities
        ]
        found = self.table.aggregate()
        for service in ("volume", "network"):
            values = [value for name, value in up if name == service]
            if len({isinstance(value, str) for value in values}) == 1:
                assert found[f"{service}.gb"] == (min(values), max(values))
            else:
                assert f"{service}.gb" not in found

    @invariant()
    def the_counters_agree(self) -> None:
        assert self.table.counters() == {name: count for name, count in self.counted.items() if count}

    @invariant()
    def nothing_is_left_of_who_is_gone(self) -> None:
        for key in ("hosts", "reports", "capabilities", "draining"):
            assert set(self.client.hkeys(f"{self.table._prefix}{key}")) <= set(self.rows)
        assert set(self.client.zrange(f"{self.table._prefix}presence", 0, -1)) == set(self.rows)


@pytest.mark.parametrize(("kind", "examples"), [("memory", 60), ("valkey", 15)])
def test_the_table_agrees_with_the_model(kind: str, examples: int, request: pytest.FixtureRequest) -> None:
    url = f"memory://{uuid.uuid4()}" if kind == "memory" else request.getfixturevalue("valkey_url")

    class Machine(TableMachine):
        pass

    Machine.url = url
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
