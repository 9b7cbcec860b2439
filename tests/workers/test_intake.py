"""Reports are written many at a time and acknowledged only then; junk is refused, counted and survived."""

import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Message

from managers.reports import MAX_REPORT_BYTES, REPORT_TASK, Report
from scheduler.errors import TableUnavailable
from scheduler.hosts import Identity, Joined
from scheduler.table import Table
from workers.intake import BATCH, RETRY, WINDOW, Intake, intake_strategy
from workers.registry import Registry, registry_of

IDENTITY = Identity("i", "vm", 1, 2.5, "0.1.0", 10, 60)


class Channel:
    """A broker's channel that notes what was acknowledged."""

    no_ack_consumers = None

    def __init__(self) -> None:
        self.acked: list[str] = []
        self.is_dead = False

    def basic_ack(self, tag: str, *, multiple: bool = False) -> None:
        if self.is_dead:
            raise AttributeError("'NoneType' object has no attribute 'write'")
        self.acked.append(tag)


class Bench:
    """An intake on a consumer whose timer and channel are the test's."""

    def __init__(self, registry: Registry, prefetch: int) -> None:
        self.registry = registry
        self.table = registry.table
        self.channel = Channel()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.consumer = SimpleNamespace(
            initial_prefetch_count=prefetch,
            timer=SimpleNamespace(call_after=lambda seconds, function: self.timers.append((seconds, function))),
            connection_errors=(OSError,),
        )
        self.intake = Intake(registry, self.consumer)
        answer = self.table.join(IDENTITY, ["volume/a", "volume/b"])
        assert isinstance(answer, Joined)
        self.boot = answer.boot
        self.sent = self.taken = 0

    def report(self, gb: Any, host: str = "a") -> dict[str, Any]:
        self.sent += 1
        return Report(host, self.boot, self.sent, 60.0, "0.1.0", {"volume": {"gb": gb}}).to_dict()

    def message(self, body: Any, **changes: Any) -> Message:
        self.taken += 1
        known = {
            "body": body if isinstance(body, bytes | str) else json.dumps(body),
            "delivery_tag": str(self.taken),
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "channel": self.channel,
            "headers": {"task": REPORT_TASK, "origin": "gen77@rack1-07"},
            "accept": {"application/json"},
        }
        return Message(**{**known, **changes})

    def take(self, *reports: Any) -> None:
        for report in reports:
            self.intake.take(self.message([[report], {}, {}]))

    def fire(self) -> float:
        """Run the oldest timer; return how long it waited."""
        seconds, function = self.timers.pop(0)
        function()
        return seconds


@pytest.fixture
def bench(make_app: Callable[..., Any]) -> Bench:
    return Bench(registry_of(make_app(host="s")), prefetch=8)


class Outage:
    """A Redis that is away while the test says so."""

    def __init__(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = True
        self.tries = 0
        for name in ("script", "count"):
            monkeypatch.setattr(table, name, self._unless_away(getattr(table, name)))

    def _unless_away(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if self.is_on:
                self.tries += 1
                raise TableUnavailable("the table's Redis does not answer")
            return function(*args)

        return call


@pytest.fixture
def outage(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(bench.table, monkeypatch)


def test_a_report_waits_a_moment_for_company_and_is_acknowledged_after_the_write(bench: Bench) -> None:
    bench.take(bench.report(1))
    assert bench.channel.acked == []
    assert bench.table.aggregate() == {}

    assert bench.fire() == WINDOW

    assert bench.table.aggregate() == {"volume.gb": (1, 1)}
    assert bench.channel.acked == ["1"]


def test_what_came_within_the_moment_is_written_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = []
    store = bench.table.store
    monkeypatch.setattr(bench.table, "store", lambda reports: stored.append(len(list(reports))) or store(reports))

    bench.take(bench.report(1), bench.report(2, host="b"), bench.report(3))
    assert len(bench.timers) == 1
    bench.fire()

    assert stored == [3]
    assert bench.table.aggregate() == {"volume.gb": (2, 3)}
    assert bench.channel.acked == ["1", "2", "3"]


def test_a_full_batch_is_written_without_waiting(bench: Bench) -> None:
    bench.take(*(bench.report(number) for number in range(1, 5)))

    assert bench.channel.acked == ["1", "2", "3", "4"]
    bench.fire()
    assert bench.timers == []


def test_a_batch_is_half_of_what_the_broker_hands_out_and_bounded(bench: Bench) -> None:
    def batch(prefetch: int) -> int:
        bench.consumer.initial_prefetch_count = prefetch
        return Intake(bench.registry, bench.consumer)._batch

    assert [batch(prefetch) for prefetch in (1, 2, 128, 10_000, 0)] == [1, 1, 64, BATCH, BATCH]


def test_a_redis_that_is_down_keeps_the_reports_unacknowledged_and_loses_none(
    bench: Bench, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    bench.take(bench.report(1), bench.report(2, host="b"))
    bench.fire()
    assert bench.fire() == RETRY
    bench.take(bench.report(3))
    assert bench.channel.acked == []
    assert "2 reports wait: the table's Redis does not answer" in caplog.text

    outage.is_on = False
    assert bench.fire() == RETRY

    assert bench.table.aggregate() == {"volume.gb": (2, 3)}
    assert bench.channel.acked == ["1", "2", "3"]
    assert bench.timers == []


def test_while_redis_is_down_it_is_tried_once_per_second_however_many_reports_come(
    bench: Bench, outage: Outage
) -> None:
    for _ in range(5):
        bench.take(*(bench.report(1) for _ in range(2)))

    assert outage.tries == 1  # the first full batch
    assert [seconds for seconds, _ in bench.timers] == [WINDOW, RETRY]
    bench.fire()
    bench.fire()
    assert outage.tries == 3
    assert bench.channel.acked == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"body": "{"}, "Expecting property name"),
        ({"body": b"\xff\xfe\x00", "content_type": "application/x-python-serialize"}, "python-serialize"),
        ({"body": "[[1, 2], {}, {}]"}, "other arguments than one report"),
        ({"body": "[[], {}, {}]"}, "other arguments than one report"),
        ({"body": '[[{}], {"a": 1}, {}]'}, "other arguments than one report"),
        ({"body": "[1]"}, "not enough values"),
        ({"body": "7"}, "unpack"),
        ({"body": "null"}, "unpack"),
        ({"body": '[{"a": 1}, {}, {}]'}, "0"),
        ({"body": "[" * 100_000}, "recursion"),
        ({"body": '"' + "x" * MAX_REPORT_BYTES + '"'}, "bytes; the limit is 1048576"),
    ],
    ids=["half", "pickle", "two", "none", "keyword", "short", "number", "null", "dict", "deep", "big"],
)
def test_what_holds_no_report_is_refused_by_its_sender_counted_and_acknowledged(
    bench: Bench, changes: dict[str, Any], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.intake.take(bench.message(**{"body": "", **changes}))

    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "report from 'gen77@rack1-07' refused: " in record.getMessage()
    assert fault in record.getMessage()
    assert len(record.getMessage()) < 500
    assert bench.channel.acked == ["1"]
    bench.fire()
    assert bench.table.counters() == {"reports_refused": 1}
    bench.take(bench.report(1))
    bench.fire()
    assert bench.table.aggregate() == {"volume.gb": (1, 1)}


def test_bad_reports_are_refused_and_acknowledged_beside_the_good_ones(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [float("nan"), 10**400, "x" * 70_000, {"nested": 1}]
    bench.take(bench.report(1), *(bench.report(value, host="b") for value in bad[:2]))
    bench.fire()
    bench.take(*(bench.report(value, host="b") for value in bad[2:]), bench.report(2), None)

    assert bench.table.aggregate() == {"volume.gb": (2, 2)}
    assert len(bench.channel.acked) == 7
    assert bench.table.counters() == {"reports_stored": 2, "reports_refused": 5}
    assert caplog.text.count("report from 'b' refused: volume.gb is ") == 3


def test_junk_that_comes_while_redis_is_down_is_named_although_it_cannot_be_counted(
    bench: Bench, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    bench.intake.take(bench.message("{"))

    assert "report from 'gen77@rack1-07' refused: " in caplog.text
    bench.fire()
    assert "1 refused reports are not counted yet: the table's Redis" in caplog.text
    assert bench.channel.acked == ["1"]


def test_junk_without_a_sender_or_with_a_strange_one_is_refused_too(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.intake.take(bench.message("{", headers={}))
    bench.intake.take(bench.message("{", headers={"origin": ["x"] * 100_000}))

    assert "report from 'an unknown sender' refused" in caplog.text
    assert len(caplog.text) < 1500


def test_an_error_nobody_thought_of_drops_the_batch_and_not_the_consumer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(bench.registry.scheduler(), "update_service_capabilities", fail)
        bench.take(bench.report(1))
        bench.fire()
    bench.take(bench.report(2))
    bench.fire()

    assert "1 reports dropped" in caplog.text
    assert bench.channel.acked == ["1", "2"]
    assert bench.table.aggregate() == {"volume.gb": (2, 2)}


def test_a_connection_that_is_gone_costs_an_acknowledgement_and_no_report(bench: Bench) -> None:
    bench.channel.is_dead = True

    bench.take(bench.report(1))
    bench.fire()

    assert bench.table.aggregate() == {"volume.gb": (1, 1)}


def test_the_task_brings_its_own_strategy_so_that_reports_never_wait_for_the_pool(bench: Bench) -> None:
    task = bench.registry.app.tasks[REPORT_TASK]
    assert task.Strategy == "workers.intake:intake_strategy"

    on_message = intake_strategy(task, bench.registry.app, bench.consumer)
    on_message(bench.message([[bench.report(1)], {}, {}]), None, None, None, [])
    bench.fire()

    assert bench.table.aggregate() == {"volume.gb": (1, 1)}


def test_in_eager_mode_the_task_stores_the_report_itself(bench: Bench) -> None:
    bench.registry.app.tasks[REPORT_TASK].apply((bench.report(1),), throw=True)

    table: Table = bench.table
    assert table.aggregate() == {"volume.gb": (1, 1)}
