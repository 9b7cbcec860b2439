"""Attempts that ended, on their way into the history."""

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.ended import Ended
from scheduler.pending import Pending
from scheduler.table import Table
from tests.scheduler.bodies import Body, keys_of, request, running, submit

Up = Callable[..., Body]


@pytest.fixture
def done(table: Table, up: Up, clock: Any) -> Body:
    """A host whose one task has ended, 3 s after it began."""
    body = up("a", {"slots": 2, "memory_mb": 1000})
    header = running(table, body, claims={"memory_mb": 1.5})
    clock.advance(3)
    body.end(header, "failed", why="ValueError: no")
    return body


def test_what_ended_is_told_as_people_know_it(table: Table, done: Body, clock: Any) -> None:
    (record,) = Ended(table).read(10)

    assert {name: record[name] for name in ("request_id", "attempt", "task_id", "service", "host", "outcome")} == {
        "request_id": "r-1", "attempt": 1, "task_id": "t-1", "service": "render", "host": "a", "outcome": "failed",
    }  # fmt: skip
    assert record["claims"] == {"memory_mb": 1.5, "slots": 1}
    assert record["reasons"] == "ValueError: no"
    assert record["ended_at"] - record["started_at"] == 3
    assert record["submitted_at"] <= record["placed_at"] <= record["started_at"] < clock.now + 1


def test_what_never_had_a_host_has_none_in_the_history(table: Table, up: Up) -> None:
    up("a")
    submit(table, request("1"))
    (unit,) = Pending(table).all()
    Pending(table).fail(unit, "revoked", "revoked")
    Pending(table).finish("r-1", "revoked", "revoked")

    (record,) = Ended(table).read(10)
    assert (record["attempt"], record["host"], record["placed_at"], record["outcome"]) == (0, None, None, "revoked")


def test_what_was_read_stays_until_it_is_dropped(table: Table, done: Body) -> None:
    ended = Ended(table)

    assert ended.read(10) == ended.read(10) != []
    assert ended.drop(1)
    assert ended.read(10) == []
    assert "ended" not in keys_of(table)


def test_one_reader_at_a_time_takes_them(table: Table, done: Body) -> None:
    first, second = Ended(table), Ended(table)

    assert first.read(10)
    assert second.read(10) == []
    assert not second.drop(1)
    assert first.read(10)


def test_who_was_too_slow_to_write_drops_nothing(table: Table, done: Body) -> None:
    slow, other = Ended(table), Ended(table)
    assert slow.read(10)
    table.redis.delete(table.key("historian"))  # its turn is over, as it is after so many seconds
    assert other.read(10)

    assert not slow.drop(1)

    assert other.read(10)
