"""The commands that read the table: what they print, on which stream, with which exit status."""

import json
from pathlib import Path

import pytest

from tests.workers.console.rows import CAPABILITIES, Rows
from tests.workers.console.running import one_line, run

ROOT = Path(__file__).parents[3]


def test_every_state_is_listed_with_its_reason(fleet: Rows) -> None:
    fleet.add_scheduler()
    for host in ("up-1", "off-1", "busy-1"):
        fleet.add(host)
    fleet.add("dead-1", seen=35)
    fleet.add("mute-1", reported=200)
    fleet.table.disable("host/off-1", "broken fan")
    fleet.table.drain("busy-1", ["host/busy-1"], "its worker is stopping")

    lines = {line.split()[1]: line for line in run("hosts").stdout.splitlines()[2:]}

    assert lines["up-1"].split()[2] == "up"
    assert lines["off-1"].split()[2] == "disabled"
    assert "disabled: broken fan" in lines["off-1"]
    assert lines["busy-1"].split()[2] == "draining"
    assert "its worker is stopping" in lines["busy-1"]
    assert lines["dead-1"].split()[2] == "stale"
    assert "heartbeat interval 10 s" in lines["dead-1"]
    assert lines["mute-1"].split()[2] == "stale"
    assert "periodic interval 60 s" in lines["mute-1"]


def test_hosts_as_json_keep_the_contract(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("a")

    result = run("hosts", "--json", "--service", "host")

    (row,) = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert {"service", "host", "state", "seen_seconds_ago", "capabilities", "total", "free"} <= row.keys()
    assert (row["service"], row["host"], row["state"]) == ("host", "a", "up")
    assert row["capabilities"] == CAPABILITIES
    assert row["total"] == row["free"] == {"slots": 4, "cpus": 8, "memory_mb": 15921}
    assert 0 <= row["seen_seconds_ago"] < 5


def test_free_and_total_of_each_claimable_are_shown(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("a", capabilities={"slots": 4, "gpus": 0, "cpus": 1.5, "load_1m": 7})

    shown = run("hosts").stdout

    assert "1.5/1.5" in shown
    assert "0/0" in shown
    assert "load_1m" not in shown


@pytest.mark.parametrize(("command", "empty"), [("hosts", []), ("capabilities", {})])
def test_a_flushed_table_is_not_ready_and_says_so(fleet: Rows, command: str, empty: object) -> None:
    fleet.add_scheduler()
    fleet.add("a")
    fleet.table.redis.delete(*fleet.table.redis.keys(f"celeriac:{{{fleet.name}}}:*"))  # type: ignore[misc]

    for options in ((), ("--json",)):
        result = run(command, *options)

        assert result.exit_code == 1
        assert "not ready: the table is empty" in one_line(result)
        assert "no hosts" not in result.stdout
        assert not options or json.loads(result.stdout) == empty


def test_a_half_filled_table_shows_what_it_has_and_is_not_ready(fleet: Rows) -> None:
    fleet.add("a", joined=2, reported=0)

    result = run("hosts", "--json")

    assert result.exit_code == 1
    assert "not ready: " in one_line(result)
    assert [row["host"] for row in json.loads(result.stdout)] == ["a"]


def test_a_fleet_that_stopped_gracefully_has_no_hosts_and_the_way_out(fleet: Rows) -> None:
    fleet.add("a")
    fleet.table.leave("a", ["host/a"])

    result = run("hosts")

    assert result.exit_code == 0
    assert "no hosts" in result.stdout
    assert "celeriac up" in result.stdout
    assert json.loads(run("hosts", "--json").stdout) == []


def test_a_misspelt_service_is_answered_with_the_nearest(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("a", ["network"])

    result = run("hosts", "--service", "netwrok")

    assert result.exit_code == 0
    assert "did you mean network?" in result.stdout


def test_without_a_live_scheduler_the_answer_comes_with_a_warning_and_fails(fleet: Rows) -> None:
    fleet.add_scheduler(seen=40)
    fleet.add("a")

    result = run("hosts", "--json")

    assert result.exit_code == 1
    assert "no scheduler is live" in one_line(result)
    assert fleet.broker_url in result.stderr
    assert {row["host"] for row in json.loads(result.stdout)} == {"a", "sched-1"}


def test_a_scheduler_that_beats_is_live_although_no_beat_ticks_it(fleet: Rows) -> None:
    fleet.add_scheduler(reported=1000)

    assert run("hosts").exit_code == 0


def test_capabilities_are_the_least_and_the_most_of_hosts_that_are_up(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("a", ["host", "network"])
    fleet.add("b", capabilities={"cpus": 2, "zone": "b"})
    fleet.add("dead-1", capabilities={"cpus": 512}, seen=50)

    result = run("capabilities", "--json")

    assert json.loads(result.stdout) == {
        "host.cpus": [2, 8],
        "host.memory_mb": [15921, 15921],
        "host.slots": [4, 4],
        "host.zone": ["a", "b"],
    }
    assert result.exit_code == 0
    assert json.loads(run("capabilities", "--json", "--service", "network").stdout) == {}
    assert "host.memory_mb   15921   15921" in run("capabilities").stdout


def test_help_and_version_ask_no_server() -> None:
    assert "doctor" in run("-h").stdout
    assert run("--help").stdout == run("-h").stdout
    assert run("--version").stdout.startswith("celeriac, version ")
