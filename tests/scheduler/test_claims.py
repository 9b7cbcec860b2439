"""A claim is given once, on live numbers, and ends with its task, its deadline or its host."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scheduler.claims import FORGIVEN, RECENT, Claims
from scheduler.pending import Pending
from scheduler.table import Table
from tests.scheduler.bodies import Body, candidates, claim, gang, keys_of, placed, request, running, submit

Up = Callable[..., Body]


def used(table: Table) -> dict[str, Any]:
    return {member: json.loads(text) for member, text in table.redis.hgetall(table.key("used")).items()}  # type: ignore[union-attr]


def whatever_becomes_of(table: Table, name: str = "1") -> str:
    """Return where a request is: waiting, placed, failing as ..., or over."""
    found = keys_of(table)
    places = ["waiting" for key, units in found.items() if key.startswith("pending:") and f"r-{name}" in units]
    places += ["placed"] * (f"r-{name}" in found.get("placed", {}))
    places += [json.loads(text)["kind"] for of, text in found.get("failing", {}).items() if of == f"r-{name}"]
    assert len(places) == (f"r-{name}" in found.get("requests", {}))
    return places[0] if places else "over"


def outcomes(table: Table) -> list[tuple[int, str]]:
    """Return the attempts that ended, and how, as the history is told."""
    ended = [json.loads(text) for text in keys_of(table).get("ended", [])]
    return [(told["attempt"], told["outcome"]) for told in ended]


# Claiming


def test_a_claim_withdraws_from_the_rows_of_the_service_and_of_its_machine_together(table: Table, up: Up) -> None:
    up("a", {"slots": 2, "mb": 8}, {"gpus": 1.5})

    placed(table, claims={"mb": 3, "gpus": 0.5})

    assert used(table) == {"host/a": {"slots": 1000, "mb": 3000}, "render/a": {"gpus": 500}}
    (host,) = [row for row in table.hosts("render") if row.host == "a"]
    assert host.free == {"gpus": 1}


def test_a_released_claim_gives_back_to_both_rows(table: Table, up: Up) -> None:
    body = up("a", {"slots": 2}, {"gpus": 1.5})
    header = running(table, body, claims={"gpus": 0.5})

    assert body.end(header)

    assert used(table) == {}
    assert keys_of(table).get("claims:a", {}) == {}


@pytest.mark.parametrize("part", ["slots", "gpus"])
def test_what_lacks_one_of_several_resources_takes_none_of_them(table: Table, up: Up, part: str) -> None:
    body = up("a", {"slots": 1}, {"gpus": 1})
    stale = candidates(table)
    body.report({"slots": 0 if part == "slots" else 1}, {"gpus": 0 if part == "gpus" else 1})
    one = request("1", claims={"gpus": 1})
    submit(table, one)

    answer = claim(table, one, offered=[replace(stale[0], changed={of: 2 if part in at else 1 for of, at in
                                                {"host/a": ["slots"], "render/a": ["gpus"]}.items()})])  # fmt: skip

    assert (answer.word, list(answer.refusals)) == ("refused", [f"full:{part}"])
    assert used(table) == {}
    assert whatever_becomes_of(table) == "waiting"


def test_the_first_candidate_that_still_fits_is_taken(table: Table, up: Up) -> None:
    up("a", {"slots": 1}), up("b", {"slots": 1})
    snapshot = candidates(table)
    placed(table, "1", only="a")
    two = request("2")
    submit(table, two)

    answer = claim(table, two, offered=snapshot)

    assert [place.host for place in answer.places] == ["b"]


def a_stale_one(table: Table, body: Body, clock: Any) -> None:
    clock.advance(30)


def a_draining_one(table: Table, body: Body, clock: Any) -> None:
    body.drain()


def a_disabled_one(table: Table, body: Body, clock: Any) -> None:
    table.disable("render/a", "why")


def one_that_left(table: Table, body: Body, clock: Any) -> None:
    body.leave()


def another_boot(table: Table, body: Body, clock: Any) -> None:
    assert Body(table, "a", "another").join(body.instance)


def a_new_report_of_the_service(table: Table, body: Body, clock: Any) -> None:
    body.report(None, {"gpus": 2})


def a_new_report_of_the_machine(table: Table, body: Body, clock: Any) -> None:
    body.report({"slots": 3}, None)


def a_full_one(table: Table, body: Body, clock: Any) -> None:
    placed(table, "other", claims={"slots": 2})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (a_stale_one, "stale"), (a_draining_one, "draining"), (a_disabled_one, "disabled"), (one_that_left, "absent"),
        (another_boot, "absent"), (a_new_report_of_the_service, "changed"), (a_new_report_of_the_machine, "changed"),
        (a_full_one, "full:slots"),
    ],
)  # fmt: skip
def test_what_has_changed_since_the_snapshot_is_refused_by_a_code(
    table: Table, up: Up, clock: Any, change: Callable[..., None], code: str
) -> None:
    body = up("a", {"slots": 2}, {"gpus": 1})
    snapshot = candidates(table)
    one = request("1", claims={"gpus": 1})
    submit(table, one)

    change(table, body, clock)

    answer = claim(table, one, offered=snapshot)
    assert (answer.word, list(answer.refusals)) == ("refused", [code])
    assert whatever_becomes_of(table) == "waiting"


def test_a_report_that_says_the_same_refuses_nothing(table: Table, up: Up) -> None:
    body = up("a", {"slots": 2}, {"gpus": 1})
    snapshot = candidates(table)
    one = request("1")
    submit(table, one)

    body.report({"slots": 2}, {"gpus": 1})

    assert claim(table, one, offered=snapshot).word == "claimed"


def test_no_candidate_at_all_is_a_refusal(table: Table, up: Up) -> None:
    one = request("1")
    submit(table, one)

    assert claim(table, one, offered=[]).word == "refused"


def test_a_tenth_ten_times_is_one(table: Table, up: Up) -> None:
    body = up("a", {}, {"gpus": 1})
    headers = [placed(table, str(number), claims={"slots": 0, "gpus": 0.1}) for number in range(10)]
    one_more = request("more", claims={"slots": 0, "gpus": 0.001})
    submit(table, one_more)

    assert used(table) == {"render/a": {"gpus": 1000}}
    assert list(claim(table, one_more).refusals) == ["full:gpus"]
    for header in headers:
        body.start(header)
        body.end(header)
    assert used(table) == {}


def test_fourteen_digits_add_up(table: Table, up: Up) -> None:
    up("a", {}, {"bytes": 99_999_999_999})

    placed(table, "1", claims={"slots": 0, "bytes": 99_999_999_998.998})
    placed(table, "2", claims={"slots": 0, "bytes": 0.002})

    assert used(table) == {"render/a": {"bytes": 99_999_999_999_000}}


def test_a_claim_of_nothing_is_held_too(table: Table, up: Up) -> None:
    body = up("a", {"slots": 0})

    header = placed(table, claims={"slots": 0})

    assert used(table) == {}
    assert body.start(header) == "go"
    assert [held.state for held in Claims(table).all()] == ["running"]


def test_who_loses_the_race_for_a_request_is_told_that_it_is_placed(table: Table, up: Up) -> None:
    up("a"), up("b")
    one = request("1")
    submit(table, one)

    assert [claim(table, one).word, claim(table, one).word] == ["claimed", "placed"]

    assert len(Claims(table).all()) == 1


def test_what_no_longer_waits_is_not_claimed(table: Table, up: Up) -> None:
    body = up("a")
    body.end(running(table, body))

    assert claim(table, request("1")).word == "gone"
    assert used(table) == {}


# Gangs


def test_a_gang_gets_as_many_hosts_as_it_has_requests(table: Table, up: Up) -> None:
    up("a", {"slots": 1}), up("b", {"slots": 2}), up("c", {"slots": 2})
    requests = gang("1", "2")
    submit(table, *requests)

    answer = claim(table, *requests)

    assert [(place.host, place.attempt) for place in answer.places] == [("a", 1), ("b", 1)]
    assert used(table) == {"host/a": {"slots": 1000}, "host/b": {"slots": 1000}}
    assert [json.loads(place.request)["id"] for place in answer.places] == ["r-1", "r-2"]


def test_a_gang_gets_no_host_where_one_is_lacking(table: Table, up: Up) -> None:
    up("a", {"slots": 5}), up("b", {"slots": 1})
    snapshot = candidates(table)
    requests = gang("1", "2", "3")
    submit(table, *requests)

    answer = claim(table, *requests, offered=snapshot)

    assert (answer.word, list(answer.refusals)) == ("refused", ["fits", "fits"])
    assert used(table) == {}
    assert Pending(table).all()[0].ids == ("r-1", "r-2", "r-3")


# Starting: the fence


def test_a_host_begins_what_is_placed_there_once(table: Table, up: Up) -> None:
    body = up("a")
    header = placed(table)

    assert [body.start(header), body.start(header)] == ["go", "running"]

    assert table.counters()["claims_fenced"] == 1


def test_who_asks_again_because_the_answer_was_lost_gets_the_same_answer(table: Table, up: Up) -> None:
    body = up("a")
    header = placed(table)

    assert [body.start(header, by="x"), body.start(header, by="x"), body.start(header, by="y")] == [
        "go",
        "go",
        "running",
    ]


def test_a_message_that_comes_after_its_claim_ended_is_fenced(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body)
    body.end(header)

    assert body.start(header) == "gone"


def test_a_message_of_an_earlier_attempt_is_fenced_and_the_newer_begins(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    header = placed(table)
    clock.advance(30)
    body.beat()
    assert Claims(table).reap() == 1
    one = request("1")
    assert claim(table, one).places[0].attempt == 2

    assert body.start(header) == "gone"
    assert body.start({**header, "attempt": 2}) == "go"


def test_what_was_sent_before_a_quick_restart_is_begun_after_it(table: Table, up: Up) -> None:
    body = up("a")
    header = placed(table)
    again = Body(table, "a", "again")

    assert again.join(body.instance)

    assert again.start(header) == "go"
    assert again.join()  # and belongs to the new life
    assert whatever_becomes_of(table) == "placed"


# Release


def test_the_end_of_a_task_leaves_nothing_of_its_request(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body, sticky="x")

    assert body.end(header)

    found = keys_of(table)
    told = {key for key, value in found.items() if key != "keys" and ("r-1" in str(value) or "t-1" in str(value))}
    assert told == {"ended", "over", "ran", "ran_at", "released"}
    assert outcomes(table) == [(1, "done")]


def test_a_release_counts_once(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body)

    assert [body.end(header), body.end(header)] == [True, False]

    assert outcomes(table) == [(1, "done")]


def test_what_is_released_to_run_again_keeps_its_place_in_line_and_avoids_the_host(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body, "1", is_late=True)
    submit(table, request("2"))

    body.end(header, "lost", "again", why="the process died")

    first, second = Pending(table).all()
    assert [first.ids, second.ids] == [("r-1",), ("r-2",)]
    assert first.request.avoided == ("a",)
    assert outcomes(table) == [(1, "lost")]


def test_what_could_not_be_sent_waits_on_unstruck_and_avoids_nobody(table: Table, up: Up) -> None:
    up("a")
    header = placed(table, max_attempts=1)

    Claims(table).release("a", header["id"], 1, "unsent", then="anew")

    (unit,) = Pending(table).all()
    assert unit.request.avoided == ()
    assert "strikes" not in keys_of(table)
    assert Claims(table).failures() == {}
    assert outcomes(table) == []


def test_what_could_not_be_sent_is_still_given_up_in_time(table: Table, up: Up, clock: Any) -> None:
    up("a")
    one = request("1")
    submit(table, one, timeout=20)
    claim(table, one)

    Claims(table).release("a", one.id, 1, "unsent", then="anew")

    assert [unit.ids for unit in Pending(table).overdue(clock.now + 20)] == [("r-1",)]


def test_what_is_returned_is_placed_anew_and_its_message_is_fenced(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body)

    body.end(header, "returned", "anew")

    assert body.start(header) == "gone"
    (unit,) = Pending(table).all()
    assert (unit.ids, unit.request.avoided) == (("r-1",), ())


def test_what_no_host_can_ever_get_fails_and_says_why(table: Table, up: Up) -> None:
    body = up("a")
    header = placed(table)

    body.end(header, "unsendable", "failing", why="no words for it")

    (failing,) = Pending(table).failing()
    assert (failing.kind, failing.why) == ("unsendable", "no words for it")


def test_a_request_that_is_over_is_not_recorded_again(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    body.end(running(table, body))

    assert submit(table, request("1")) is None
    assert Pending(table).all() == []

    clock.advance(601)
    Claims(table).reap()
    assert "over" not in keys_of(table)


def test_a_task_whose_retry_was_recorded_is_not_lost_with_its_host(table: Table, up: Up) -> None:
    body = up("a")
    running(table, body)
    submit(table, replace(request("2"), task_id="t-1"))

    table.leave(body.instance, ["host/a"])

    assert Pending(table).failing() == []
    assert [unit.ids for unit in Pending(table).all()] == [("r-2",)]


def test_a_worker_ends_no_claims_of_another_services_worker_on_its_host(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    header = running(table, body)
    clock.advance(100)

    assert Claims(table).reconcile("a", 1, clock.now, [], []) == (0, 0, 0)

    assert body.start(header) == "running"


@pytest.mark.parametrize(("outcome", "weight"), [("done", 0), ("failed", 1), ("retried", 0), ("lost", 3)])
def test_a_host_is_blamed_by_how_its_tasks_ended_and_forgiven_in_time(
    table: Table, up: Up, clock: Any, outcome: str, weight: int
) -> None:
    body = up("a")
    body.end(running(table, body), outcome)

    assert Claims(table).failures() == ({"a": weight} if weight else {})

    clock.advance(FORGIVEN + 1)
    assert Claims(table).failures() == {}


def test_a_success_clears_what_spoke_against_a_host(table: Table, up: Up) -> None:
    body = up("a")
    body.end(running(table, body, "1"), "failed")
    body.end(running(table, body, "2"), "done")

    assert Claims(table).failures() == {}


# Reaping


def test_what_is_not_begun_in_time_is_placed_elsewhere(table: Table, up: Up, clock: Any) -> None:
    up("a")
    placed(table, start_deadline=30)

    clock.advance(29.9)
    assert Claims(table).reap() == 0
    clock.advance(0.1)
    assert [Claims(table).reap(), Claims(table).reap()] == [1, 0]

    (unit,) = Pending(table).all()
    assert unit.request.avoided == ("a",)
    assert Claims(table).failures() == {"a": 3}
    assert outcomes(table) == [(1, "missed")]
    assert used(table) == {}


def test_what_has_begun_is_never_reaped(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    running(table, body, start_deadline=30)

    clock.advance(3600)

    assert Claims(table).reap() == 0


def test_after_its_last_attempt_a_request_fails_and_says_why(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    one = request("1", max_attempts=2)
    submit(table, one)
    for _ in range(2):
        assert claim(table, one).word == "claimed"
        clock.advance(30)
        body.beat()
        Claims(table).reap()

    (failing,) = Pending(table).failing()
    assert (failing.kind, failing.why) == ("attempts", "a did not begin it in time")
    assert claim(table, one).word == "gone"


def test_what_is_placed_again_is_still_given_up_in_its_time(table: Table, up: Up, clock: Any) -> None:
    up("a")
    one = request("1", start_deadline=10)
    submit(table, one, timeout=20)
    claim(table, one)
    assert Pending(table).overdue(clock.now + 20) == []

    clock.advance(10)
    Claims(table).reap()

    assert [unit.ids for unit in Pending(table).overdue(clock.now + 10)] == [("r-1",)]


def test_what_lost_its_claim_to_somebody_is_placed_again_at_its_deadline(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    header = placed(table, start_deadline=30)
    table.redis.hdel(table.key("claims:a"), "r-1:1")
    assert body.start(header) == "gone"

    clock.advance(30)
    Claims(table).reap()

    assert whatever_becomes_of(table) == "waiting"


def test_memories_of_yesterday_are_forgotten(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    body.end(running(table, body, sticky="x"))

    clock.advance(86_401)
    Claims(table).reap()

    assert {"ran", "ran_at", "sticky", "sticky_at", "released"} & set(keys_of(table)) == set()


# Hosts that go


def test_what_a_pruned_host_had_not_begun_is_placed_elsewhere_unstruck(table: Table, up: Up, clock: Any) -> None:
    up("a")
    placed(table, max_attempts=1)

    clock.advance(61)
    table.prune()

    assert whatever_becomes_of(table) == "waiting"
    assert outcomes(table) == [(1, "moved")]


@pytest.mark.parametrize(("is_late", "becomes"), [(True, "waiting"), (False, "lost")])
def test_what_a_pruned_host_ran_is_lost_unless_it_may_run_twice(
    table: Table,
    up: Up,
    clock: Any,
    *,
    is_late: bool,
    becomes: str,
) -> None:
    body = up("a")
    running(table, body, is_late=is_late)

    clock.advance(61)
    table.prune()

    assert whatever_becomes_of(table) == becomes
    assert outcomes(table) == [(1, "lost")]
    assert used(table) == {}
    assert Claims(table).all() == []


@pytest.mark.parametrize(("is_late", "becomes"), [(True, "waiting"), (False, "lost")])
def test_what_an_earlier_life_ran_is_lost_unless_it_may_run_twice(
    table: Table,
    up: Up,
    *,
    is_late: bool,
    becomes: str,
) -> None:
    body = up("a")
    running(table, body, is_late=is_late)

    assert Body(table, "a", "again").join(body.instance)

    assert whatever_becomes_of(table) == becomes
    assert used(table) == {}


def test_a_host_that_joins_again_with_its_boot_keeps_what_it_runs(table: Table, up: Up) -> None:
    body = up("a")
    running(table, body)

    assert body.join()

    assert whatever_becomes_of(table) == "placed"


@pytest.mark.parametrize("word", ["leave", "drain"])
def test_what_a_host_that_stops_had_not_begun_is_placed_elsewhere(table: Table, up: Up, word: str) -> None:
    body = up("a")
    placed(table)

    getattr(body, word)()

    assert whatever_becomes_of(table) == "waiting"
    assert used(table) == {}


def test_a_host_that_drains_keeps_what_it_runs(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body)

    body.drain()

    assert whatever_becomes_of(table) == "placed"
    assert body.end(header)


def test_a_late_task_that_loses_host_after_host_fails_in_the_end(table: Table, up: Up) -> None:
    one = request("1", is_late=True, max_attempts=2)
    submit(table, one)
    for _ in range(2):
        body = up("a")
        (place,) = claim(table, one).places
        body.start({"id": one.id, "attempt": place.attempt})
        body.leave()

    assert whatever_becomes_of(table) == "attempts"


def test_the_word_of_a_lost_host_that_its_task_ended_changes_nothing(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    header = running(table, body, is_late=True)
    clock.advance(61)
    table.prune()
    up("b")
    claim(table, request("1", is_late=True))

    assert not body.end(header)

    assert whatever_becomes_of(table) == "placed"
    assert used(table) == {"host/b": {"slots": 1000}}


# Reconciliation


def test_what_a_host_really_runs_counts_after_the_table_was_emptied(table: Table, up: Up) -> None:
    body = up("a", {"slots": 2}, {"gpus": 1})
    header = running(table, body, claims={"gpus": 0.5})
    for key in keys_of(table):
        table.redis.delete(table.key(key))
    body.join()

    body.report({"slots": 2}, {"gpus": 1})

    assert used(table) == {"host/a": {"slots": 1000}, "render/a": {"gpus": 500}}
    assert table.counters()["claims_adopted"] == 1
    assert body.end(header)
    assert used(table) == {}


def test_a_report_that_repeats_what_is_known_changes_no_claim(table: Table, up: Up) -> None:
    body = up("a")
    running(table, body)

    body.report({"slots": 2}, {})
    body.report({"slots": 2}, {})

    counted = table.counters()
    assert not {"claims_adopted", "claims_dropped", "claims_repaired"} & set(counted)


def test_what_was_released_after_the_report_was_written_is_not_brought_back(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body)
    written = body.say({"slots": 2}, {})
    body.end(header)

    body.scheduler.update_service_capabilities([written.to_dict()])

    assert Claims(table).all() == []
    assert used(table) == {}


def test_what_began_after_the_report_was_written_is_not_dropped(table: Table, up: Up, clock: Any) -> None:
    body = up("a")
    header = placed(table)
    written = body.say({"slots": 2}, {})
    clock.advance(RECENT)
    body.start(header)

    body.scheduler.update_service_capabilities([written.to_dict()])

    assert whatever_becomes_of(table) == "placed"


def test_what_was_not_begun_is_not_begun_by_a_report_that_names_it(table: Table, up: Up) -> None:
    body = up("a")
    header = placed(table)
    body.accepted.append(header)

    body.report({"slots": 2}, {})

    assert body.start(header) == "go"


@pytest.mark.parametrize(("is_late", "becomes"), [(True, "waiting"), (False, "lost")])
def test_what_a_host_no_longer_runs_and_told_nobody_of_has_ended(
    table: Table,
    up: Up,
    clock: Any,
    *,
    is_late: bool,
    becomes: str,
) -> None:
    body = up("a")
    running(table, body, is_late=is_late)
    body.running.clear()
    clock.advance(RECENT + 0.1)

    body.report({"slots": 2}, {})

    assert whatever_becomes_of(table) == becomes
    assert table.counters()["claims_dropped"] == 1
    assert used(table) == {}


@pytest.mark.parametrize("sum_", ['{"slots":300}', '{"slots":9000,"gpus":1}', None])
def test_a_sum_that_somebody_changed_is_right_after_the_next_report(table: Table, up: Up, sum_: str | None) -> None:
    body = up("a")
    running(table, body)
    if sum_ is None:
        table.redis.hdel(table.key("used"), "host/a")
    else:
        table.redis.hset(table.key("used"), "host/a", sum_)

    body.report({"slots": 2}, {})

    assert used(table) == {"host/a": {"slots": 1000}}
    assert table.counters()["claims_repaired"] == 1


def test_a_claim_that_somebody_deleted_is_back_after_the_next_report(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body)
    table.redis.hdel(table.key("claims:a"), "r-1:1")
    table.redis.hdel(table.key("used"), "host/a")

    body.report({"slots": 2}, {})

    assert used(table) == {"host/a": {"slots": 1000}}
    assert body.end(header)
    assert whatever_becomes_of(table) == "over"


def test_a_host_that_left_or_was_replaced_holds_no_claims_by_a_report_of_before(table: Table, up: Up) -> None:
    body = up("a")
    header = running(table, body)
    written = body.say({"slots": 2}, {})
    body.leave()

    Claims(table).reconcile("a", body.boot, written.at, [header], body.members)
    assert Claims(table).all() == []
    assert "claims:a" not in keys_of(table)

    again = Body(table, "a", "again")
    again.join()
    Claims(table).reconcile("a", body.boot, written.at, [header], body.members)
    assert "claims:a" not in keys_of(table)


# Reading


def test_claims_are_told_as_tasks_claimed_them_the_oldest_first(table: Table, up: Up, clock: Any) -> None:
    body = up("a", {"slots": 3}, {"gpus": 1})
    running(table, body, "1", claims={"gpus": 0.25})
    clock.advance(1)
    placed(table, "2")

    first, second = Claims(table).all()

    assert (first.task_id, first.state, first.claims) == ("t-1", "running", {"slots": 1, "gpus": 0.25})
    assert (second.task_id, second.state, second.started_at, second.claims) == ("t-2", "placed", None, {"slots": 1})
    assert first.started_at == first.placed_at == second.placed_at - 1
    assert Claims(table).of("b") == []
