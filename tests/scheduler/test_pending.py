"""Requests wait in their order, until they are placed, given up or revoked; each is recorded before anybody is told."""

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.claims import Claims
from scheduler.pending import ANNOUNCED, Pending
from scheduler.table import Table
from tests.scheduler.bodies import Body, Scheduler, claim, gang, keys_of, request, submit

Up = Callable[..., Body]


def waiting(table: Table) -> list[tuple[str, ...]]:
    return [unit.ids for unit in Pending(table).all()]


# Recording


def test_what_is_submitted_waits_with_its_message(table: Table, up: Up) -> None:
    up("a")
    one = request("1")

    shape = submit(table, one)

    assert shape == one.shape
    (unit,) = Pending(table).all()
    assert (unit.ids, unit.shape, unit.request) == (("r-1",), shape, one)
    assert claim(table, one).places[0].message == '{"body": "r-1"}'


def test_to_record_the_same_again_changes_nothing(table: Table) -> None:
    submit(table, request("1"))
    submit(table, request("2"))

    assert submit(table, request("1"), rank=-9) == request("1").shape  # the answer may have been lost

    assert waiting(table) == [("r-1",), ("r-2",)]
    assert table.counters()["requests_recorded"] == 2


def test_to_record_what_was_placed_changes_nothing(table: Table, up: Up) -> None:
    up("a")
    one = request("1")
    submit(table, one)
    claim(table, one)

    submit(table, one)

    assert waiting(table) == []


def test_only_the_first_of_a_shape_must_be_told_until_somebody_looked(table: Table) -> None:
    told = [submit(table, request(name)) for name in "123"]
    Pending(table).take(request("1").shape, 1)
    told.append(submit(table, request("4")))

    assert [shape is not None for shape in told] == [True, False, False, True]


# The order


def test_lower_ranks_go_first_and_equals_by_arrival(table: Table) -> None:
    for name, rank in [("late", 5), ("one", 0), ("two", 0), ("urgent", -3), ("latest", 5)]:
        submit(table, request(name), rank=rank)

    assert waiting(table) == [("r-urgent",), ("r-one",), ("r-two",), ("r-late",), ("r-latest",)]


def test_shapes_go_in_the_order_of_their_first(table: Table) -> None:
    submit(table, request("1", claims={"gpus": 1}), rank=1)
    submit(table, request("2", claims={"gpus": 2}), rank=1)
    submit(table, request("3", claims={"gpus": 2}), rank=0)

    assert Pending(table).shapes() == [request("2", claims={"gpus": 2}).shape, request("1", claims={"gpus": 1}).shape]

    Pending(table).fail(Pending(table).all()[0], "revoked", "why")
    assert Pending(table).shapes() == [request("1", claims={"gpus": 1}).shape, request("2", claims={"gpus": 2}).shape]


def test_requests_that_fit_the_same_hosts_have_one_shape_and_a_gang_has_its_own(table: Table) -> None:
    shapes = {
        submit(table, request("1", prefers={"x == 1": 1})), submit(table, *gang("2", "3")),
        submit(table, request("4", claims={"gpus": 1})), submit(table, request("5", only="a")),
    }  # fmt: skip
    submit(table, request("6"))

    assert set(Pending(table).shapes()) == shapes
    assert len(shapes) == 4


def test_a_request_that_is_placed_again_keeps_its_place_in_line(table: Table, up: Up, clock: Any) -> None:
    up("a")
    for name in "123":
        submit(table, request(name))
    claim(table, request("1"))

    clock.advance(61)
    table.prune()

    assert waiting(table) == [("r-1",), ("r-2",), ("r-3",)]


# Not yet


def test_what_has_an_eta_waits_for_it_first(table: Table, clock: Any) -> None:
    assert submit(table, request("1"), not_before=clock.now + 20) is None
    submit(table, request("2"))
    assert waiting(table) == [("r-2",)]

    clock.advance(19.9)
    Claims(table).reap()
    assert waiting(table) == [("r-2",)]
    clock.advance(0.1)
    Claims(table).reap()

    assert waiting(table) == [("r-1",), ("r-2",)]
    assert "delayed" not in keys_of(table)


def test_an_eta_that_is_over_is_none(table: Table, clock: Any) -> None:
    assert submit(table, request("1"), not_before=clock.now - 20) is not None

    assert waiting(table) == [("r-1",)]


def test_a_delayed_gang_waits_as_a_whole(table: Table, clock: Any) -> None:
    submit(table, *gang("1", "2"), not_before=clock.now + 20)
    clock.advance(20)
    Claims(table).reap()

    assert waiting(table) == [("r-1", "r-2")]


# No longer


def test_the_time_to_be_placed_begins_with_the_eta(table: Table, clock: Any) -> None:
    submit(table, request("1"), timeout=10)
    submit(table, request("2"), timeout=10, not_before=clock.now + 20)
    submit(table, request("3"))

    assert [unit.ids for unit in Pending(table).overdue(clock.now + 10)] == [("r-1",)]
    assert [unit.ids for unit in Pending(table).overdue(clock.now + 30)] == [("r-1",), ("r-2",)]


@pytest.mark.parametrize(("timeout", "expires", "at"), [(10, 20, 10), (20, 10, 10), (None, 10, 10)])
def test_a_request_is_given_up_at_its_timeout_or_its_expiry_whichever_is_first(
    table: Table, clock: Any, timeout: float | None, expires: float, at: float
) -> None:
    submit(table, request("1", expires_at=clock.now + expires), timeout=timeout)

    assert Pending(table).overdue(clock.now + at - 0.1) == []
    assert [unit.ids for unit in Pending(table).overdue(clock.now + at)] == [("r-1",)]


def test_what_is_placed_is_not_overdue(table: Table, up: Up, clock: Any) -> None:
    up("a")
    one = request("1")
    submit(table, one, timeout=10)
    claim(table, one)

    assert Pending(table).overdue(clock.now + 100) == []


def test_a_failed_request_waits_for_its_result_and_is_then_forgotten(table: Table) -> None:
    submit(table, request("1"), timeout=10)
    (unit,) = Pending(table).all()

    assert [Pending(table).fail(unit, "timeout", "why"), Pending(table).fail(unit, "timeout", "why")] == [True, False]

    (failing,) = Pending(table).failing()
    assert (failing.request, failing.kind, failing.why, failing.message) == (
        request("1"), "timeout", "why", {"body": "r-1"},
    )  # fmt: skip
    assert [Pending(table).finish("r-1", "unplaced", "why") for _ in range(2)] == [True, False]
    assert set(keys_of(table)) == {"arrivals", "counters", "ended", "over"}


def test_a_gang_fails_as_a_whole(table: Table) -> None:
    submit(table, *gang("1", "2"))
    Pending(table).fail(Pending(table).all()[0], "timeout", "why")

    assert {failing.request.id for failing in Pending(table).failing()} == {"r-1", "r-2"}
    for name in ("r-1", "r-2"):
        Pending(table).finish(name, "unplaced", "why")
    assert set(keys_of(table)) == {"arrivals", "counters", "ended", "over"}


def test_a_failure_whose_request_is_unknown_is_forgotten(table: Table) -> None:
    submit(table, request("1"))
    Pending(table).fail(Pending(table).all()[0], "timeout", "why")
    table.redis.hdel(table.key("requests"), "r-1")

    assert Pending(table).failing() == []
    assert "failing" not in keys_of(table)


# Whose


def test_the_units_of_tasks_are_those_that_have_no_host_yet(table: Table, up: Up, clock: Any) -> None:
    up("a")
    for name in "123":
        submit(table, request(name), not_before=clock.now + 20 if name == "3" else None)
    claim(table, request("1"))

    found = Pending(table).waiting_of(["t-1", "t-2", "t-3", "t-unknown"])

    assert [unit.ids for unit in found] == [("r-2",), ("r-3",)]


@pytest.mark.parametrize("name", ["1", "2"])
def test_a_gang_is_found_by_each_of_its_tasks(table: Table, name: str) -> None:
    submit(table, *gang("1", "2"))

    assert [unit.ids for unit in Pending(table).waiting_of([f"t-{name}"])] == [("r-1", "r-2")]


@pytest.mark.parametrize("name", ["1", "2"])
def test_one_of_a_gang_that_is_placed_again_is_found_by_itself(table: Table, up: Up, name: str) -> None:
    bodies = {host: up(host) for host in "ab"}
    requests = gang("1", "2")
    submit(table, *requests)
    claim(table, *requests)
    bodies["a" if name == "1" else "b"].leave()

    assert [unit.ids for unit in Pending(table).waiting_of([f"t-{name}"])] == [(f"r-{name}",)]


# Announcing


def test_what_nobody_looked_at_is_announced_again_after_a_while(table: Table, clock: Any) -> None:
    shape = submit(table, request("1"))

    assert Pending(table).announced(clock.now + ANNOUNCED - 0.1) == []
    assert Pending(table).announced(clock.now + ANNOUNCED) == [shape]

    Pending(table).take(request("1").shape, 1)
    assert Pending(table).announced(clock.now + ANNOUNCED) == []


def test_a_lost_announcement_costs_a_few_seconds(table: Table, up: Up, clock: Any) -> None:
    up("a")
    scheduler = Scheduler(table)
    scheduler.turn()
    submit(table, request("1"))  # and nobody is told

    assert scheduler.turn() == []
    clock.advance(ANNOUNCED)
    assert [sent.task_id for sent in scheduler.turn()] == ["t-1"]

    assert table.counters()["requests_announced_again"] == 1
    assert "requests_placed_by_sweep" not in table.counters()


# Knowing


def test_a_request_knows_where_the_tasks_it_speaks_of_ran(table: Table, up: Up) -> None:
    up("a")
    first = request("1", sticky="x")
    submit(table, first)
    claim(table, first)

    known = Pending(table).knowing(request("2", same_host="t-1", different_host=["t-3"], sticky="x"))

    assert (known.ran, known.home) == ({"t-1": "a"}, "a")
    assert Pending(table).knowing(request("3", sticky="y")).home is None


def test_known_keys_are_all_that_was_ever_reported(table: Table, up: Up) -> None:
    body = up("a", {"slots": 2}, {"gpu.model": "A100"})
    body.report({"slots": 2}, {})

    assert Pending(table).known_keys() == {"host.slots", "render.gpu.model"}
