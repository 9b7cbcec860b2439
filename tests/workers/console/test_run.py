"""``celeriac run``: a task placed by its name, in a fleet whose scheduler and hosts answer as it is announced."""

import gc
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import _state

from scheduler.claims import Claim, Claims
from scheduler.conclusions import Conclusions
from scheduler.envelope import body_of
from scheduler.pending import Pending
from scheduler.placer import Placer
from scheduler.placing import Placing
from tests.workers.console.rows import Rows
from tests.workers.console.running import one_line, run
from workers.console import errand
from workers.dispatch import conclude

CODE = """
from celery import shared_task
from scheduler import ScheduledTask

@shared_task(name="shop.render", base=ScheduledTask, claims={"slots": 3}, requires="zone == 'b'")
def render(scene): ...

@shared_task(name="shop.mail")
def mail(): ...
"""


@pytest.fixture(autouse=True)
def _no_application_stays() -> Iterator[None]:
    before = _state._tls.current_app
    yield
    _state._tls.current_app = before
    gc.collect()


class Answering:
    """The rest of the fleet: it places what is announced, and its hosts answer at once."""

    def __init__(self, fleet: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet = fleet
        self.claims: list[Claim] = []
        self.arguments: list[Any] = []
        #: Runs the task; what it returns, or raises, is its result. None: no host ever begins it.
        self.body: Callable[..., Any] | None = lambda *_: None
        self.keeps_results = True

        def announce(placing: Placing, what: Any, producer: Any) -> None:
            self.app = placing.app
            Placer(fleet.table, dispatch=self._run).turn(is_anything_new=True)
            Conclusions(fleet.table, partial(conclude, self.app)).turn()

        monkeypatch.setattr(Placing, "_announce", announce)
        monkeypatch.setattr(errand, "LOOK", 0.005)

    def _run(self, claim: Claim, message: Any) -> None:
        self.claims.append(claim)
        args, kwargs, _ = json.loads(body_of(message))
        self.arguments.append((args, kwargs))
        if self.body is None:
            return
        claims = Claims(self.fleet.table)
        claims.start(claim.host, claim.id, claim.attempt, by="child")
        try:
            answer = self.body(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # as a worker does
            self.app.backend.mark_as_failure(claim.task_id, error)
        else:
            if self.keeps_results:
                self.app.backend.mark_as_done(claim.task_id, answer)
        claims.release(claim.host, claim.id, claim.attempt, "done")


@pytest.fixture
def answering(fleet: Rows, monkeypatch: pytest.MonkeyPatch) -> Answering:
    monkeypatch.setenv("CELERIAC_RESULT_BACKEND", "cache+memory://")
    fleet.add_scheduler()
    fleet.add("a")
    fleet.add("b", capabilities={"slots": 4, "zone": "b"})
    return Answering(fleet, monkeypatch)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of tasks in the current folder, of which the settings speak."""
    (tmp_path / "shop_tasks_of_run.py").write_text(CODE)
    monkeypatch.setenv("CELERIAC_TASKS", "shop_tasks_of_run")
    yield
    sys.modules.pop("shop_tasks_of_run", None)
    for registering in [each for each in _state._on_app_finalizers if "shared_task" in repr(each)]:
        _state._on_app_finalizers.discard(registering)


def test_a_task_whose_code_is_elsewhere_is_placed_by_its_name(answering: Answering) -> None:
    answering.body = lambda one, two: one + two

    result = run("run", "shop.add", "1", "2", "--requires", "zone == 'b'", "--claims", "slots=2", "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {"task_id", "task", "state", "host", "waited_seconds", "result", "reasons"} <= told.keys()
    assert (told["task"], told["state"], told["host"], told["result"], told["reasons"]) == (
        "shop.add", "SUCCESS", "b", 3, []
    )  # fmt: skip
    assert 0 <= told["waited_seconds"] < 10
    (claim,) = answering.claims
    assert (claim.task_id, claim.claims) == (told["task_id"], {"slots": 2})


def test_people_read_where_it_ran_and_its_result(answering: Answering) -> None:
    answering.body = lambda: {"pages": 3}

    result = run("run", "shop.print", "--only", "a")

    assert (result.exit_code, result.stderr) == (0, "")
    first, *rest = result.stdout.splitlines()
    assert first.startswith("shop.print[")
    assert "ran on a after waiting" in first
    assert json.loads("".join(rest)) == {"pages": 3}


def test_arguments_are_json_where_they_can_be_read_as_such_else_text(answering: Answering) -> None:
    run("run", "t", "--", "-1.5", "true", '{"a": [1]}', '"7"', "a.blend", "NaN", "", "1 2")

    assert answering.arguments == [([-1.5, True, {"a": [1]}, "7", "a.blend", "NaN", "", "1 2"], {})]


def test_a_task_that_fails_is_told_with_its_error(answering: Answering) -> None:
    def breaks() -> None:
        raise ValueError("no such scene")

    answering.body = breaks

    result = run("run", "shop.render", "--only", "a", "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, told["state"], told["host"], told["result"]) == (1, "FAILURE", "a", None)
    assert told["error"] == "ValueError: no such scene"
    assert "ran on a" in one_line(result)
    assert "ValueError: no such scene" in result.stderr


def test_what_no_host_can_take_in_time_is_told_with_the_reasons(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(self: errand.Errand) -> None:
        (unit,) = Pending(answering.fleet.table).all()
        why = "no valid host for shop.render within 0.0 s; 0/2 hosts: 2 gpus >= 1 (most free: 0)"
        Pending(answering.fleet.table).fail(unit, "timeout", why)
        (failing,) = Pending(answering.fleet.table).failing()
        conclude(answering.app, failing)

    monkeypatch.setattr(errand.Errand, "_waiting", give_up)
    monkeypatch.setattr(errand, "PATIENCE", 1)

    result = run("run", "shop.render", "--claims", "gpus=1", "--timeout", "0.01", "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, told["state"], told["host"], told["result"]) == (1, "FAILURE", None, None)
    assert told["reasons"] == ["2 gpus >= 1 (most free: 0)"]
    assert "no valid host for shop.render" in one_line(result)
    assert told["error"].startswith("NoValidHost: ")


def test_while_it_waits_standard_error_says_why(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    answering.fleet.add_scheduler(seen=40)
    monkeypatch.setattr(errand, "LATE", 0.1)

    result = run("run", "shop.render", "--claims", "gpus=1", "--timeout", "0.05", "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, told["state"], told["host"]) == (1, "PENDING", None)
    assert told["reasons"] == ["2 gpus >= 1 (most free: 0)"]
    no_scheduler, waits, left = result.stderr.splitlines()
    assert "no scheduler is live" in no_scheduler
    assert "waits, infeasible: 2 gpus >= 1 (most free: 0)" in waits
    assert "still waits, and no scheduler gives it up" in left


def test_a_task_that_keeps_no_result_does_not_make_it_wait_for_ever(answering: Answering) -> None:
    answering.keeps_results = False

    result = run("run", "shop.log", "--only", "a")

    assert result.exit_code == 1
    assert "ran on a" in one_line(result)
    assert "kept no result" in result.stderr


def test_ctrl_c_leaves_the_task_to_the_fleet_and_says_its_id(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    answering.body = None
    monkeypatch.setattr(errand.Errand, "_waiting", interrupt)

    result = run("run", "shop.render", "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, told["state"]) == (1, "PENDING")
    assert f"shop.render[{told['task_id']}] is left to the fleet" in one_line(result)
    assert [claim.task_id for claim in Claims(answering.fleet.table).all()] == [told["task_id"]]


@pytest.mark.usefixtures("code")
def test_what_the_code_asks_counts_where_it_can_be_imported(answering: Answering) -> None:
    assert run("run", "shop.render", "a.blend").exit_code == 0
    assert run("run", "shop.mail").exit_code == 0

    render, _ = answering.claims
    assert (render.host, render.claims) == ("b", {"slots": 3})


@pytest.mark.usefixtures("code")
def test_arguments_that_the_code_does_not_take_are_a_usage_error(answering: Answering) -> None:
    result = run("run", "shop.render")

    assert (result.exit_code, answering.claims) == (2, [])
    assert "scene" in result.stderr


def test_code_that_cannot_be_imported_is_said_to_be_left_out(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_TASKS", "no_such_module")

    result = run("run", "shop.render")

    assert result.exit_code == 0
    assert "what no_such_module asks of hosts is not known here: ModuleNotFoundError" in one_line(result)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--requires", "zone = 'a'"), 2, "'=' compares nothing"),
        (("--claims", "gpus=-1"), 2, "gpus"),
        (("--service", "no such"), 2, "no such"),
        (("--timeout", "soon"), 2, "soon"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    answering: Answering, options: tuple[str, ...], status: int, said: str
) -> None:
    result = run("run", "shop.render", *options)

    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
    assert Pending(answering.fleet.table).count() == 0
