"""The placer gives what waits to hosts, in order, as soon as one has room, and misses no chance to."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from scheduler import placer
from scheduler.chores import CHORES, TURN
from scheduler.claims import Claim, Claims
from scheduler.errors import TableUnavailable
from scheduler.pending import Failing, Pending
from scheduler.placer import PAUSE, SWEEP
from scheduler.table import Table
from tests.scheduler.bodies import Body, Scheduler, candidates, gang, keys_of, placed, request, running, submit

Up = Callable[..., Body]


@pytest.fixture
def revoked() -> set[str]:
    return set()


@pytest.fixture
def scheduler(table: Table, revoked: set[str]) -> Scheduler:
    """A scheduler that has had its first turn."""
    made = Scheduler(table, revoked=lambda: revoked)
    made.turn()
    return made


def another(table: Table) -> Scheduler:
    made = Scheduler(table)
    made.turn()
    return made


def told(scheduler: Scheduler, *requests: Any, **when: Any) -> list[str]:
    """Submit *requests*, tell the scheduler and give it a turn; return the tasks that were sent."""
    shape = submit(scheduler.table, *requests, **when)
    if shape is not None:
        scheduler.placer.notice(shape)
    return tasks(scheduler.turn())


def tasks(claims: list[Claim]) -> list[str]:
    return [claim.task_id for claim in claims]


def waiting(table: Table) -> list[tuple[str, ...]]:
    return [unit.ids for unit in Pending(table).all()]


def by_sweep(table: Table) -> int:
    return table.counters().get("requests_placed_by_sweep", 0)


# Placing


def test_what_is_announced_goes_to_a_host_with_its_claim_and_message(
    table: Table, scheduler: Scheduler, up: Up
) -> None:
    body = up("a", {"slots": 2}, {"gpus": 1})

    assert told(scheduler, request("1", claims={"gpus": 0.5})) == ["t-1"]

    ((claim, message),) = scheduler.sent
    assert (claim.host, claim.attempt, claim.service, claim.task) == ("a", 1, "render", "tasks.render")
    assert claim.amounts == {"host/a": {"slots": 1000}, "render/a": {"gpus": 500}}
    assert message == {"body": "r-1"}
    assert body.start(claim.to_header()) == "go"


def test_as_many_are_placed_as_fit_in_their_order(table: Table, scheduler: Scheduler, up: Up) -> None:
    up("a", {"slots": 2})
    for name, rank in [("late", 5), ("1", 0), ("2", 0), ("urgent", -1)]:
        submit(table, request(name), rank=rank)

    assert tasks(scheduler.turn()) == ["t-urgent", "t-1"]
    assert waiting(table) == [("r-2",), ("r-late",)]


def test_what_fits_is_placed_past_what_does_not(table: Table, scheduler: Scheduler, up: Up) -> None:
    up("a", {"slots": 1})
    submit(table, request("big", claims={"slots": 9}))

    assert told(scheduler, request("small")) == ["t-small"]


def test_more_than_one_batch_is_placed_at_once(
    table: Table, scheduler: Scheduler, up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placer, "BATCH", 4)
    up("a", {"slots": 6})
    for number in range(7):
        submit(table, request(str(number)))

    assert len(scheduler.turn()) == 6


def test_requests_of_several_shapes_are_placed_in_the_order_of_all(table: Table, scheduler: Scheduler, up: Up) -> None:
    up("a", {"slots": 4})
    for name, rank, claims in [("last", 9, {"x": 0}), ("first", 0, {"x": 0}), ("third", 5, None), ("second", 3, {})]:
        submit(table, request(name, claims=claims, exclude=[] if claims is None else ["b"]), rank=rank)

    assert tasks(scheduler.turn()) == ["t-first", "t-second", "t-third", "t-last"]


def test_a_shape_without_end_leaves_others_their_turn(
    table: Table, scheduler: Scheduler, up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placer, "BATCH", 2)
    monkeypatch.setattr(placer, "MOST", 4)
    up("a", {"slots": 1})
    for number in range(7):
        submit(table, request(str(number), claims={"slots": 0}))

    assert told(scheduler, request("other")) == ["t-0", "t-1", "t-2", "t-3", "t-other"]
    assert tasks(scheduler.turn()) == ["t-4", "t-5", "t-6"]


def test_a_gang_goes_to_hosts_at_once_or_waits_as_a_whole(table: Table, scheduler: Scheduler, up: Up) -> None:
    up("a", {"slots": 5})
    assert told(scheduler, *gang("1", "2")) == []

    up("b", {"slots": 1})

    assert tasks(scheduler.turn()) == ["t-1", "t-2"]
    assert sorted(claim.host for claim, _ in scheduler.sent) == ["a", "b"]
    assert by_sweep(table) == 0


# Races


def test_two_schedulers_with_the_same_snapshot_give_a_place_once(table: Table, scheduler: Scheduler, up: Up) -> None:
    up("a", {"slots": 1})
    other = another(table)
    submit(table, request("1"))
    submit(table, request("2"))

    scheduler.selector.then = other.turn
    scheduler.turn()

    assert len(scheduler.sent) + len(other.sent) == 1
    assert len(Claims(table).all()) == 1


def test_a_host_that_changed_after_the_choice_is_looked_at_anew_in_the_same_turn(
    table: Table, scheduler: Scheduler, up: Up
) -> None:
    body = up("a", {"slots": 2}, {"gpus": 1})
    scheduler.selector.then = lambda: body.report(None, {"gpus": 2})

    assert told(scheduler, request("1")) == ["t-1"]
    assert scheduler.selector.calls == 2


def test_hosts_that_change_without_end_hold_up_nobody_else(
    table: Table, scheduler: Scheduler, up: Up, clock: Any
) -> None:
    body = up("a", {"slots": 2}, {"gpus": 1})

    def change() -> None:
        body.report(None, {"gpus": 9 + body.sequence})
        scheduler.selector.then = change

    scheduler.selector.then = change
    assert told(scheduler, request("1")) == []
    assert scheduler.selector.calls < 10

    scheduler.selector.then = None
    clock.advance(CHORES)
    scheduler.turn()
    assert tasks([claim for claim, _ in scheduler.sent]) == ["t-1"]


@pytest.mark.parametrize("is_second", [True, False])
def test_capacity_freed_between_the_decision_and_the_wait_wakes_the_request(
    table: Table,
    up: Up,
    *,
    is_second: bool,
) -> None:
    body = up("a", {"slots": 1})
    schedulers = [another(table), another(table)]
    header = running(table, body)
    for scheduler in schedulers:
        scheduler.turn()
    schedulers[0].selector.then = lambda: body.end(header)

    assert told(schedulers[0], request("2")) == []  # it saw no room, and there is some now
    woken = schedulers[is_second]

    assert tasks(woken.turn()) == ["t-2"]
    assert by_sweep(table) == 0


@pytest.mark.parametrize("what", ["join", "report", "enable", "release"])
def test_a_request_is_woken_by_each_way_in_which_a_host_gets_room(
    table: Table, scheduler: Scheduler, up: Up, what: str
) -> None:
    body = up("a", {"slots": 1})
    header = running(table, body) if what == "release" else None
    if what == "enable":
        table.disable("render/a", "why")
    elif what in {"join", "report"}:
        body.report({"slots": 0}, None)
    assert told(scheduler, request("2")) == []

    {
        "join": lambda: up("b"), "report": lambda: body.report({"slots": 1}, None),
        "enable": lambda: table.enable("render/a"), "release": lambda: header and body.end(header),
    }[what]()  # fmt: skip

    assert tasks(scheduler.turn()) == ["t-2"]
    assert by_sweep(table) == 0


def test_a_request_is_woken_by_the_placing_of_the_task_whose_host_it_wants(table: Table, up: Up, clock: Any) -> None:
    up("a", {"slots": 3})
    one, other = another(table), another(table)
    assert told(other, request("2", same_host="t-1")) == []

    assert told(one, request("1")) == ["t-1"]

    assert tasks(other.turn()) == ["t-2"]
    assert by_sweep(table) == 0


def test_what_only_the_sweep_places_is_counted(table: Table, scheduler: Scheduler, up: Up, clock: Any) -> None:
    body = up("a", {"slots": 1})
    running(table, body)
    assert told(scheduler, request("2")) == []
    table.redis.hset(table.key("used"), "host/a", '{"slots": 0}')  # nobody is told of this

    clock.advance(SWEEP - 15)
    body.beat()
    assert scheduler.turn() == []
    clock.advance(15)
    assert tasks(scheduler.turn()) == ["t-2"]

    assert by_sweep(table) == 1


def test_what_waited_before_a_scheduler_began_is_placed_at_once_and_not_missed(table: Table, up: Up) -> None:
    up("a")
    submit(table, request("1"))

    assert tasks(Scheduler(table).turn()) == ["t-1"]
    assert by_sweep(table) == 0


def test_a_thousand_parked_requests_of_one_shape_cost_a_bounded_look_per_event(
    table: Table, scheduler: Scheduler, up: Up
) -> None:
    body = up("a", {"slots": 1})
    header = running(table, body)
    for number in range(1000):
        submit(table, request(f"w{number}"))
    scheduler.turn()
    scheduler.turn()

    for number in range(3):
        before = scheduler.selector.calls
        body.end(header)
        (claim,) = scheduler.turn()
        assert claim.task_id == f"t-w{number}"
        assert scheduler.selector.calls - before <= 2
        header = claim.to_header()
        assert body.start(header) == "go"


def test_without_news_nothing_is_looked_at(table: Table, scheduler: Scheduler, up: Up, clock: Any) -> None:
    up("a", {"slots": 0})
    told(scheduler, request("1"))
    before = scheduler.selector.calls

    clock.advance(2 * CHORES)
    scheduler.turn()

    assert scheduler.selector.calls == before


def test_what_was_decided_before_the_table_was_ready_is_decided_again_when_it_is(table: Table, clock: Any) -> None:
    scheduler = another(table)
    body = Body(table, "a", "a")
    body.join()
    body.report({"slots": 1}, {})
    assert told(scheduler, request("1")) == []

    clock.advance(10)  # nothing happens: nobody else joined

    assert tasks(scheduler.turn()) == ["t-1"]
    assert by_sweep(table) == 0


# What goes wrong


def test_a_request_whose_message_can_not_be_sent_waits_on_and_is_sent_when_the_broker_is_back(
    table: Table, scheduler: Scheduler, up: Up, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    up("a")
    send, tried = scheduler.dispatch, []

    def refuse(claim: Claim, message: Any) -> None:
        tried.append(claim.task_id)
        raise ConnectionError("no broker")

    scheduler.dispatch = refuse  # type: ignore[method-assign]
    told(scheduler, request("1", claims={"slots": 0}, max_attempts=1))
    for _ in range(3):
        scheduler.turn()

    assert tried == ["t-1"]  # and not again before a pause
    assert waiting(table) == [("r-1",)]
    assert Claims(table).all() == []
    assert not {"strikes", "avoided", "failures", "used"} & set(keys_of(table))
    assert "t-1] can't be sent and waits: no broker" in caplog.text

    scheduler.dispatch = send  # type: ignore[method-assign]
    clock.advance(PAUSE)
    assert tasks(scheduler.turn()) == ["t-1"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("name", "number"), [("snapshot", 1), ("claim", 1), ("claim", 2)])
def test_a_redis_that_falls_silent_within_a_turn_loses_nothing(
    table: Table,
    scheduler: Scheduler,
    up: Up,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    number: int,
    when: str,
) -> None:
    body = up("a", {"slots": 5})
    for task in "12":
        submit(table, request(task))
    of = "script" if name == "claim" else name
    ask, asked = getattr(table, of), []

    def fall_silent(*arguments: Any) -> Any:
        is_meant = name in {"snapshot", *arguments[:1]}
        asked.extend([name] * is_meant)
        answer = None if is_meant and len(asked) == number and when == "before" else ask(*arguments)
        if is_meant and len(asked) == number:
            raise TableUnavailable("it is silent")
        return answer

    monkeypatch.setattr(table, of, fall_silent)
    with pytest.raises(TableUnavailable):
        scheduler.turn()
    scheduler.turn()
    clock.advance(30)  # what was claimed and never sent is placed anew at its deadline
    body.beat()
    table.redis.delete(table.key("reaper"))
    scheduler.turn()
    scheduler.turn()

    begun = [claim.task_id for claim, _ in scheduler.sent if body.start(claim.to_header()) == "go"]
    assert sorted(begun) == ["t-1", "t-2"]


def test_a_record_that_can_not_be_read_holds_up_nobody_else(
    table: Table, scheduler: Scheduler, up: Up, caplog: pytest.LogCaptureFixture
) -> None:
    up("a")
    submit(table, request("1", claims={"slots": 2}))
    table.redis.hset(table.key("requests"), "r-1", '{"requires": {"?": 1}}')
    table.redis.hset(table.key("messages"), "r-1", '{"headers": {"id": "t-1", "task": "tasks.render"}}')

    assert told(scheduler, request("2")) == ["t-2"]
    assert "request r-1 can't be read" in caplog.text


def test_a_result_that_can_not_be_written_is_written_later(
    table: Table, scheduler: Scheduler, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write = scheduler.conclude

    def refuse(failing: Failing) -> None:
        raise ConnectionError("no backend")

    scheduler.conclude = refuse  # type: ignore[method-assign]
    told(scheduler, request("1"), timeout=5)
    clock.advance(5)
    scheduler.turn()
    assert "is not told yet" in caplog.text

    scheduler.conclude = write  # type: ignore[method-assign]
    clock.advance(CHORES)
    scheduler.turn()
    clock.advance(CHORES)
    scheduler.turn()
    assert [failing.request.id for failing in scheduler.concluded] == ["r-1"]


# Giving up


def test_who_waits_too_long_is_given_up_with_the_reasons(
    table: Table, scheduler: Scheduler, up: Up, clock: Any
) -> None:
    body = up("a", {"slots": 1}, {"gpus": 1})
    told(scheduler, request("1", claims={"gpus": 2}), timeout=20)

    clock.advance(19.9)
    body.beat()
    scheduler.turn()
    assert scheduler.concluded == []
    clock.advance(1)
    scheduler.turn()

    (failing,) = scheduler.concluded
    assert (failing.kind, failing.message) == ("timeout", {"body": "r-1"})
    assert failing.why.startswith("no valid host for tasks.render within 20.9 s; 0/1 hosts: 1 gpus >= 2 (most free: 1)")
    assert not {"requests", "failing", "timeouts", "shapes"} & set(keys_of(table))


def test_what_expires_before_it_is_placed_is_not_placed(table: Table, scheduler: Scheduler, up: Up, clock: Any) -> None:
    up("a")
    one = request("1", expires_at=clock.now + 20)
    submit(table, one)
    clock.advance(20)

    scheduler.turn()

    assert scheduler.sent == []
    assert [failing.kind for failing in scheduler.concluded] == ["expired"]


@pytest.mark.parametrize("delay", [None, 100.0])
def test_what_is_revoked_while_it_waits_ends_at_once(
    table: Table, scheduler: Scheduler, revoked: set[str], clock: Any, delay: float | None
) -> None:
    told(scheduler, request("1"), not_before=None if delay is None else clock.now + delay)

    revoked.add("t-1")
    clock.advance(CHORES)
    scheduler.turn()

    assert [(failing.request.id, failing.kind) for failing in scheduler.concluded] == [("r-1", "revoked")]
    assert not {"requests", "delayed", "shapes", "messages"} & set(keys_of(table))


def test_what_was_revoked_before_it_was_submitted_is_not_placed(
    table: Table, scheduler: Scheduler, revoked: set[str], up: Up, clock: Any
) -> None:
    up("a")
    revoked.add("t-1")
    scheduler.turn()

    assert told(scheduler, request("1")) == []
    clock.advance(CHORES)
    scheduler.turn()
    assert [failing.kind for failing in scheduler.concluded] == ["revoked"]


@pytest.mark.parametrize("name", ["1", "2"])
def test_a_gang_one_of_which_is_revoked_ends_as_a_whole(
    table: Table, scheduler: Scheduler, revoked: set[str], clock: Any, name: str
) -> None:
    told(scheduler, *gang("1", "2"))

    revoked.add(f"t-{name}")
    clock.advance(CHORES)
    scheduler.turn()

    assert {(failing.request.id, failing.kind) for failing in scheduler.concluded} == {
        ("r-1", "revoked"), ("r-2", "revoked"),
    }  # fmt: skip


def test_one_of_a_gang_that_waits_again_is_revoked_by_itself(
    table: Table, scheduler: Scheduler, revoked: set[str], up: Up, clock: Any
) -> None:
    bodies = {host: up(host, {"slots": 1}) for host in "ab"}
    told(scheduler, *gang("1", "2"))
    second = next(claim for claim, _ in scheduler.sent if claim.task_id == "t-2")
    bodies[second.host].leave()
    scheduler.turn()
    assert waiting(table) == [("r-2",)]

    revoked.add("t-2")
    clock.advance(CHORES)
    scheduler.turn()

    assert [failing.request.id for failing in scheduler.concluded] == ["r-2"]


# Chores


def test_one_scheduler_reaps_at_a_time_and_a_dead_ones_turn_ends_by_itself(table: Table, up: Up, clock: Any) -> None:
    up("a")
    schedulers = [Scheduler(table), Scheduler(table)]
    schedulers[0].turn()
    placed(table, start_deadline=1)
    clock.advance(2)

    schedulers[1].turn()
    assert len(Claims(table).all()) == 1
    left: Any = table.redis.pttl(table.key("reaper"))
    assert 0 < left <= TURN * 1000

    table.redis.delete(table.key("reaper"))  # what its time to live does
    clock.advance(CHORES)
    schedulers[1].turn()
    assert table.counters()["claims_missed"] == 1
    clock.advance(CHORES)
    schedulers[0].turn()
    assert table.redis.get(table.key("reaper")) == schedulers[1].placer._chores._name


def test_what_was_not_begun_is_sent_to_another_host_in_the_same_turn(
    table: Table, scheduler: Scheduler, up: Up, clock: Any
) -> None:
    bodies = [up("a"), up("b")]
    told(scheduler, request("1", start_deadline=20))
    clock.advance(20)
    for body in bodies:
        body.beat()

    scheduler.turn()
    scheduler.turn()

    first, second = (claim for claim, _ in scheduler.sent)
    assert (second.attempt, second.task_id) == (2, "t-1")
    assert second.host != first.host


def test_that_requests_wait_is_said_once_of_each_shape_and_verdict(
    table: Table, scheduler: Scheduler, up: Up, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scheduler.placer")
    body = up("a", {"slots": 1})
    running(table, body)

    for name in "234":
        told(scheduler, request(name))
    told(scheduler, request("5", requires="zone == 'x'"))

    said = [(record.levelname, record.getMessage()) for record in caplog.records if " waits, " in record.getMessage()]
    assert [level for level, _ in said] == ["INFO", "WARNING"]
    assert "tasks.render[t-2] waits, full: 0/1 hosts: 1 slots >= 1 (most free: 0)" in said[0][1]
    assert "infeasible" in said[1][1]


def test_a_snapshot_follows_what_was_claimed_in_the_same_look(table: Table, scheduler: Scheduler, up: Up) -> None:
    for host in "abcd":
        up(host, {"slots": 1})
    for number in range(4):
        submit(table, request(str(number)))

    assert len(scheduler.turn()) == 4
    assert scheduler.selector.calls == 4
    assert [candidate.free("slots") for candidate in candidates(table)] == [0, 0, 0, 0]
