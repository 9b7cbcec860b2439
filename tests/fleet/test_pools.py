"""The same promises under every pool."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.fleet.harness import Harness, Process

pytestmark = pytest.mark.fleet


@pytest.fixture(params=["prefork", "threads", "gevent", "solo"])
def host(request: pytest.FixtureRequest, fleet: Harness) -> Process:
    """A host of each pool, up, with a scheduler and a beat beside it."""
    fleet.scheduler()
    fleet.beat()
    host = fleet.worker("one", pool=request.param, slots=1 if request.param == "solo" else 2)
    fleet.up("one", service="journal")
    fleet.wait(lambda: fleet.written("one"), 10, "it ticks")
    return host


def test_hooks_run_once_per_host_in_the_main_process(host: Process, fleet: Harness) -> None:
    assert host.terminate() == 0

    assert [entry["pid"] for entry in fleet.written("one", "init_host")] == [host.pid]
    assert {entry["pid"] for entry in fleet.written("one", "periodic_tasks")} == {host.pid}
    assert [entry["pid"] for entry in fleet.written("one", "cleanup_host")] == [host.pid]


def test_periodic_tasks_get_an_admin_context(host: Process, fleet: Harness) -> None:
    assert host.popen.poll() is None
    assert fleet.written("one")[0]["context"]["is_admin"] is True


def test_what_the_pool_learns_is_reported_with_the_next_tick(host: Process, fleet: Harness) -> None:
    name, pid = fleet.app.send_task("journal.learn", ({"ports": 7},), queue="host.one").get(timeout=20)

    fleet.wait(lambda: fleet.rows("journal")["one"].capabilities == {"ports": 7}, 10, "reported")
    assert name == "one"
    assert (pid == host.pid) == ("prefork" not in host.text.split("concurrency:")[1].splitlines()[0])
    stored = fleet.table.counters()["reports_stored"]
    fleet.wait(lambda: fleet.table.counters()["reports_stored"] > stored + 6, 10, "sent again")
    assert fleet.rows("journal")["one"].capabilities == {"ports": 7}


def test_the_database_answers_in_every_process_of_the_pool(host: Process, fleet: Harness) -> None:
    results = [fleet.app.send_task("journal.database", queue="host.one") for _ in range(6)]

    for result in results:
        _, known = result.get(timeout=20)
        assert ["host", "one"] in known
        assert ["journal", "one"] in known
    assert host.popen.poll() is None
    assert "Traceback" not in host.text


def test_a_replaced_pool_child_keeps_the_hosts_memory(start_fleet: Callable[..., Harness]) -> None:
    fleet = start_fleet()
    fleet.scheduler()
    fleet.beat()
    host = fleet.worker("one", slots=1)
    fleet.up("one", service="journal")
    _, first = fleet.app.send_task("journal.learn", ({"ports": 7},), queue="host.one").get(timeout=20)

    fleet.wait(lambda: fleet.rows("journal")["one"].capabilities == {"ports": 7}, 10, "reported")
    for child in host.children():
        fleet.app.send_task("journal.hold", (0,), queue="host.one").get(timeout=20)
        os.kill(child, signal.SIGKILL)
    _, second = fleet.app.send_task("journal.learn", ({"ports": 8},), queue="host.one").get(timeout=30)

    fleet.wait(lambda: fleet.rows("journal")["one"].capabilities == {"ports": 8}, 10, "reported")
    assert second not in {first, host.pid}
    assert len(fleet.written("one", "init_host")) == 1
