"""``celeriac disable``, ``enable`` and ``drain``: in table and database, or it says in which."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from managers.db import api
from scheduler.claims import Claim
from scheduler.errors import HostNotFound, TableUnavailable
from scheduler.events import Events
from tests.workers.console.rows import Rows, closed_port
from tests.workers.console.running import one_line, run
from workers import celeriac_app, decisions, load_settings, operations
from workers.errors import HalfDone


@pytest.fixture(autouse=True)
def host(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("a", ["host", "network"])
    fleet.register("a")
    fleet.register("a", "network")


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a server refuse: "database" or "table"."""
    with closed_port() as port:
        addresses = {
            "database": ("DATABASE_URL", f"postgresql://u:hush@127.0.0.1:{port}/x"),
            "table": ("TABLE_URL", f"redis://:hush@127.0.0.1:{port}/0"),
        }

        def refuse(name: str) -> None:
            setting, address = addresses[name]
            monkeypatch.setenv(f"CELERIAC_{setting}", address)

        yield refuse


def states(fleet: Rows) -> dict[str, tuple[str, ...]]:
    return {row.service: (row.state, *row.reasons) for row in fleet.table.host("a")}


def recorded() -> dict[str, tuple[bool, str | None]]:
    return {each.service: (each.disabled, each.disabled_reason) for each in api.service_get_all(host="a")}


def test_a_disabled_host_is_so_in_table_and_database_for_all_its_services(fleet: Rows) -> None:
    result = run("disable", "a", "--reason", "broken fan")

    assert (result.exit_code, result.stdout) == (0, "a is disabled: host, network\n")
    assert states(fleet) == dict.fromkeys(("host", "network"), ("disabled", "disabled: broken fan"))
    assert recorded() == dict.fromkeys(("host", "network"), (True, "broken fan"))


def test_one_service_of_a_host_can_be_disabled_alone(fleet: Rows) -> None:
    assert run("disable", "a", "--reason", "x", "--service", "network").exit_code == 0

    assert states(fleet)["host"] == ("up",)
    assert recorded() == {"host": (False, None), "network": (True, "x")}


def test_enabling_undoes_it_and_wakes_what_waits(fleet: Rows) -> None:
    run("disable", "a", "--reason", "x")
    events = Events(fleet.table)
    events.read()

    result = run("enable", "a")

    assert (result.exit_code, result.stdout) == (0, "a is enabled: host, network\n")
    assert states(fleet)["host"] == ("up",)
    assert recorded()["host"] == (False, None)
    assert ("enabled", "a") in events.read()


def test_a_host_that_the_table_has_forgotten_is_disabled_before_it_comes_back(fleet: Rows) -> None:
    fleet.register("gone-1", stopped=True)

    assert run("disable", "gone-1", "--reason", "x").exit_code == 0

    fleet.add("gone-1")
    assert fleet.table.host("gone-1")[0].state == "disabled"
    assert api.service_get("host", "gone-1").disabled


@pytest.mark.parametrize("command", [("disable", "--reason", "x"), ("enable",), ("drain",)])
def test_an_unknown_host_or_service_is_answered_with_the_nearest(fleet: Rows, command: tuple[str, ...]) -> None:
    fleet.add("rack1-07")

    result = run(command[0], "rack1-7", *command[1:])

    assert (result.exit_code, result.stdout) == (1, "")
    assert "did you mean rack1-07?" in one_line(result)
    assert "did you mean network?" in one_line(run(command[0], "a", "--service", "netwrok", *command[1:]))


def test_without_a_reason_nothing_is_disabled(fleet: Rows) -> None:
    assert run("disable", "a").exit_code == 2
    assert run("disable", "a", "--reason", " ").exit_code == 2
    assert states(fleet)["host"] == ("up",)


def test_without_the_database_the_table_takes_it_and_that_is_said(fleet: Rows, unreachable: Any) -> None:
    unreachable("database")

    result = run("disable", "a", "--reason", "x")

    assert result.exit_code == 1
    assert "a is disabled in the capability table only" in one_line(result)
    assert "hush" not in result.stderr
    assert states(fleet)["host"][0] == "disabled"


def test_without_the_table_the_database_takes_it_and_that_is_said(unreachable: Any) -> None:
    unreachable("table")

    result = run("disable", "a", "--reason", "x")

    assert result.exit_code == 1
    assert "a is disabled in the database only" in one_line(result)
    assert recorded()["host"] == (True, "x")


def test_without_both_nothing_is_changed_and_that_is_said(unreachable: Any) -> None:
    unreachable("table")
    unreachable("database")

    result = run("enable", "a")

    assert result.exit_code == 1
    assert one_line(result).startswith("celeriac: nothing is changed: ")


def test_a_host_that_another_database_has_is_disabled_in_the_table_and_that_is_said(fleet: Rows) -> None:
    fleet.add("b")

    result = run("disable", "b", "--reason", "x")

    assert result.exit_code == 1
    assert "no record of 'host'" in one_line(result)
    assert "CELERIAC_DATABASE_URL" in result.stderr
    assert fleet.table.host("b")[0].state == "disabled"


def test_one_record_that_is_missing_keeps_none_of_the_others_from_being_written(fleet: Rows) -> None:
    api.service_destroy("host", "a")

    with pytest.raises(HalfDone) as raised:
        operations.disable("a", "x")

    assert (raised.value.services, raised.value.in_table) == (["host", "network"], True)
    assert recorded() == {"network": (True, "x")}


def test_a_drained_host_is_disabled_with_a_reason_that_says_so(fleet: Rows) -> None:
    result = run("drain", "a", "--reason", "new kernel")

    assert (result.exit_code, result.stdout) == (0, "a is drained: host, network\n")
    assert recorded()["host"] == (True, "draining: new kernel")
    assert states(fleet)["host"] == ("disabled", "disabled: draining: new kernel")


def test_draining_without_waiting_tells_what_is_left(fleet: Rows) -> None:
    fleet.hold("t", only="a")

    result = run("drain", "a")

    assert result.exit_code == 0
    assert "1 claim left" in result.stdout
    assert "--wait" in result.stdout


def test_draining_waits_until_the_last_claim_is_released(fleet: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = [fleet.hold(task_id, only="a") for task_id in ("one", "two")]
    monkeypatch.setattr(decisions.time, "sleep", lambda _: fleet.release(claims.pop()))

    result = run("drain", "a", "--wait")

    assert (result.exit_code, result.stdout) == (0, "a is drained: host, network\n")
    assert result.stderr.splitlines() == [
        "celeriac: a is draining: 2 claims left", "celeriac: a is draining: 1 claim left"
    ]  # fmt: skip


def test_a_wait_that_is_over_tells_how_many_are_left_and_leaves_it_disabled(
    fleet: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.hold("t", only="a")

    result = run("drain", "a", "--wait", "0.01")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("celeriac: a is not drained in 0.01 s and stays disabled: 1 claim")
    assert states(fleet)["host"][0] == "disabled"


def test_ctrl_c_leaves_a_draining_host_disabled_and_says_so(fleet: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    fleet.hold("t", only="a")
    monkeypatch.setattr(decisions.time, "sleep", interrupt)

    result = run("drain", "a", "--wait", "60")

    assert result.exit_code == 1
    assert "a stays disabled; celeriac enable a undoes it" in result.stderr


def test_draining_one_service_waits_for_no_other(fleet: Rows) -> None:
    fleet.hold("t", only="a")

    assert operations.drain("a", service="network", wait=60.0).left == []


def test_a_drain_that_the_database_did_not_take_waits_all_the_same(fleet: Rows, unreachable: Any) -> None:
    unreachable("database")
    claim = fleet.hold("t", only="a")
    left: list[list[Claim]] = []

    with pytest.raises(HalfDone):
        operations.drain("a", wait=60.0, on_left=left.append, pause=lambda _: fleet.release(claim))

    assert [[each.task_id for each in claims] for claims in left] == [["t"]]


def test_a_table_that_is_lost_while_a_host_drains_does_not_hide_that_it_does(
    fleet: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise TableUnavailable("gone")

    monkeypatch.setattr(decisions.Claims, "of", lose)

    with pytest.raises(TableUnavailable, match="a is draining, but what it still runs is not known: gone"):
        operations.drain("a", wait=1.0)


def test_an_adopted_application_is_asked_as_the_command_line_is(fleet: Rows, tmp_path: Path) -> None:
    app = celeriac_app(Celery("shop", broker="memory://", set_as_current=False), settings=load_settings())
    fleet.hold("t", only="a")
    fleet.park("w", requires="zone == 'b'")

    assert operations.disable("a", "x", fleet=app) == ["host", "network"]
    assert operations.explain("cpus > 1", fleet=app).reasons == ["1 disabled"]
    assert [claim.task_id for claim in operations.claims("a", fleet=app)] == ["t"]
    assert [waiting.task_id for waiting in operations.pending(fleet=app)] == ["w"]
    assert operations.history(fleet=app) == []
    assert operations.enable("a", fleet=app) == ["host", "network"]
    with pytest.raises(HostNotFound, match=r"did you mean a\?"):
        operations.claims("aa", fleet=app)


def test_settings_of_another_fleet_leave_this_process_its_own_database(fleet: Rows, tmp_path: Path) -> None:
    other = load_settings(database_url=f"sqlite:///{tmp_path / 'none.db'}")

    with pytest.raises(HalfDone, match="there is no database"):
        operations.disable("a", "x", fleet=other)

    assert recorded()["host"] == (False, None)
    assert not (tmp_path / "none.db").exists()
