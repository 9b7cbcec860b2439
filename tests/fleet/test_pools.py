"""The same promises under every pool."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.fleet.harness import BROKER, PATIENCE, Harness, Process

pytestmark = pytest.mark.fleet

POOLS = ("prefork", "threads", "gevent", "solo")


@pytest.fixture
def hosts(fleet: Harness) -> dict[str, Process]:
    """One host of each pool, all up and ticking; each has its pool's name."""
    started = {process.name for process in fleet.processes if process.popen.poll() is None}
    for pool in POOLS:
        if pool not in started:
            fleet.worker(pool, pool=pool, slots=2)
    fleet.up(*POOLS, service="journal")
    fleet.wait(lambda: all(fleet.written(pool) for pool in POOLS), PATIENCE, "all tick")
    return {pool: fleet.process(pool) for pool in POOLS}


@pytest.fixture(scope="module")
def fleet(standing_fleets: Callable[..., Harness]) -> Harness:
    """The module's fleet, whose hosts stay from test to test."""
    return standing_fleets(BROKER)


def test_periodic_tasks_get_an_admin_context(hosts: dict[str, Process], fleet: Harness) -> None:
    assert all(fleet.written(pool)[0]["context"]["is_admin"] is True for pool in hosts)


def test_what_the_pool_learns_is_reported_with_the_next_tick(hosts: dict[str, Process], fleet: Harness) -> None:
    results = {
        pool: fleet.app.send_task("journal.learn", ({"ports": 7},), queue=f"host.{pool}").get(timeout=PATIENCE)
        for pool in hosts
    }

    def known() -> list[dict[str, Any]]:
        return [fleet.rows("journal")[pool].capabilities for pool in hosts]

    fleet.wait(lambda: known() == [{"ports": 7}] * len(hosts), PATIENCE, "reported")
    for pool, (name, pid) in results.items():
        assert name == pool
        assert (pid == hosts[pool].pid) == ("prefork" not in hosts[pool].text.split("concurrency:")[1].splitlines()[0])
    first = {pool: fleet.reported_at(pool) for pool in hosts}
    fleet.wait(
        lambda: all(fleet.reported_at(pool) > first[pool] + 1.5 * fleet.interval for pool in hosts),
        PATIENCE,
        "sent again",
    )
    assert known() == [{"ports": 7}] * len(hosts)


def test_the_database_answers_in_every_process_of_the_pool(hosts: dict[str, Process], fleet: Harness) -> None:
    results = [fleet.app.send_task("journal.database", queue=f"host.{pool}") for pool in hosts for _ in range(6)]

    for result in results:
        _, known = result.get(timeout=PATIENCE)
        for pool in hosts:
            assert ["host", pool] in known
            assert ["journal", pool] in known


def test_solo_works_with_a_warning_and_reports_the_one_slot_it_has(hosts: dict[str, Process], fleet: Harness) -> None:
    assert "solo pool runs tasks in the main thread" in hosts["solo"].text
    assert fleet.up("solo")["solo"].capabilities["slots"] == 1


def test_hooks_run_once_per_host_in_the_main_process(hosts: dict[str, Process], fleet: Harness) -> None:
    for host in hosts.values():
        host.signal(signal.SIGTERM)
    assert {pool: host.popen.wait(PATIENCE) for pool, host in hosts.items()} == dict.fromkeys(hosts, 0)

    for pool, host in hosts.items():
        assert [entry["pid"] for entry in fleet.written(pool, "init_host")] == [host.pid]
        assert {entry["pid"] for entry in fleet.written(pool, "periodic_tasks")} == {host.pid}
        assert [entry["pid"] for entry in fleet.written(pool, "cleanup_host")] == [host.pid]


def test_a_replaced_pool_child_keeps_the_hosts_memory(standing: Harness) -> None:
    host = standing.worker("reborn", "--max-tasks-per-child", "1", slots=1)
    standing.up("reborn", service="journal")
    pids = [standing.app.send_task("journal.learn", ({"ports": 7},), queue="host.reborn").get(timeout=PATIENCE)[1]]

    # first the pool replaces its child by itself
    standing.wait(lambda: standing.rows("journal")["reborn"].capabilities == {"ports": 7}, PATIENCE, "reported")
    pids += [standing.app.send_task("journal.learn", ({"ports": 8},), queue="host.reborn").get(timeout=PATIENCE)[1]]
    standing.wait(lambda: standing.rows("journal")["reborn"].capabilities == {"ports": 8}, PATIENCE, "reported")
    for child in standing.wait(lambda: set(host.children()) - set(pids), PATIENCE, "a third child"):
        os.kill(child, signal.SIGKILL)
        pids.append(child)
    pids += [standing.app.send_task("journal.learn", ({"ports": 9},), queue="host.reborn").get(timeout=PATIENCE)[1]]

    standing.wait(lambda: standing.rows("journal")["reborn"].capabilities == {"ports": 9}, PATIENCE, "reported")
    assert len({host.pid, *pids}) == 5
    assert len(standing.written("reborn", "init_host")) == 1
