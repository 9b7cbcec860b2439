"""Work is placed on hosts that have what it asks for, never on more than they have; what finds no host waits."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from scheduler.claims import Claims
from scheduler.errors import NoValidHost
from scheduler.hosts import member_of
from scheduler.pending import Pending
from tests.fleet import work
from tests.fleet.harness import BROKER, Harness
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

#: Seconds within which what concerns a few tasks is done.
SOON = 20


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
def test_a_mixed_load_runs_once_each_where_it_is_satisfied_and_within_what_hosts_have(
    fleet: Harness, record_testsuite_property: Any
) -> None:
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
    print(
        f"\n{LOAD} tasks in {took:.1f} s, {LOAD / took:.0f}/s; seconds from submission to begin"
        f" p50 {percentile(to_begin, 0.5):.2f} p99 {percentile(to_begin, 0.99):.2f}, to result"
        f" p50 {percentile(to_result, 0.5):.2f} p99 {percentile(to_result, 0.99):.2f};"
        f" by host {dict(sorted(Counter(entry['host'] for entry in entries if entry['what'] == 'begin').items()))}"
        f" {fleet.table.counters()}"
    )
