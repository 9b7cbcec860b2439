"""Whatever may let a request fit that did not fit before is an event, and each reader hears each event once."""

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.claims import RECENT, Claims
from scheduler.events import Events
from scheduler.table import Table
from tests.scheduler.bodies import HEARTBEAT, INTERVAL, Body, claim, placed, request, running, submit

Up = Callable[..., Body]


@pytest.fixture
def body(up: Up, table: Table) -> Body:
    """A host that runs the task t-1."""
    made: Body = up("a")
    running(table, made, is_late=True)
    return made


def heard_of(table: Table, act: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the events by which *act* is heard."""
    events = Events(table)
    events.read()
    act()
    return events.read()


def test_the_first_reading_says_that_all_is_to_be_looked_at_and_what_was_before_is_not_repeated(
    table: Table, body: Body
) -> None:
    events = Events(table)

    assert [events.read(), events.read()] == [[("begin", "")], []]


def test_each_reader_hears_each_event_once(table: Table, body: Body) -> None:
    readers = [Events(table), Events(table)]
    for reader in readers:
        reader.read()

    body.leave()

    first, second = ([reader.read(), reader.read()] for reader in readers)
    assert first == second
    assert first[0]
    assert first[1] == []


def test_a_reader_of_an_empty_stream_hears_its_first_event(table: Table, body: Body) -> None:
    table.redis.delete(table.key("events"))
    events = Events(table)
    events.read()

    body.end({"id": "r-1", "attempt": 1})

    assert events.read(wait=0.01) == [("released", "a")]


def test_a_flush_of_redis_does_not_deafen_a_reader(table: Table, body: Body) -> None:
    events = Events(table)
    events.read()

    table.redis.delete(table.key("events"))
    body.end({"id": "r-1", "attempt": 1})

    assert events.read() == [("released", "a")]


def test_a_release_a_leave_and_a_join_are_heard(table: Table, body: Body) -> None:
    assert heard_of(table, lambda: body.end({"id": "r-1", "attempt": 1})) == [("released", "a")]
    assert heard_of(table, body.leave) == []
    body.boot = 0
    assert heard_of(table, body.join) == [("joined", "a"), ("joined", "a")]


@pytest.mark.parametrize("word", ["again", "anew"])
def test_a_request_that_waits_again_is_heard(table: Table, body: Body, word: str) -> None:
    heard = heard_of(table, lambda: body.end({"id": "r-1", "attempt": 1}, word, word))

    assert heard[0] == ("released", "a")
    assert [what for what, _ in heard] == ["released", "again"]


def test_a_report_is_heard_where_it_changes_something(table: Table, body: Body) -> None:
    assert heard_of(table, lambda: body.report({"slots": 3}, {})) == [("reported", "a")]
    assert heard_of(table, lambda: body.report({"slots": 3}, {})) == []
    assert heard_of(table, lambda: body.report(None, {"gpus": 1})) == [("reported", "a")]


def test_a_first_report_that_says_nothing_is_heard(table: Table, up: Up) -> None:
    body = Body(table, "a", "a")
    body.join()

    assert heard_of(table, lambda: body.report({}, None)) == [("reported", "a")] * 2


def test_a_report_after_a_long_silence_is_heard(table: Table, body: Body, clock: Any) -> None:
    clock.advance(3 * INTERVAL + 1)

    assert ("reported", "a") in heard_of(table, lambda: body.report({"slots": 2}, {}))


def test_a_heartbeat_is_heard_where_it_ends_a_silence(table: Table, body: Body, clock: Any) -> None:
    assert heard_of(table, body.beat) == []

    clock.advance(3 * HEARTBEAT)

    assert {what for what, _ in heard_of(table, body.beat)} == {"back"}


def test_only_enabling_what_was_disabled_is_heard(table: Table, body: Body) -> None:
    assert heard_of(table, lambda: table.enable("render/a")) == []
    assert heard_of(table, lambda: table.disable("render/a", "why")) == []
    assert heard_of(table, lambda: table.enable("render/a")) == [("enabled", "a")]


@pytest.mark.parametrize("is_late", [True, False])
def test_the_end_of_a_host_is_heard_for_what_it_held(
    table: Table,
    up: Up,
    clock: Any,
    *,
    is_late: bool,
) -> None:
    body = up("a")
    running(table, body, is_late=is_late)
    clock.advance(61)

    heard = [what for what, _ in heard_of(table, table.prune)]

    assert heard == ["released", "again" if is_late else "lost"]


def test_what_is_reaped_is_heard(table: Table, up: Up, clock: Any) -> None:
    up("a")
    placed(table)
    submit(table, request("2"), not_before=clock.now + 30)
    clock.advance(30)

    heard = [what for what, _ in heard_of(table, Claims(table).reap)]

    assert heard == ["released", "again", "due"]


def test_what_a_report_ends_or_repairs_is_heard(table: Table, body: Body, clock: Any) -> None:
    body.running.clear()
    clock.advance(RECENT + 0.1)
    assert [what for what, _ in heard_of(table, lambda: body.report({"slots": 2}, {}))] == ["released", "again"]

    table.redis.hset(table.key("used"), "host/a", '{"slots": 2000}')
    assert [what for what, _ in heard_of(table, lambda: body.report({"slots": 2}, {}))] == ["repaired"]


def test_the_placing_of_a_task_that_others_ask_about_is_heard(table: Table, up: Up) -> None:
    up("a")
    one, other = request("1"), request("2")
    submit(table, one)
    submit(table, other)
    submit(table, request("3", same_host="t-1"))

    assert heard_of(table, lambda: claim(table, one)) == [("placed", "a")]
    assert heard_of(table, lambda: claim(table, other)) == []
