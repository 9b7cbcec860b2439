"""Work is placed on hosts that have what it asks for, never on more than they have; what finds no host waits."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from celery.exceptions import TaskRevokedError

from scheduler.errors import NoValidHost
from scheduler.hosts import member_of
from scheduler.pending import Pending
from tests.fleet import work
from tests.fleet.harness import BROKER, PATIENCE, Harness
from tests.fleet.placement import (
    EIGHT,
    assert_once,
    assert_satisfied,
    assert_within,
    hosts_of,
    placing_fleet,
    ran,
    wait_until_over,
)

pytestmark = pytest.mark.fleet

#: Tasks of the mixed load and the most seconds that one takes; and those that wait for one host.
LOAD, SECONDS = int(os.environ.get("CELERIAC_TEST_PLACEMENT_LOAD", "400")), 0.1
PARKED = int(os.environ.get("CELERIAC_TEST_PLACEMENT_PARKED", "100"))
CLIENTS = 4


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest) -> Iterator[Harness]:
    with placing_fleet(request, BROKER, EIGHT) as fleet:
        yield fleet


@pytest.fixture
def word(request: pytest.FixtureRequest) -> str:
    """A word that no other test uses."""
    name: str = request.node.name
    return name


def percentile(figures: list[float], part: float) -> float:
    return sorted(figures)[int(part * (len(figures) - 1))]


@pytest.mark.timeout(900)
def test_a_mixed_load_runs_once_each_where_it_is_satisfied_and_within_what_hosts_have(fleet: Harness) -> None:
    clients = fleet.run("clients", "tests.fleet.clients", str(CLIENTS), str(LOAD // CLIENTS), str(SECONDS))

    assert clients.popen.wait(800) == 0, clients.text[-2000:]

    lines = [line for path in fleet.journal.glob("client-*") for line in path.read_text().splitlines()]
    sent = {told["id"]: told for told in map(json.loads, lines)}
    assert len(sent) == LOAD
    entries = [entry for entry in ran(fleet) if entry["id"] in sent]
    assert_once(entries, sent)
    assert_satisfied(entries)
    assert_within(entries)
    assert {entry["host"] for entry in entries} == set(EIGHT)
    wait_until_over(fleet)
    begun = {entry["id"]: entry["at"] for entry in entries if entry["what"] == "begin"}
    to_begin = [begun[task_id] - told["at"] for task_id, told in sent.items()]
    to_result = [told["done"] - told["at"] for told in sent.values()]
    took = max(told["done"] for told in sent.values()) - min(told["at"] for told in sent.values())
    print(  # noqa: T201  # the figures of the long form
        f"\n{LOAD} tasks in {took:.1f} s, {LOAD / took:.0f}/s; seconds from submission to begin"
        f" p50 {percentile(to_begin, 0.5):.2f} p99 {percentile(to_begin, 0.99):.2f}, to result"
        f" p50 {percentile(to_result, 0.5):.2f} p99 {percentile(to_result, 0.99):.2f};"
        f" by host {dict(sorted(Counter(entry['host'] for entry in entries if entry['what'] == 'begin').items()))}"
        f" {fleet.table.counters()}"
    )


@pytest.mark.timeout(300)
def test_parked_tasks_drain_at_the_speed_of_the_host_once_it_is_enabled(fleet: Harness, word: str) -> None:
    seconds, slots = 0.05 if PARKED <= 100 else 0.2, EIGHT["d1"].slots
    fleet.table.disable(member_of("host", "d1"), "to park")
    results = [work.do.apply_async((word, seconds), only="d1") for _ in range(PARKED)]
    fleet.wait(lambda: len(Pending(fleet.table).all(10 * PARKED)) == PARKED, PATIENCE, "all are parked")
    assert ran(fleet, word) == []

    enabled = time.time()
    fleet.table.enable(member_of("host", "d1"))

    wait_until_over(fleet, 200)
    entries = ran(fleet, word)
    assert_once(entries, [result.id for result in results])
    assert_within(entries)
    assert {entry["host"] for entry in entries} == {"d1"}
    took = max(entry["at"] for entry in entries) - enabled
    assert "requests_placed_by_sweep" not in fleet.table.counters()
    # the figures of the long form
    print(f"\n{PARKED} parked: {PARKED / took:.0f}/s; {slots} slots of {seconds} s could do {slots / seconds:.0f}/s")  # noqa: T201


def test_what_is_revoked_while_it_waits_never_runs(fleet: Harness, word: str) -> None:
    waiting = work.do.apply_async((word,), requires="zone == 'nowhere'")
    behind = work.do.apply_async((word,), requires="zone == 'nowhere'")
    fleet.wait(lambda: len(Pending(fleet.table).all()) == 2, PATIENCE, "both wait")

    waiting.revoke()
    behind.revoke()

    for revoked in (waiting, behind):
        with pytest.raises(TaskRevokedError):
            revoked.get(timeout=PATIENCE)
        assert revoked.state == "REVOKED"
    wait_until_over(fleet)
    assert ran(fleet, word) == []


def test_what_nobody_can_take_in_time_fails_with_the_reasons(fleet: Harness, word: str) -> None:
    waiting = work.do.apply_async((word,), requires="zone == 'a' and fast", claims={"gpus": 1}, placement_timeout=0.5)

    with pytest.raises(NoValidHost) as raised:
        waiting.get(timeout=PATIENCE)

    assert raised.value.reasons == ["6 fast", "2 zone == 'a'"]
    assert str(raised.value).startswith("no valid host for work.do within ")
    assert "0/8 hosts: 6 fast, 2 zone == 'a'; nearest: " in str(raised.value)
    wait_until_over(fleet)
    assert ran(fleet, word) == []


def test_a_plain_task_beside_placed_ones_runs_on_any_host_unplaced(fleet: Harness, word: str) -> None:
    recorded = fleet.table.counters()["requests_recorded"]
    placed = [work.do.apply_async((word, 0.05), requires="zone == 'b'") for _ in range(10)]

    plain = [work.plain.delay(f"{word}-plain", 0.05) for _ in range(30)]

    hosts = Counter(result.get(timeout=PATIENCE) for result in plain)
    assert {result.get(timeout=PATIENCE) for result in placed} <= {"b1", "b2", "b3"}
    assert len(hosts) > 3
    assert Counter(hosts_of(fleet, f"{word}-plain")) == hosts
    assert fleet.table.counters()["requests_recorded"] == recorded + len(placed)
    assert work.do.apply_async((word,), queue="host.a2").get(timeout=PATIENCE) == "a2"
    assert fleet.table.counters()["requests_recorded"] == recorded + len(placed)


def test_a_method_asked_where_runs_on_a_host_that_satisfies(fleet: Harness) -> None:
    whoami = work.RenderManager.whoami

    assert {whoami.where("zone == 'b'").call() for _ in range(4)} == {"b1"}
    assert {whoami.where(claims={"gpus": 2}).call() for _ in range(4)} == {"a1"}
    with pytest.raises(NoValidHost, match=r"0/2 hosts: 2 zone == 'c'"):
        whoami.where("zone == 'c'", placement_timeout=0.2).call()
    wait_until_over(fleet)


def test_a_host_that_drains_gets_nothing_new_and_ends_what_it_has(fleet: Harness, word: str) -> None:
    running = work.do.apply_async((word, 2), only="c1")
    fleet.wait(lambda: hosts_of(fleet, word), PATIENCE, "it runs")
    row = fleet.rows()["c1"]

    assert fleet.table.drain(row.identity.instance, (member_of("host", "c1"),), "for the test")

    others = [work.do.apply_async((word,), prefers={"zone == 'c'": 100}) for _ in range(4)]
    assert "c1" not in {result.get(timeout=PATIENCE) for result in others}
    assert running.get(timeout=PATIENCE) == "c1"
    fleet.table.redis.hdel(fleet.table.key("draining"), member_of("host", "c1"))
    wait_until_over(fleet)
