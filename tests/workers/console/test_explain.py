"""``celeriac explain``: where a task would fit, and what the others lack."""

import json

import pytest

from tests.workers.console.rows import CAPABILITIES, Rows
from tests.workers.console.running import one_line, run


@pytest.fixture(autouse=True)
def hosts(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("a")
    fleet.add("b", capabilities={**CAPABILITIES, "zone": "b", "slots": 1})


def test_what_fits_is_feasible_and_counted_clause_by_clause() -> None:
    result = run("explain", "--requires", "zone == 'b' and cpus >= 4", "--claims", "memory_mb=1000", "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {"hosts", "fit", "verdict", "clauses", "reasons", "nearest"} <= told.keys()
    assert (told["hosts"], told["fit"], told["verdict"]) == (2, 1, "feasible")
    assert {entry["clause"]: entry["passed"] for entry in told["clauses"]} == {
        "cpus >= 4": 2, "zone == 'b'": 1, "memory_mb >= 1000": 2, "slots >= 1": 2
    }  # fmt: skip
    assert told["reasons"] == ["1 zone == 'b'"]


def test_people_read_what_fits_and_how_many_pass_each_clause() -> None:
    result = run("explain", "--requires", "zone == 'b'")

    assert result.exit_code == 0
    assert "feasible: 1/2 hosts: 1 zone == 'b'" in result.stdout
    assert [line.split()[-1] for line in result.stdout.splitlines()[3:]] == ["1/2", "2/2"]


def test_what_fits_nowhere_says_so_in_one_line_with_the_nearest_host() -> None:
    result = run("explain", "--requires", "zone == 'b'", "--claims", "gpus=1")

    assert result.exit_code == 1
    assert one_line(result).startswith("celeriac: infeasible: 0/2 hosts: ")
    assert "nearest: b lacks gpus >= 1 (free: 0)" in result.stderr
    assert "nearest" in result.stdout


def test_what_fits_when_claims_end_is_full(fleet: Rows) -> None:
    fleet.hold("t", only="b")

    result = run("explain", "--only", "b", "--json")

    assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (1, "full")
    assert "full: 0/2 hosts: " in one_line(result)
    assert run("explain", "--exclude", "b").exit_code == 0


def test_hosts_at_once_are_counted() -> None:
    assert run("explain", "--count", "2").exit_code == 0
    assert "3 are needed at once" in one_line(run("explain", "--count", "3"))


def test_nothing_is_placed_by_asking(fleet: Rows) -> None:
    run("explain")

    assert fleet.table.host("a")[0].free["slots"] == 4
    assert json.loads(run("claims", "--json").stdout) == []


def test_a_table_that_is_not_ready_is_an_answer_of_its_own(fleet: Rows) -> None:
    fleet.table.redis.delete(f"celeriac:{{{fleet.name}}}:since")

    result = run("explain", "--json")

    assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (1, "not-ready")
    assert "not ready: " in one_line(result)


def test_a_requirement_that_cannot_be_read_is_pointed_at() -> None:
    result = run("explain", "--requires", "cpus > 1 and zone = 'a'")

    assert result.exit_code == 2
    first, expression, caret = result.stderr.splitlines()
    assert first.startswith("celeriac: '=' compares nothing")
    assert expression[caret.index("^")] == "="


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--claims", "gpus"), "write NAME=AMOUNT"),
        (("--claims", "gpus=some"), "write NAME=AMOUNT"),
        (("--claims", "gpus=inf"), "write NAME=AMOUNT"),
        (("--claims", "gpus=-1"), "gpus"),
        (("--claims", "gpus=0.0001"), "three decimals"),
        (("--count", "0"), "count"),
        (("--service", "no such"), "no such"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(options: tuple[str, ...], said: str) -> None:
    result = run("explain", *options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_without_a_live_scheduler_the_answer_comes_with_a_warning(fleet: Rows) -> None:
    fleet.add_scheduler(seen=40)

    result = run("explain", "--json")

    assert (result.exit_code, json.loads(result.stdout)["fit"]) == (1, 2)
    assert "no scheduler is live" in one_line(result)
