"""The history of placements, on both databases."""

import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Never
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from managers.db import InvalidRecord, PlacementRecord, api, history, session
from managers.db.engine import engine
from managers.db.placements import MAX_REASONS

pytestmark = pytest.mark.usefixtures("database")

AtOnce = Callable[..., list[str]]

NOON = 1_800_000_000.0
DAY = 86_400.0


def placement(number: int = 0, **values: Any) -> dict[str, Any]:
    """An attempt that ended that many seconds after noon."""
    ended = NOON + number
    return {
        "request_id": f"request-{number:05}",
        "attempt": 1,
        "task_id": f"task-{number:05}",
        "task": "shop.render",
        "service": "host",
        "host": "here",
        "outcome": "done",
        "submitted_at": ended - 3,
        "placed_at": ended - 2,
        "started_at": ended - 1,
        "ended_at": ended,
        "claims": {"gpus": 1, "memory_mb": 4096.5},
        "reasons": None,
        **values,
    }


def requests(**asked: Any) -> list[str]:
    return [record.request_id for record in api.history_list(**{"limit": 10_000, **asked})]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PRUNE_PAUSE", 0)


def test_what_is_added_comes_back_with_its_times_in_utc() -> None:
    assert api.history_add([placement(reasons="first fit")]) == 1

    (record,) = api.history_list()
    noon = datetime.fromtimestamp(NOON, UTC)
    assert record == PlacementRecord(
        request_id="request-00000",
        attempt=1,
        task_id="task-00000",
        task="shop.render",
        service="host",
        host="here",
        outcome="done",
        submitted_at=noon - timedelta(seconds=3),
        placed_at=noon - timedelta(seconds=2),
        started_at=noon - timedelta(seconds=1),
        ended_at=noon,
        claims={"gpus": 1, "memory_mb": 4096.5},
        reasons="first fit",
    )
    assert record.ended_at.tzinfo is UTC


def test_a_request_that_was_never_placed_has_no_host_and_no_times_of_one() -> None:
    missing = ("host", "placed_at", "started_at", "claims")
    never = {name: value for name, value in placement(attempt=0).items() if name not in missing}

    api.history_add([{**never, "outcome": "expired", "reasons": "0/2 hosts: 2 stale"}])

    (record,) = api.history_list()
    assert (record.attempt, record.host, record.placed_at, record.started_at) == (0, None, None, None)
    assert (record.claims, record.reasons) == ({}, "0/2 hosts: 2 stale")


def test_the_claims_are_json_in_the_database() -> None:
    api.history_add([placement()])

    with session(write=False) as opened:
        assert json.loads(opened.scalar(text("SELECT claims FROM placements"))) == {"gpus": 1, "memory_mb": 4096.5}


def test_a_batch_that_comes_again_changes_nothing() -> None:
    batch = [placement(number) for number in range(10)]
    api.history_add(batch)
    before = api.history_list()

    assert api.history_add([{**record, "outcome": "lost", "host": "there"} for record in reversed(batch)]) == 0

    assert api.history_list() == before


def test_only_what_is_new_of_a_batch_is_counted() -> None:
    api.history_add([placement(1), placement(2)])

    assert api.history_add([placement(2), placement(3), placement(2, attempt=2), placement(1)]) == 2

    assert requests() == ["request-00003", "request-00002", "request-00002", "request-00001"]


def test_the_first_word_stays_within_a_batch_too() -> None:
    assert api.history_add([placement(outcome="done"), placement(outcome="lost")]) == 1

    assert [record.outcome for record in api.history_list()] == ["done"]


def test_an_empty_batch_adds_nothing() -> None:
    assert api.history_add([]) == 0


def test_a_bad_record_is_named_and_nothing_of_its_batch_is_written() -> None:
    batch = [placement(1), placement(2), placement(3, task=None), placement(4)]

    with pytest.raises(
        InvalidRecord, match=r"record 2 of the batch: attempt 1 of request 'request-00003' has no task"
    ) as bad:
        api.history_add(batch)

    assert bad.value.index == 2
    assert requests() == []
    assert api.history_add(batch[: bad.value.index] + batch[bad.value.index + 1 :]) == 3


def test_values_as_long_as_their_column_and_in_any_script_come_back() -> None:
    long = {"request_id": 64, "task_id": 255, "task": 255, "service": 64, "host": 128, "outcome": 32}
    values = {name: ("Größe-任务-🎬-" * 40)[:length] for name, length in long.items()}

    api.history_add([placement(**values, claims={"größe": 1}, reasons="🎬" * MAX_REASONS)])

    (record,) = api.history_list(**{name: values[name] for name in ("task", "host", "service", "task_id")})
    assert {name: getattr(record, name) for name in values} == values
    assert record.claims == {"größe": 1}
    assert record.reasons == "🎬" * MAX_REASONS


def test_reasons_are_cut_at_their_limit() -> None:
    api.history_add([placement(reasons="x" * (MAX_REASONS + 1))])

    (record,) = api.history_list()
    assert record.reasons == "x" * (MAX_REASONS - 1) + "…"


def test_reasons_that_no_database_takes_are_kept_as_far_as_possible() -> None:
    api.history_add([placement(reasons="a\0b\ud800c")])

    assert [record.reasons for record in api.history_list()] == ["a?b?c"]


def test_writers_of_the_same_batch_in_any_order_add_each_row_once(at_once: AtOnce, url: str) -> None:
    code = f"""
import random
record = {placement()!r}
added = 0
for batch in range(10):
    records = [dict(record, request_id=f"{{batch}}-{{number}}") for number in range(200)]
    random.shuffle(records)
    added += api.history_add(records)
print(added)
"""

    said = at_once(code, processes=4, url=url)

    assert sum(int(line) for line in said) == len(requests()) == 2000


def test_a_record_is_a_fact_that_travels_between_processes() -> None:
    api.history_add([placement()])
    (record,) = api.history_list()

    with pytest.raises(FrozenInstanceError):
        record.outcome = "lost"
    assert pickle.loads(pickle.dumps(record)) == record
    assert len({record, record}) == 1


def test_a_thousand_are_one_transaction() -> None:
    batch = [placement(number) for number in range(1000)]

    def interrupted(_: object) -> Never:
        raise KeyboardInterrupt

    event.listen(engine(), "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        api.history_add(batch)
    event.remove(engine(), "commit", interrupted)

    assert requests() == []
    assert api.history_add(batch) == len(requests()) == 1000


def test_the_last_that_ended_comes_first() -> None:
    api.history_add([placement(number) for number in (3, 1, 2)])

    assert requests() == ["request-00003", "request-00002", "request-00001"]


def test_attempts_that_ended_at_once_come_in_a_fixed_order() -> None:
    api.history_add([placement(0, attempt=attempt, request_id=name) for attempt in (2, 10, 1) for name in "ab"])

    found = [(record.request_id, record.attempt) for record in api.history_list()]

    assert found == [("b", 10), ("b", 2), ("b", 1), ("a", 10), ("a", 2), ("a", 1)]


def test_a_limit_keeps_the_newest() -> None:
    api.history_add([placement(number) for number in range(150)])

    assert len(api.history_list()) == 100
    assert requests(limit=2) == ["request-00149", "request-00148"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit is {limit}; ask for 1 or more"):
        api.history_list(limit=limit)


def test_since_takes_seconds_and_moments_and_includes_its_own() -> None:
    api.history_add([placement(number) for number in range(4)])

    assert requests(since=NOON + 2) == ["request-00003", "request-00002"]
    assert requests(since=datetime.fromtimestamp(NOON + 3, UTC)) == ["request-00003"]
    with pytest.raises(ValueError, match="no time zone"):
        api.history_list(since=datetime(2026, 1, 1))  # noqa: DTZ001 naive on purpose


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_what_no_database_takes_is_nowhere(name: str) -> None:
    api.history_add([placement()])

    assert api.history_list(task=name) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_found_is_what_a_list_in_memory_would_find(data: st.DataObject) -> None:
    values = {
        "task": st.sampled_from(["a", "b"]),
        "service": st.sampled_from(["host", "volume"]),
        "host": st.sampled_from(["h1", "h2", None]),
        "task_id": st.sampled_from(["t1", "t2"]),
        "outcome": st.sampled_from(["done", "lost"]),
        "ended_at": st.integers(0, 5).map(lambda second: NOON + second),
    }
    run = uuid4().hex
    drawn = data.draw(st.lists(st.fixed_dictionaries(values), max_size=20))
    added = [placement(**{**record, "request_id": f"{run}{i:04}"}) for i, record in enumerate(drawn)]
    asked = data.draw(st.fixed_dictionaries({}, optional={name: values[name] for name in values if name != "ended_at"}))
    since = data.draw(st.none() | values["ended_at"])
    limit = data.draw(st.integers(1, 25))
    with session() as opened:
        opened.execute(text("DELETE FROM placements"))

    api.history_add(added)

    expected = sorted(
        (
            record
            for record in added
            if all(value is None or record[name] == value for name, value in asked.items())
            and (since is None or record["ended_at"] >= since)
        ),
        key=lambda record: (record["ended_at"], record["request_id"]),
        reverse=True,
    )
    assert requests(**asked, since=since, limit=limit) == [record["request_id"] for record in expected[:limit]]


def test_what_ended_before_goes_and_the_rest_stays() -> None:
    api.history_add([placement(number) for number in range(10)])

    assert api.history_prune(NOON + 7) == 7

    assert requests() == ["request-00009", "request-00008", "request-00007"]
    assert api.history_prune(datetime.fromtimestamp(NOON + 8, UTC)) == 1
    assert api.history_prune(NOON + 8) == 0


@pytest.mark.parametrize("rows", [1, 3, 4, 6, 7])
def test_each_batch_is_a_transaction_of_its_own(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PRUNE_BATCH", 3)
    api.history_add([placement(number) for number in range(rows)])
    left = []
    monkeypatch.setattr(history, "time", SimpleNamespace(sleep=lambda _: left.append(len(requests()))))

    assert api.history_prune(NOON + DAY) == rows

    assert left == [rows - 3 * batch for batch in range(1, rows // 3 + 1)]
    assert requests() == []


def test_several_that_prune_at_once_share_the_work_while_others_write(at_once: AtOnce, url: str) -> None:
    api.history_add([placement(number) for number in range(3000)])
    code = f"""
from managers.db import history
history.PRUNE_BATCH = 100
print(api.history_prune({NOON + DAY}))
record = {placement(ended_at=NOON + 2 * DAY)!r}
for number in range(20):
    assert api.history_add([dict(record, request_id=f"{{os.getpid()}}-{{number}}")]) == 1
"""

    said = at_once(code, processes=3, url=url)

    assert sum(int(line) for line in said) == 3000
    assert len(requests()) == 60


@pytest.mark.parametrize("before", [-1.0, float("nan"), float("inf"), True, "yesterday", None])
def test_a_moment_that_is_none_deletes_nothing(before: Any) -> None:
    api.history_add([placement()])

    with pytest.raises(ValueError, match="is no moment from 1970 to 9999"):
        api.history_prune(before)

    assert len(requests()) == 1
