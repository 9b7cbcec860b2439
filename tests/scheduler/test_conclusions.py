"""Each request that can't be run has its end told, by one scheduler at a time, whatever becomes of the others'."""

import pytest

from scheduler.conclusions import TURN, Conclusions
from scheduler.envelope import envelope
from scheduler.pending import Failing, Pending
from scheduler.requests import Request
from scheduler.table import Table


def fail(table: Table, *ids: str) -> None:
    """Have requests with these ids, which were given up."""
    pending = Pending(table)
    for one in ids:
        request = Request(id=one, task_id=f"t{one}", task="tasks.render", service="host")
        pending.submit([(request, envelope([[], {}, {}], headers={"id": f"t{one}"}, serializer="json"))])
        (unit,) = pending.all()
        pending.fail(unit, "timeout", "no valid host")


class Told:
    """Who was told of which ends, and those of whom that raises."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, failing: Failing) -> None:
        self.ids.append(failing.request.id)
        if failing.request.id in self.broken:
            raise ValueError("the backend is away")


def test_an_end_is_told_once(table: Table) -> None:
    fail(table, "1-1", "1-2")
    told = Told()
    conclusions = Conclusions(table, told)

    assert conclusions.turn() == 2
    assert conclusions.turn() == 0

    assert sorted(told.ids) == ["1-1", "1-2"]
    assert Pending(table).failing() == []


def test_an_end_that_can_not_be_told_holds_up_no_other_and_is_told_later(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    fail(table, "1-1", "1-2", "1-3")
    told = Told()
    told.broken = {"1-2"}
    conclusions = Conclusions(table, told)

    assert (conclusions.turn(), conclusions.turn()) == (2, 0)
    told.broken.clear()
    assert conclusions.turn() == 1

    assert sorted(told.ids) == ["1-1", "1-2", "1-2", "1-2", "1-3"]
    assert caplog.text.count("the end of tasks.render[t1-2] is not told yet") == 1


def test_one_scheduler_at_a_time_tells_ends(table: Table) -> None:
    told, other = Told(), Told()
    mine, others = Conclusions(table, told), Conclusions(table, other)
    mine.turn()
    fail(table, "1-1")

    assert (others.turn(), other.ids) == (0, [])
    table.redis.delete(table.key("concluder"))  # its turn is over, as it is after so many seconds
    assert others.turn() == 1

    assert told.ids == []
    assert 0 < int(table.redis.pttl(table.key("concluder"))) <= TURN * 1000  # type: ignore[arg-type]


def test_a_scheduler_whose_turn_went_by_while_it_told_an_end_leaves_the_rest_to_the_next(table: Table) -> None:
    fail(table, "1-1", "1-2")
    other = Told()

    def conclude(_: Failing) -> None:
        table.redis.set(table.key("concluder"), "another")

    assert Conclusions(table, conclude).turn() == 1
    table.redis.delete(table.key("concluder"))
    assert Conclusions(table, other).turn() == 1


def test_each_scheduler_reaps_though_another_concludes(table: Table) -> None:
    fail(table, "1-1")
    told = Told()
    assert table.take_turn("reaper", "another", 60.0)

    assert Conclusions(table, told).turn() == 1
