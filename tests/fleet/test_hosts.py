"""A host's life as the fleet sees it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from managers.db import engine
from managers.db.api import service_get
from scheduler.hosts import Host
from tests.fleet.harness import PATIENCE, ROOT, Harness, Server, is_gone

pytestmark = pytest.mark.fleet


def test_every_host_is_up_with_the_machines_true_figures(any_standing: Harness) -> None:
    any_standing.worker("one", CELERIAC_LABELS="zone=a,disk=ssd", slots=3)
    any_standing.worker("two", CELERIAC_LABELS="zone=b")

    any_standing.up("one", "two")

    environment = {
        **os.environ,
        **{f"CELERIAC_{name.upper()}": value for name, value in any_standing.settings.items()},
        "CELERIAC_DIR": str(any_standing.directory),
    }
    said = any_standing.wait(
        lambda: subprocess.run(
            [sys.executable, "-m", "workers.cli", "hosts", "--json"], env=environment, cwd=ROOT, stdout=subprocess.PIPE,
            check=False,
        ).stdout,
        PATIENCE,
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
    any_standing: Harness,
) -> None:
    host = any_standing.worker("killed")
    any_standing.up("killed")
    pool = host.children()

    host.kill()
    seen: list[Host] = []

    def is_pruned() -> bool:
        rows = any_standing.rows()
        seen.extend(rows[name] for name in rows if name == "killed")
        return "killed" not in rows

    any_standing.wait(is_pruned, PATIENCE, "pruned")
    assert seen[-1].state == "stale"
    for row in seen:
        is_silent = any(reason.startswith("presence") for reason in row.reasons)
        assert is_silent == (row.seen_seconds_ago >= 3 * any_standing.heartbeat), row
    any_standing.wait(lambda: all(is_gone(pid) for pid in pool), PATIENCE, "no orphan of the killed host")
    any_standing.worker("killed")
    again = any_standing.up("killed")["killed"]
    reported = any_standing.table.now() - (again.reported_seconds_ago or 0.0)
    assert reported - again.identity.joined_at <= any_standing.interval + 10, (
        "and init_host and connecting took their time"
    )


def test_a_host_that_is_restarted_at_once_takes_its_own_name_back(standing: Harness) -> None:
    first = standing.worker("restarted")
    before = standing.up("restarted")["restarted"].identity

    first.kill()
    standing.worker("restarted")

    standing.wait(lambda: standing.holder("restarted") not in {None, before.pid}, PATIENCE, "taken over")
    assert standing.up("restarted")["restarted"].identity.boot > before.boot


def test_a_terminated_host_is_gone_at_once_marked_stopped_and_cleaned_up_once(any_standing: Harness) -> None:
    host = any_standing.worker("terminated")
    any_standing.up("terminated")
    pool = host.children()

    assert host.terminate() == 0

    assert "terminated" not in any_standing.rows()
    assert [entry["pid"] for entry in any_standing.written("terminated", "init_host")] == [host.pid]
    assert [entry["pid"] for entry in any_standing.written("terminated", "cleanup_host")] == [host.pid]
    assert all(is_gone(pid) for pid in pool)
    engine.use(any_standing.settings["database_url"])
    record = service_get("host", "terminated")
    assert record.stopped_at is not None


def test_cleanup_waits_for_the_last_task_and_the_host_drains_meanwhile(standing: Harness, tmp_path: Path) -> None:
    host = standing.worker("busy")
    standing.up("busy")
    path = tmp_path / "held"
    standing.app.send_task("journal.hold", (3, str(path)), queue="host.busy")
    standing.wait(path.exists, PATIENCE, "the task started")

    host.signal(signal.SIGTERM)
    standing.wait(lambda: standing.rows()["busy"].state == "draining", PATIENCE, "draining")
    host.popen.wait(PATIENCE)

    assert path.read_text().split() == [
        "started",
        "busy",
        path.read_text().split()[2],
        "ended",
        "busy",
        path.read_text().split()[5],
    ]
    assert standing.written("busy", "cleanup_host")[0]["at"] >= path.stat().st_mtime


def test_a_host_whose_init_fails_stops_with_the_reason_and_a_non_zero_status(standing: Harness) -> None:
    host = standing.worker("broken", JOURNAL_FAILS="broken")

    assert host.popen.wait(PATIENCE) != 0

    assert "the disk is not there" in host.text
    assert "Traceback" not in host.text
    assert "broken" not in standing.rows()
    assert standing.written("broken", "cleanup_host") == []


def test_a_second_live_worker_of_the_same_name_is_refused_whichever_services_it_shares(standing: Harness) -> None:
    first = standing.worker("taken")
    standing.up("taken")

    seconds = [standing.worker("taken", services=services) for services in ("host,journal", "journal")]

    for second in seconds:
        assert second.popen.wait(PATIENCE) != 0
        assert f"pid {first.pid}" in second.text
        assert "CELERIAC_HOST" in second.text
    assert len(standing.written("taken", "init_host")) == 1
    assert standing.up("taken")["taken"].identity.pid == first.pid


def test_a_frozen_host_that_was_replaced_stops_itself(standing: Harness) -> None:
    first = standing.worker("frozen")
    standing.up("frozen")

    first.signal(signal.SIGSTOP)
    second = standing.worker("frozen")
    standing.wait(lambda: standing.holder("frozen") == second.pid, PATIENCE, "replaced")
    first.signal(signal.SIGCONT)

    assert first.popen.wait(PATIENCE) != 0
    assert "another worker took the name frozen" in first.text
    assert standing.up("frozen")["frozen"].identity.pid == second.pid


def test_several_schedulers_share_the_reports(any_standing: Harness) -> None:
    second = any_standing.scheduler("scheduler-2")
    hosts = [any_standing.worker(f"host-{number}", services="journal", slots=1) for number in range(2)]
    any_standing.up("scheduler-1", "scheduler-2", service="scheduler")
    any_standing.up(*[process.name for process in hosts], service="journal")

    second.kill()

    before = any_standing.table.counters()["reports_stored"]
    any_standing.wait(lambda: any_standing.table.counters()["reports_stored"] > before + 4, PATIENCE, "reports go on")
    any_standing.up(*[process.name for process in hosts], service="journal")


def test_a_flushed_table_is_not_ready_and_whole_again_within_one_interval(
    start_fleet: Callable[..., Harness],
) -> None:
    fleet = start_fleet(interval=4, heartbeat=1)
    fleet.scheduler()
    fleet.beat()
    fleet.worker("one")
    fleet.worker("two")
    fleet.up("one", "two")
    fleet.wait(lambda: fleet.table.readiness().ready, PATIENCE, "ready")

    for process in fleet.processes:
        process.signal(signal.SIGSTOP)  # nobody fills the table before it is looked at
    fleet.table.redis.flushall()
    empty = fleet.table.readiness()
    flushed = time.monotonic()
    for process in fleet.processes:
        process.signal(signal.SIGCONT)
    fleet.up("one", "two")
    fleet.wait(lambda: fleet.table.readiness().ready, PATIENCE, "ready again")

    assert time.monotonic() - flushed <= fleet.interval
    assert not empty.ready
    assert "no host has joined" in empty.reason


def test_nothing_is_consumed_before_init_host_is_over(any_standing: Harness, tmp_path: Path) -> None:
    path = tmp_path / "held"
    any_standing.app.send_task("journal.hold", (0, str(path)), queue="host.slow")
    any_standing.worker("slow", JOURNAL_INIT_TAKES="1.5")

    any_standing.wait(lambda: path.exists() and "ended" in path.read_text(), PATIENCE, "the task ran")

    assert any_standing.written("slow", "init_host")[0]["at"] <= path.stat().st_mtime


def test_a_worker_that_waits_for_redis_at_its_start_can_be_stopped(
    start_fleet: Callable[..., Harness], server: Server
) -> None:
    fleet = start_fleet()
    server.stop()
    host = fleet.worker("one")
    fleet.wait(lambda: "Trying again every" in host.text, PATIENCE, "it waits")

    assert host.terminate() != 0

    assert fleet.written("one", "init_host") == []


def test_a_worker_told_to_quit_leaves_at_once_without_cleaning_up(standing: Harness, tmp_path: Path) -> None:
    host = standing.worker("quitter")
    standing.up("quitter")
    pool = host.children()
    path = tmp_path / "held"
    standing.app.send_task("journal.hold", (600, str(path)), queue="host.quitter")
    standing.wait(path.exists, PATIENCE, "the task started")

    host.signal(signal.SIGQUIT)
    host.popen.wait(PATIENCE)

    assert "quitter" not in standing.rows()
    assert standing.written("quitter", "cleanup_host") == []
    standing.wait(lambda: all(is_gone(pid) for pid in pool), PATIENCE, "no child is left")
