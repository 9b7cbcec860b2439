"""A host's life as the fleet sees it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from managers.db import engine
from managers.db.api import service_get
from tests.fleet.harness import ROOT, Harness, is_gone

pytestmark = pytest.mark.fleet


def test_every_host_is_up_with_the_machines_true_figures(any_fleet: Harness) -> None:
    any_fleet.scheduler()
    any_fleet.worker("one", CELERIAC_LABELS="zone=a,disk=ssd", slots=3)
    any_fleet.worker("two", CELERIAC_LABELS="zone=b")

    any_fleet.up("one", "two")

    environment = {
        **os.environ,
        **{f"CELERIAC_{name.upper()}": value for name, value in any_fleet.settings.items()},
        "CELERIAC_DIR": str(any_fleet.directory),
    }
    said = any_fleet.wait(
        lambda: subprocess.run(
            [sys.executable, "-m", "workers.cli", "hosts", "--json"], env=environment, cwd=ROOT, stdout=subprocess.PIPE,
            check=False,
        ).stdout,
        20,
        "celeriac hosts --json",
    )  # fmt: skip
    rows = {row["host"]: row for row in json.loads(said) if row["service"] == "host"}
    assert {host: row["state"] for host, row in rows.items()} == {"one": "up", "two": "up"}
    known = rows["one"]["capabilities"]
    assert known["cpus"] <= (os.cpu_count() or 1)
    assert known["memory_mb"] <= psutil.virtual_memory().total // 2**20
    assert (known["slots"], known["zone"], known["disk"]) == (3, "a", "ssd")
    assert known["arch"] == os.uname().machine
    assert rows["two"]["capabilities"]["slots"] == 2


def test_a_killed_host_is_stale_within_three_intervals_then_pruned_and_up_again_once_restarted(
    any_fleet: Harness,
) -> None:
    any_fleet.scheduler()
    any_fleet.beat()
    host = any_fleet.worker("one")
    pool = host.children()
    any_fleet.up("one", within=30)

    host.kill()
    killed = any_fleet.table.now()
    stale = any_fleet.wait(lambda: (row := any_fleet.rows()["one"]).state == "stale" and row, 10, "stale")

    assert any_fleet.table.now() - killed <= 3 * any_fleet.heartbeat + 1
    assert 3 * any_fleet.heartbeat <= stale.seen_seconds_ago < 4 * any_fleet.heartbeat
    any_fleet.wait(lambda: "one" not in any_fleet.rows(), 10, "pruned")
    any_fleet.wait(lambda: all(is_gone(pid) for pid in pool), 5, "no orphan of the killed host")
    any_fleet.worker("one")
    again = any_fleet.up("one")["one"]
    reported = any_fleet.table.now() - (again.reported_seconds_ago or 0.0)
    assert reported - again.identity.joined_at <= any_fleet.interval + 2, "and init_host and connecting took their time"


def test_a_host_that_is_restarted_at_once_takes_its_own_name_back(fleet: Harness) -> None:
    fleet.scheduler()
    fleet.beat()
    first = fleet.worker("one")
    before = fleet.up("one")["one"].identity

    first.kill()
    fleet.worker("one")

    fleet.wait(lambda: fleet.rows()["one"].identity.pid != before.pid, 15, "taken over")
    assert fleet.up("one")["one"].identity.boot > before.boot


def test_a_terminated_host_is_gone_at_once_marked_stopped_and_cleaned_up_once(any_fleet: Harness) -> None:
    any_fleet.scheduler()
    any_fleet.beat()
    host = any_fleet.worker("one")
    any_fleet.up("one")
    pool = host.children()

    assert host.terminate() == 0

    assert "one" not in any_fleet.rows()
    assert [entry["pid"] for entry in any_fleet.written("one", "init_host")] == [host.pid]
    assert [entry["pid"] for entry in any_fleet.written("one", "cleanup_host")] == [host.pid]
    assert all(is_gone(pid) for pid in pool)
    engine.use(any_fleet.settings["database_url"])
    record = service_get("host", "one")
    assert record.stopped_at is not None


def test_cleanup_waits_for_the_last_task_and_the_host_drains_meanwhile(fleet: Harness) -> None:
    fleet.scheduler()
    host = fleet.worker("one")
    fleet.up("one")
    path = fleet.directory / "held"
    fleet.app.send_task("journal.hold", (3, str(path)), queue="host.one")
    fleet.wait(path.exists, 10, "the task started")

    host.signal(signal.SIGTERM)
    fleet.wait(lambda: fleet.rows()["one"].state == "draining", 3, "draining")
    host.popen.wait(20)

    assert path.read_text().split() == [
        "started",
        "one",
        path.read_text().split()[2],
        "ended",
        "one",
        path.read_text().split()[5],
    ]
    assert fleet.written("one", "cleanup_host")[0]["at"] >= path.stat().st_mtime


def test_a_host_whose_init_fails_stops_with_the_reason_and_a_non_zero_status(fleet: Harness) -> None:
    host = fleet.worker("one", JOURNAL_FAILS="one")

    assert host.popen.wait(20) != 0

    assert "the disk is not there" in host.text
    assert "Traceback" not in host.text
    assert "one" not in fleet.rows()
    assert fleet.written("one", "cleanup_host") == []


@pytest.mark.parametrize("second_services", ["host,journal", "journal"])
def test_a_second_live_worker_of_the_same_name_is_refused(fleet: Harness, second_services: str) -> None:
    fleet.scheduler()
    fleet.beat()
    first = fleet.worker("one")
    fleet.up("one")

    second = fleet.worker("one", services=second_services)

    assert second.popen.wait(20) != 0
    assert f"pid {first.pid}" in second.text
    assert "CELERIAC_HOST" in second.text
    assert len(fleet.written("one", "init_host")) == 1
    assert fleet.up("one")["one"].identity.pid == first.pid


def test_a_frozen_host_that_was_replaced_stops_itself(fleet: Harness) -> None:
    fleet.scheduler()
    fleet.beat()
    first = fleet.worker("one")
    fleet.up("one")

    first.signal(signal.SIGSTOP)
    second = fleet.worker("one")
    fleet.wait(lambda: fleet.rows()["one"].identity.pid == second.pid, 20, "replaced")
    first.signal(signal.SIGCONT)

    assert first.popen.wait(20) != 0
    assert "another worker took the name one" in first.text
    assert fleet.up("one")["one"].identity.pid == second.pid


def test_several_schedulers_share_the_reports(any_fleet: Harness) -> None:
    any_fleet.scheduler("scheduler-1")
    any_fleet.scheduler("scheduler-2")
    any_fleet.beat()
    hosts = [any_fleet.worker(f"host-{number}", services="journal", slots=1) for number in range(2)]
    any_fleet.up(*[process.name for process in hosts], service="journal")

    any_fleet.processes[0].kill()

    before = any_fleet.table.counters()["reports_stored"]
    any_fleet.wait(lambda: any_fleet.table.counters()["reports_stored"] > before + 4, 15, "reports go on")
    assert {row.state for row in any_fleet.rows("journal").values()} == {"up"}


def test_a_flushed_table_is_not_ready_and_whole_again_within_one_interval(
    start_fleet: Callable[..., Harness], server: Any
) -> None:
    fleet = start_fleet(interval=4, heartbeat=1)
    fleet.scheduler()
    fleet.beat()
    fleet.worker("one")
    fleet.worker("two")
    fleet.up("one", "two")
    fleet.wait(lambda: fleet.table.readiness().ready, 10, "ready")

    fleet.table.redis.flushall()
    flushed = time.monotonic()
    empty = fleet.table.readiness()
    fleet.up("one", "two", within=10)
    fleet.wait(lambda: fleet.table.readiness().ready, 10, "ready again")

    assert time.monotonic() - flushed <= fleet.interval
    assert not empty.ready
    assert "no host has joined" in empty.reason


def test_nothing_is_consumed_before_init_host_is_over(any_fleet: Harness) -> None:
    path = any_fleet.directory / "held"
    any_fleet.app.send_task("journal.hold", (0, str(path)), queue="host.one")
    any_fleet.worker("one", JOURNAL_INIT_TAKES="1.5")

    any_fleet.wait(lambda: path.exists() and "ended" in path.read_text(), 30, "the task ran")

    assert any_fleet.written("one", "init_host")[0]["at"] <= path.stat().st_mtime


def test_a_worker_that_waits_for_redis_at_its_start_can_be_stopped(fleet: Harness, server: Any) -> None:
    server.stop()
    host = fleet.worker("one")
    fleet.wait(lambda: "Trying again every" in host.text, 20, "it waits")

    assert host.terminate(10) != 0

    assert fleet.written("one", "init_host") == []


def test_solo_reports_the_one_slot_it_has(fleet: Harness) -> None:
    fleet.scheduler()
    fleet.worker("one", pool="solo", slots=4)

    assert fleet.up("one")["one"].capabilities["slots"] == 1


def test_a_worker_told_to_quit_leaves_at_once_without_cleaning_up(fleet: Harness) -> None:
    fleet.scheduler()
    host = fleet.worker("one")
    fleet.up("one")
    pool = host.children()
    path = fleet.directory / "held"
    fleet.app.send_task("journal.hold", (60, str(path)), queue="host.one")
    fleet.wait(path.exists, 10, "the task started")

    host.signal(signal.SIGQUIT)
    host.popen.wait(20)

    assert "one" not in fleet.rows()
    assert fleet.written("one", "cleanup_host") == []
    fleet.wait(lambda: all(is_gone(pid) for pid in pool), 5, "no child is left")
