"""``celeriac pending``, ``claims``, ``history``, and the claims in ``show``."""

import json
import time

import pytest

from managers.db import api
from tests.workers.console.rows import Rows
from tests.workers.console.running import one_line, run
from workers import questions


@pytest.fixture(autouse=True)
def hosts(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("rack1-07")


def test_what_waits_is_listed_in_its_order_with_why(fleet: Rows) -> None:
    fleet.park("first", requires="zone == 'b'")
    with fleet.at(0):
        fleet.park("second", claims={"slots": 5}, task="shop.big")

    result = run("pending", "--json")

    first, second = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {"task_id", "task", "service", "host", "since_seconds", "reasons"} <= first.keys()
    assert (first["task_id"], first["task"], first["service"], first["host"]) == ("first", "shop.render", "host", None)
    assert first["reasons"] == ["1 zone == 'b'"]
    assert 0 <= first["since_seconds"] < 10
    assert (second["task_id"], second["reasons"]) == ("second", ["1 slots >= 5 (most free: 4)"])
    assert "1 slots >= 5 (most free: 4)" in run("pending").stdout


def test_a_shape_is_explained_once_however_many_of_it_wait(fleet: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        fleet.park(f"t-{number}", requires="zone == 'b'")
    asked = []
    explain = questions.explanation_of

    def counted(*given: object, **options: object) -> object:
        asked.append(given)
        return explain(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(questions, "explanation_of", counted)

    assert len(json.loads(run("pending", "--json").stdout)) == 20
    assert len(asked) == 1
    assert len(json.loads(run("pending", "--limit", "3", "--json").stdout)) == 3


def test_what_fits_and_waits_is_said_to_be_next(fleet: Rows) -> None:
    fleet.park("t")

    (entry,) = json.loads(run("pending", "--json").stdout)

    assert entry["verdict"] == "feasible"
    assert entry["reasons"] == ["it fits now: the next look of a scheduler places it"]


def test_a_gang_waits_as_one(fleet: Rows) -> None:
    fleet.park("t", count=3)

    (entry,) = json.loads(run("pending", "--json").stdout)

    assert entry["count"] == 3
    assert "shop.render, 3 hosts" in run("pending").stdout


def test_without_a_scheduler_what_waits_is_told_with_the_reason_why(fleet: Rows) -> None:
    fleet.park("t")
    fleet.add_scheduler(seen=40)

    result = run("pending", "--json")

    assert (result.exit_code, len(json.loads(result.stdout))) == (1, 1)
    assert "nothing is placed" in one_line(result)


def test_claims_are_listed_with_what_they_hold(fleet: Rows) -> None:
    fleet.hold("t", claims={"memory_mb": 1000.5})

    result = run("claims", "--json")

    (entry,) = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {"task_id", "task", "service", "host", "since_seconds", "claims"} <= entry.keys()
    assert (entry["task_id"], entry["task"], entry["service"], entry["host"], entry["state"]) == (
        "t", "shop.render", "host", "rack1-07", "running"
    )  # fmt: skip
    assert entry["claims"] == {"memory_mb": 1000.5, "slots": 1}
    assert 0 <= entry["since_seconds"] < 10
    assert "memory_mb 1000.5, slots 1" in run("claims").stdout


def test_claims_of_one_host_are_no_others(fleet: Rows) -> None:
    fleet.add("b")
    fleet.hold("t", only="rack1-07")

    assert len(json.loads(run("claims", "--host", "rack1-07", "--json").stdout)) == 1
    assert json.loads(run("claims", "--host", "b", "--json").stdout) == []
    assert "nothing is claimed of b" in run("claims", "--host", "b").stdout
    result = run("claims", "--host", "rack1-7")
    assert result.exit_code == 1
    assert "did you mean rack1-07?" in one_line(result)


def test_show_has_the_open_claims_of_its_host(fleet: Rows) -> None:
    fleet.register("rack1-07")
    fleet.hold("t", begun=False)

    (claim,) = json.loads(run("show", "rack1-07", "--json").stdout)["claims"]

    assert (claim["task_id"], claim["state"], claim["claims"]) == ("t", "placed", {"slots": 1})
    shown = run("show", "rack1-07").stdout
    assert "shop.render" in shown
    assert "3 free of 4" in shown


def record(number: int, *, ended_ago: float, **changes: object) -> dict[str, object]:
    ended = time.time() - ended_ago
    known = {
        "request_id": f"r-{number}", "attempt": 1, "task_id": f"t-{number}", "task": "shop.render", "service": "host",
        "host": "rack1-07", "outcome": "done", "submitted_at": ended - 9, "placed_at": ended - 5,
        "started_at": ended - 4, "ended_at": ended, "claims": {"gpus": 1.5},
    }  # fmt: skip
    return {**known, **changes}


def test_history_is_the_newest_first_and_narrowed_by_what_is_given(fleet: Rows) -> None:
    fleet.register("rack1-07")
    api.history_add([
        record(1, ended_ago=7200), record(2, ended_ago=60, outcome="failed", reasons="ValueError: no"),
        record(3, ended_ago=5, task="shop.mail", host="b"),
    ])  # fmt: skip

    def ids(*options: str) -> list[str]:
        result = run("history", *options, "--json")
        assert result.exit_code == 0
        return [entry["task_id"] for entry in json.loads(result.stdout)]

    assert ids() == ["t-3", "t-2", "t-1"]
    assert ids("--limit", "1") == ["t-3"]
    assert ids("--task", "shop.render") == ["t-2", "t-1"]
    assert ids("--host", "b") == ["t-3"]
    assert ids("--outcome", "failed") == ["t-2"]
    assert ids("--since", "1h") == ids("--since", "60min") == ["t-3", "t-2"]
    assert ids("--since", "2001-01-31T09:00+00:00") == ["t-3", "t-2", "t-1"]


def test_a_row_of_the_history_has_the_columns_and_its_moments_in_iso_form(fleet: Rows) -> None:
    fleet.register("rack1-07")
    api.history_add([record(1, ended_ago=5)])

    (entry,) = json.loads(run("history", "--json").stdout)

    assert entry.keys() == {
        "request_id", "attempt", "task_id", "task", "service", "host", "outcome", "submitted_at", "placed_at",
        "started_at", "ended_at", "claims", "reasons",
    }  # fmt: skip
    assert entry["ended_at"].endswith("+00:00")
    assert entry["claims"] == {"gpus": 1.5}
    shown = run("history").stdout.splitlines()[-1].split()
    assert shown[1:5] == ["shop.render", "t-1", "rack1-07", "done"]
    assert shown[5:9] == ["4.0", "s", "4.0", "s"]


def test_an_empty_history_says_so(fleet: Rows) -> None:
    fleet.register("rack1-07")

    assert run("history", "--json").stdout == "[]\n"
    assert "nothing of that kind has ended" in run("history").stdout


def test_a_history_that_cannot_be_read_is_one_line(fleet: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("history")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no database" in one_line(result)

    monkeypatch.setenv("CELERIAC_DB_DRIVER", "tests.workers.network")
    result = run("history")

    assert result.exit_code == 1
    assert "CELERIAC_DB_DRIVER" in one_line(result)


@pytest.mark.parametrize("since", ["yesterday", "2027-01-31T09:00", "5 parsecs", "-1h"])
def test_a_moment_that_cannot_be_is_a_usage_error(since: str) -> None:
    result = run("history", f"--since={since}")

    assert result.exit_code == 2
    assert "with its zone" in result.stderr
