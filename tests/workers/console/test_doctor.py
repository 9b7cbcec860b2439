"""``celeriac doctor`` against real servers: what it finds, what it advises, and that it always comes back."""

import json
import time

import pytest

from scheduler import connections
from tests.workers.console.rows import Rows, silent_port
from tests.workers.console.running import NAMES, doctor, examined
from workers.console import probes, reading


def test_a_fleet_that_is_well_passes_every_check(well: Rows) -> None:
    checks = examined()

    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(NAMES, "ok")
    assert not [check for check in checks.values() if check.advice]
    assert doctor().exit_code == 0
    assert [line.split()[1] for line in doctor().stdout.splitlines()] == NAMES


def test_versions_of_everything_in_between_are_told(well: Rows) -> None:
    found = examined()["versions"].found

    for name in ("celeriac", "celery", "kombu", "redis", "sqlalchemy", "valkey-server"):
        assert f"{name} " in found
    assert "unknown" not in found


def test_servers_that_all_hang_cost_one_patience_together(well: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 2.0)
    monkeypatch.setattr(connections, "SOCKET_TIMEOUT", 60.0)
    with silent_port() as port:
        monkeypatch.setenv("CELERIAC_BROKER_URL", f"amqp://u:hush@127.0.0.1:{port}//")
        monkeypatch.setenv("CELERIAC_TABLE_URL", f"redis://:hush@127.0.0.1:{port}/0")
        monkeypatch.setenv("CELERIAC_DATABASE_URL", f"postgresql://u:hush@127.0.0.1:{port}/x")
        began = time.monotonic()

        checks = examined()

    assert time.monotonic() - began < 2 * reading.PATIENCE
    assert [checks[name].status for name in ("broker", "table", "database")] == ["failed"] * 3


def test_the_patience_is_five_seconds_at_most() -> None:
    assert reading.PATIENCE <= 5
    assert connections.SOCKET_TIMEOUT <= 5


def test_an_address_that_cannot_be_read_fails_without_being_shown(well: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_BROKER_URL", "redis://:hu/sh@127.0.0.1:6379/0")

    result = doctor("--json")

    (check,) = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (check["name"], check["status"]) == ("settings", "failed")
    assert "CELERIAC_BROKER_URL" in check["found"]
    assert "sh@" not in result.output


def test_presence_without_reports_means_that_no_beat_ticks(well: Rows) -> None:
    well.add_scheduler(reported=200)
    well.add("a", reported=200)

    checks = examined()

    assert checks["beat"].status == "failed"
    assert "no beat ticks" in checks["beat"].found
    assert "celery -A workers beat" in checks["beat"].advice
    assert checks["scheduler"].status == "ok"


def test_a_host_that_the_table_has_pruned_is_lost(well: Rows) -> None:
    well.register("lost-1")
    well.register("gone-1", stopped=True)

    check = examined()["hosts"]

    assert check.status == "warning"
    assert "host on lost-1" in check.found
    assert "gone-1" not in check.found


def test_nobody_is_lost_while_the_table_is_not_ready(well: Rows) -> None:
    well.table.redis.delete(*well.table.redis.keys(f"celeriac:{{{well.name}}}:*"))  # type: ignore[misc]

    checks = examined()

    assert "not ready" in checks["hosts"].found
    assert "lost" not in checks["hosts"].found
    assert checks["scheduler"].status == "failed"
    assert "not ready" in checks["scheduler"].found


def test_refused_reports_are_a_warning(well: Rows) -> None:
    well.table.count("reports_refused")

    check = examined()["counters"]

    assert check.status == "warning"
    assert "reports_refused 1" in check.found


def test_the_steps_of_placement_are_counted(well: Rows) -> None:
    with well.at(100):
        well.hold("unbegun", begun=False)
        well.park("waits", claims={"gpus": 1})
    well.release(well.hold("ended"))

    check = examined()["placement"]

    assert check.status == "failed"
    assert "1 wait for a host, the oldest for 100 s; 1 not begun in time" in check.found
    assert "1 ends not in the history yet" in check.found


def test_two_versions_in_a_fleet_are_a_warning_that_names_the_hosts(well: Rows) -> None:
    well.add("old-1", version="0.0.1")

    check = examined()["versions"]

    assert check.status == "warning"
    assert "0.0.1 on old-1" in check.found


@pytest.mark.parametrize("probe", ["ask_broker", "ask_table", "ask_database"])
def test_a_fault_that_nobody_thought_of_is_a_failed_check(
    well: Rows, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    def breaks(settings: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(probes, probe, breaks)

    check = examined()[probe.removeprefix("ask_")]

    assert check.status == "failed"
    assert "RuntimeError: surprise" in check.found


def test_a_database_of_this_machine_alone_is_a_warning_where_the_table_is_elsewhere(
    well: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.2)
    monkeypatch.delenv("CELERIAC_DATABASE_URL")
    monkeypatch.setenv("CELERIAC_TABLE_URL", "redis://192.0.2.1:6379/0")

    check = examined()["settings"]

    assert check.status == "warning"
    assert "CELERIAC_DATABASE_URL" in check.advice
