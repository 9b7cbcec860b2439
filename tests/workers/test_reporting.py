"""One report per period with all services, as soon as the last has run, at the latest when patience ends."""

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from managers.manager import Manager, SchedulerDependentManager
from managers.periods import Tick
from managers.reports import Report
from workers.reporting import MOST_PATIENCE, PATIENCE, Reporting

INTERVAL = 8.0


class Volumes(SchedulerDependentManager[None], service_name="volume"):
    """A manager."""


class Network(SchedulerDependentManager[None], service_name="network"):
    """A manager."""


class Plain(Manager[None], service_name="plain"):
    """A manager that has no capabilities."""


class Bench:
    """A host's reporting, and what it sent."""

    def __init__(self, clock: Any, sent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.sent = clock, sent
        self.volumes, self.network, self.plain = Volumes("a"), Network("a"), Plain("a")
        self.first = int(clock.now() // INTERVAL)
        self.faults: list[Exception] = []
        identity = SimpleNamespace(interval=INTERVAL, version="0.1.0")
        self.reporting = Reporting(
            object(),  # type: ignore[arg-type]
            SimpleNamespace(host="a", boot=5, identity=identity),  # type: ignore[arg-type]
            clock,
            managers={"volume": self.volumes, "network": self.network, "plain": self.plain},
        )
        clock.wakes(self.reporting)
        monkeypatch.setattr("workers.reporting.send_report", self._send)

    def _send(self, _: Any, report: Report) -> None:
        if self.faults:
            fault = self.faults.pop(0)
            self.sent.put(fault)
            raise fault
        self.sent.put(report)

    def begin(self, period: int, offset: float = 0.0) -> None:
        self.reporting.expect(Tick(self.first + period, INTERVAL), offset)

    def ran(self, period: int, *services: str) -> None:
        for service in services or ("volume", "network", "plain"):
            self.reporting.ran(service, Tick(self.first + period, INTERVAL))


@pytest.fixture
def bench(hand_clock: Any, mailbox: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(hand_clock, mailbox(), monkeypatch)
    yield made
    made.reporting.stop()
    assert not made.reporting._thread.is_alive()
    assert made.sent.rest() == [], "more was sent than the test expected"


def test_one_report_carries_all_services_and_says_who_sends_it(bench: Bench) -> None:
    bench.volumes.update_service_capabilities({"gb": 1})
    bench.reporting.start()

    bench.reporting.soon()

    sent = bench.sent.get()
    assert sent == Report(
        "a", 5, 1, INTERVAL, "0.1.0", {"volume": {"gb": 1}, "network": None, "plain": None}, at=sent.at
    )
    assert sent.at == pytest.approx(bench.clock.now(), abs=1)


def test_a_period_is_reported_once_its_last_service_has_run_and_not_before(bench: Bench) -> None:
    bench.reporting.start()
    bench.begin(0)
    for service, manager in (("volume", bench.volumes), ("network", bench.network)):
        manager.update_service_capabilities({"fresh": True})
        bench.ran(0, service)
    bench.ran(0, "plain")

    assert bench.sent.get().services == {"volume": {"fresh": True}, "network": {"fresh": True}, "plain": None}


def test_a_slow_service_is_waited_for_until_patience_ends_and_reported_as_last_remembered(bench: Bench) -> None:
    bench.network.update_service_capabilities({"ports": 4})
    bench.reporting.start()
    bench.begin(0)
    bench.ran(0, "volume", "plain")

    bench.clock.advance(PATIENCE * INTERVAL - 0.01)
    bench.volumes.update_service_capabilities({"patience": "not over"})
    bench.clock.advance(0.01)

    assert bench.sent.get().services == {
        "volume": {"patience": "not over"},
        "network": {"ports": 4},
        "plain": None,
    }
    bench.ran(0, "network")  # too late for this period


def test_patience_counts_from_the_hosts_place_in_the_period_and_has_an_end(bench: Bench) -> None:
    bench.reporting.start()
    bench.clock.set(bench.first * INTERVAL)
    bench.begin(0, offset=3.0)
    assert bench.reporting._due_at == bench.first * INTERVAL + 3.0 + PATIENCE * INTERVAL
    bench.clock.advance(3.0 + PATIENCE * INTERVAL - 0.01)
    bench.volumes.update_service_capabilities({"now": True})
    bench.clock.advance(0.01)
    assert bench.sent.get().services["volume"] == {"now": True}

    now = bench.clock.now()
    bench.reporting.expect(Tick(int(now // 3600) + 1, 3600.0), 0.0)
    begins = (int(now // 3600) + 1) * 3600.0
    bench.clock.set(begins + MOST_PATIENCE)
    assert bench.sent.get().sequence == 2


def test_the_ticks_of_all_services_of_a_period_make_one_report(bench: Bench) -> None:
    bench.reporting.start()
    for service in ("volume", "network", "plain"):
        bench.begin(0)
        bench.ran(0, service)
    assert bench.sent.get().sequence == 1

    bench.begin(0)
    bench.begin(-1)
    bench.ran(0)
    for sequence in (2, 3):
        bench.reporting.soon()
        assert bench.sent.get().sequence == sequence
    bench.clock.advance(INTERVAL)
    bench.begin(1)
    bench.ran(1)

    assert bench.sent.get().sequence == 4


def test_a_run_that_is_over_before_its_tick_was_noted_holds_nothing_up(bench: Bench) -> None:
    bench.reporting.start()

    bench.ran(0)
    bench.begin(0)

    assert bench.sent.get().sequence == 1


def test_a_run_of_an_older_period_does_not_count_for_the_new_one(bench: Bench) -> None:
    bench.reporting.start()
    bench.clock.advance(INTERVAL)
    bench.begin(1)
    bench.ran(0)
    assert bench.reporting._awaited == {"volume", "network", "plain"}
    bench.volumes.update_service_capabilities({"fresh": True})
    bench.ran(1)

    assert bench.sent.get().services["volume"] == {"fresh": True}


def test_a_report_asked_for_at_once_does_not_take_the_place_of_the_periods(bench: Bench) -> None:
    bench.reporting.start()
    bench.begin(0)
    bench.reporting.soon()
    assert bench.sent.get().services["volume"] is None

    bench.volumes.update_service_capabilities({"fresh": True})
    bench.ran(0)

    assert bench.sent.get().services["volume"] == {"fresh": True}


def test_a_broker_that_fails_is_logged_and_the_next_report_goes_out_with_a_higher_sequence(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.faults = [OperationalError("broker away"), ConnectionRefusedError("refused"), RuntimeError("unheard of")]
    bench.reporting.start()
    for _ in range(3):
        bench.reporting.soon()
        assert isinstance(bench.sent.get(), Exception)

    bench.begin(0)
    bench.ran(0)

    assert bench.sent.get().sequence == 4
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == [
        "report of a not sent: broker away; the next period's goes out anew",
        "report of a not sent: refused; the next period's goes out anew",
        "report of a not sent; the next period's goes out anew",
    ]


def test_sequences_strictly_increase(bench: Bench) -> None:
    bench.reporting.start()
    sequences = []
    for period in range(5):
        bench.clock.advance(INTERVAL)
        bench.begin(period + 1)
        bench.ran(period + 1)
        sequences.append(bench.sent.get().sequence)
        bench.reporting.soon()
        sequences.append(bench.sent.get().sequence)

    assert sequences == list(range(1, 11))


def test_facts_that_went_wrong_in_a_drivers_hands_cost_their_service_only(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    facts: dict[str, Any] = {"gb": 1}
    bench.volumes.update_service_capabilities(facts)
    bench.network.update_service_capabilities({"ports": 4})
    facts["gb"] = float("nan")
    bench.reporting.start()

    bench.reporting.soon()

    assert bench.sent.get().services == {"volume": None, "network": {"ports": 4}, "plain": None}
    assert "reports only liveness: volume.gb is nan" in caplog.text


def test_a_memory_that_cannot_be_read_costs_its_service_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Torn:
        def recall(self, service: str) -> None:
            raise ValueError("half a document")

    bench.volumes.memory = Torn()  # type: ignore[assignment]
    bench.network.update_service_capabilities({"ports": 4})
    bench.reporting.start()

    bench.reporting.soon()

    assert bench.sent.get().services == {"volume": None, "network": {"ports": 4}, "plain": None}
    assert "half a document" in caplog.text


def test_nothing_is_sent_after_a_stop(bench: Bench) -> None:
    bench.reporting.start()
    bench.begin(0)
    bench.reporting.stop()

    bench.reporting.soon()
    bench.ran(0)
    bench.clock.advance(100)

    assert bench.sent.rest() == []


def test_stopping_without_having_started_and_twice_is_harmless(bench: Bench) -> None:
    bench.reporting.soon()
    bench.reporting.stop()
    bench.reporting.stop()
    bench.reporting.start()
    bench.reporting.stop()

    assert bench.sent.rest() == []


def test_reporting_bears_being_asked_and_stopped_from_all_sides(
    hand_clock: Any, mailbox: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, stress: Callable[..., None]
) -> None:
    for _ in range(10):
        bench = Bench(hand_clock, mailbox(), monkeypatch)
        once = threading.Lock()

        def start(bench: Bench = bench, once: Any = once) -> None:
            if once.acquire(blocking=False):
                bench.reporting.start()

        stress(
            start, bench.reporting.soon, partial(bench.begin, 0), partial(bench.ran, 0), bench.reporting.stop, rounds=5
        )

        bench.reporting.stop()
        assert not bench.reporting._thread.is_alive()
        sequences = [report.sequence for report in bench.sent.rest()]
        assert sequences == list(range(1, len(sequences) + 1))
