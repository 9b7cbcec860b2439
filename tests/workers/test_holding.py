"""What a host holds: told from the moment that the pool gets it, until the table knows of its end."""

import gc
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from managers.reports import Report
from scheduler.claims import Claim, Claims
from scheduler.errors import InvalidPlacement
from scheduler.hosts import Identity
from scheduler.manager import SchedulerManager
from scheduler.table import Table
from tests.conftest import Clock
from tests.workers.conftest import Mailbox
from workers import holding as module
from workers.holding import Holding, Release

HEADER: dict[str, Any] = {
    "id": "r1", "attempt": 1, "task_id": "t1", "task": "tasks.render", "service": "host", "host": "a",
    "is_late": False, "amounts": {"host/a": {"slots": 1000}},
}  # fmt: skip
CLAIM = Claim.from_header(HEADER)


class Message:
    """Stands for a request on its way through the pool."""


class Released(Claims):
    """Tells the test of each release."""

    def __init__(self) -> None:
        self.told = Mailbox()

    def release(self, host: str, request_id: str, attempt: int, outcome: str, **_: Any) -> bool:
        self.told.put((host, request_id, attempt, outcome))
        if outcome == "odd":
            raise RuntimeError(outcome)
        return True


@pytest.fixture
def holding() -> Iterator[Holding]:
    holding = Holding("a", Released())
    yield holding
    holding.stop(10)


def test_what_the_pool_has_is_told_as_not_begun_until_it_said_so(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FENCED", 0.0)
    message = Message()

    holding.took(message, CLAIM)
    handed_over = holding.running()
    holding.began(message, CLAIM)

    assert handed_over == [{**HEADER, "is_begun": False}]
    assert holding.running() == [{**HEADER, "is_begun": True}]


def test_what_may_not_have_passed_the_fence_is_told_as_not_begun(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FENCED", 1e6)
    message = Message()

    holding.began(message, CLAIM)

    assert [claim["is_begun"] for claim in holding.running()] == [False]


def test_what_a_flushed_pool_forgot_is_held_no_longer(holding: Holding) -> None:
    message = Message()
    holding.took(message, CLAIM)

    del message
    gc.collect()

    assert holding.running() == []


def test_the_end_of_what_runs_is_held_until_it_is_told(holding: Holding) -> None:
    message = Message()
    holding.began(message, CLAIM)
    holding.ended(message, Release(CLAIM, "done"))

    assert [claim["is_begun"] for claim in holding.running()] == [True]


def test_an_end_that_can_not_be_told_stops_no_other() -> None:
    released = Released()
    holding = Holding("a", released)
    holding.start()

    holding.ended(Message(), Release(CLAIM, "odd"))
    holding.ended(Message(), Release(CLAIM, "done"))

    assert [released.told.get(), released.told.get()] == [("a", "r1", 1, "odd"), ("a", "r1", 1, "done")]
    holding.stop(10)
    assert holding.running() == []
    assert "celeriac-releasing" not in [thread.name for thread in threading.enumerate() if thread is holding._thread]


def test_a_claim_in_a_header_is_read_back_whatever_newer_keys_it_has() -> None:
    assert Claim.from_header({**HEADER, "newer": 1}).to_header() == HEADER


@pytest.mark.parametrize(
    "header",
    [
        5, None, [], {}, {"id": "r1", "attempt": 1}, {**HEADER, "id": 5}, {**HEADER, "id": "a b"},
        {**HEADER, "id": "a:b"},
        {**HEADER, "id": ""}, {**HEADER, "attempt": "1"}, {**HEADER, "attempt": True}, {**HEADER, "attempt": -1},
        {**HEADER, "is_late": 1}, {**HEADER, "task_id": None}, {**HEADER, "amounts": []},
        {**HEADER, "amounts": {"host/a": 5}}, {**HEADER, "amounts": {"host/a": {"slots": 0.5}}},
    ],
)  # fmt: skip
def test_what_is_no_claim_is_refused_as_one(header: Any) -> None:
    with pytest.raises(InvalidPlacement, match="claim"):
        Claim.from_header(header)


def say(table: Table, claims: list[dict[str, Any]], *, sequence: int, boot: int) -> None:
    """Have host a report that it holds *claims*, now."""
    report = Report("a", boot, sequence, 60.0, "1", {"host": {"slots": 4}}, at=table.now(), claims=tuple(claims))
    assert SchedulerManager("s", table=table).update_service_capabilities([report.to_dict()]) == {"stored": 1}


def test_what_a_host_may_have_begun_is_neither_added_nor_ended_by_its_report(table: Table, clock: Clock) -> None:
    claims = Claims(table)
    joined: Any = table.join(_identity(), ["host/a"])
    say(table, [{**HEADER, "is_begun": False}], sequence=1, boot=joined.boot)
    assert claims.of("a") == []

    say(table, [{**HEADER, "is_begun": True}], sequence=2, boot=joined.boot)
    clock.advance(60)
    say(table, [{**HEADER, "is_begun": False}], sequence=3, boot=joined.boot)
    assert [claim.id for claim in claims.of("a")] == ["r1"]

    clock.advance(60)
    say(table, [], sequence=4, boot=joined.boot)
    assert claims.of("a") == []


@pytest.mark.parametrize("odd", [{"task_id": "t" * 2000}, {"task": "a\nb"}, {"amounts": {"host/b": {"slots": 1}}}])
def test_a_claim_that_breaks_a_limit_costs_the_report_nothing_and_is_not_ended(
    table: Table, clock: Clock, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    claims = Claims(table)
    joined: Any = table.join(_identity(), ["host/a"])
    other = {**HEADER, "id": "r2", "is_begun": True, "newer": 1}
    say(table, [{**HEADER, "is_begun": True}], sequence=1, boot=joined.boot)
    clock.advance(60)

    say(table, [{**HEADER, "is_begun": True, **odd}, other], sequence=2, boot=joined.boot)

    assert sorted(claim.id for claim in claims.of("a")) == ["r1", "r2"]
    assert "1 claims of a can't be counted" in caplog.text


def _identity() -> Identity:
    return Identity(uuid.uuid4().hex, "vm", 7, 1.0, "1", 1000.0, 60.0)
