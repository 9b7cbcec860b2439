"""Each period is run once, in order, alone, and nothing that goes wrong in one keeps the next from running."""

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from managers.context import RequestContext, current_context, get_admin_context
from managers.manager import Manager
from managers.periods import Tick
from workers.runner import TickRunner

CONTEXT = get_admin_context()
INTERVAL = 60.0


class Work(Manager[None], service_name="work"):
    """A manager whose runs the test watches and holds up."""

    def __init__(self) -> None:
        super().__init__("a")
        self.under_way = threading.Semaphore(0)
        self.may_end = threading.Semaphore(10**6)
        self.contexts: list[RequestContext | None] = []
        self.at_once = self.most_at_once = 0
        self.fault: BaseException | None = None

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.contexts.append(context)
        self.under_way.release()
        assert self.may_end.acquire(timeout=10)
        self.at_once -= 1
        if self.fault is not None:
            raise self.fault

    def hold_up(self) -> None:
        self.may_end = threading.Semaphore(0)


class Bench:
    """A runner, its manager, its clock and what it has run."""

    def __init__(self, clock: Any, ran: Any, offset: float = 0.0) -> None:
        self.work, self.clock, self.ran = Work(), clock, ran
        self.first = int(clock.now() // INTERVAL)
        self.runner = TickRunner(self.work, clock, lambda _: offset, lambda tick: ran.put(tick.number - self.first))
        clock.wakes(self.runner)

    def offer(self, period: int, context: RequestContext = CONTEXT) -> bool:
        """Offer the tick of the period that begins *period* intervals after the test's beginning."""
        return self.runner.offer(Tick(self.first + period, INTERVAL), context)


@pytest.fixture
def bench(hand_clock: Any, mailbox: Callable[[], Any]) -> Iterator[Bench]:
    made = Bench(hand_clock, mailbox())
    yield made
    made.work.may_end.release(10)
    assert made.runner.stop(10)


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_a_tick_runs_the_managers_periodic_tasks_in_its_context(bench: Bench) -> None:
    context = RequestContext(user="beat")
    bench.runner.start()

    assert bench.offer(0, context) is True

    assert bench.ran.get() == 0
    assert bench.work.contexts == [context]


def test_periodic_tasks_are_due_by_the_ticks_own_time_not_that_of_its_handling(
    hand_clock: Any, mailbox: Callable[[], Any]
) -> None:
    bench = Bench(hand_clock, mailbox(), offset=12.5)
    times: list[float] = []
    bench.work.periodic_tasks = lambda context=None: times.append(bench.work.schedule.now())  # type: ignore[method-assign,misc]
    hand_clock.set(bench.first * INTERVAL + 30)
    bench.runner.start()

    assert bench.offer(0)
    assert bench.ran.get() == 0
    bench.clock.advance(INTERVAL)
    assert bench.offer(1)
    assert bench.ran.get() == 1

    assert times == [(bench.first + period) * INTERVAL + 12.5 for period in (0, 1)]
    assert bench.runner.stop(10)


def test_the_ticks_context_is_current_in_its_run_and_gone_afterwards(bench: Bench) -> None:
    current: list[RequestContext | None] = []
    bench.work.periodic_tasks = lambda context=None: current.append(current_context())  # type: ignore[method-assign,misc]
    bench.runner._on_run = lambda tick: (current.append(current_context()), bench.ran.put(tick.number))[1]
    context = RequestContext(user="beat")
    bench.runner.start()

    bench.offer(0, context)
    bench.ran.get()

    assert current == [context, None]


def test_each_period_is_run_once_and_never_an_older_one(bench: Bench) -> None:
    bench.runner.start()
    assert bench.offer(0)
    assert bench.ran.get() == 0
    bench.clock.advance(INTERVAL)
    assert bench.offer(1)
    assert bench.ran.get() == 1

    assert [bench.offer(period) for period in (1, 0, -1, 1)] == [False] * 4

    bench.clock.advance(INTERVAL)
    assert bench.offer(2)
    assert bench.ran.get() == 2
    assert len(bench.work.contexts) == 3


def test_a_tick_is_refused_while_the_same_one_waits_or_runs(bench: Bench) -> None:
    assert bench.offer(0)
    assert not bench.offer(0)
    bench.work.hold_up()
    bench.runner.start()
    assert bench.work.under_way.acquire(timeout=10)

    assert not bench.offer(0)


def test_periods_are_told_apart_by_their_beginning_whatever_the_interval(bench: Bench, hand_clock: Any) -> None:
    begins = int(hand_clock.now() // 60) * 60

    assert bench.runner.offer(Tick(begins // 60, 60.0), CONTEXT)
    assert not bench.runner.offer(Tick(begins // 30, 30.0), CONTEXT)
    assert bench.runner.offer(Tick(begins // 30 + 1, 30.0), CONTEXT)


def test_runs_never_overlap_and_the_newest_tick_takes_the_place_of_a_waiting_one(bench: Bench) -> None:
    bench.work.hold_up()
    bench.runner.start()
    assert bench.offer(0)
    assert bench.work.under_way.acquire(timeout=10)

    for period in (1, 2, 3):
        bench.clock.advance(INTERVAL)
        assert bench.offer(period)
    bench.work.may_end.release(2)

    assert [bench.ran.get(), bench.ran.get()] == [0, 3]
    assert bench.work.most_at_once == 1
    assert len(bench.work.contexts) == 2


def test_a_host_starts_at_its_own_place_in_the_period(hand_clock: Any, mailbox: Callable[[], Any]) -> None:
    bench = Bench(hand_clock, mailbox(), offset=20.0)
    started_at: list[float] = []
    bench.work.periodic_tasks = lambda context=None: started_at.append(hand_clock._now)  # type: ignore[method-assign,misc]
    looked, now = mailbox(), hand_clock.now
    bench.offer(0)
    hand_clock.now = lambda: (looked.put(), now())[1]
    bench.runner.start()

    for seconds in (10, 9.5, 0.4, 0.1):
        looked.get()  # the runner has seen that it is too early
        bench.clock.advance(seconds)

    assert bench.ran.get() == 0
    hand_clock.now = now
    assert started_at == [bench.first * INTERVAL + 20]
    bench.runner.stop(10)


def test_a_tick_that_waited_an_interval_is_dropped_with_a_line_and_the_next_one_runs(
    bench: Bench, mailbox: Callable[[], Any]
) -> None:
    dropped = mailbox()
    handler = logging.Handler()
    handler.emit = lambda record: dropped.put(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("managers.periods").addHandler(handler)
    bench.work.hold_up()
    bench.runner.start()
    bench.offer(0)
    assert bench.work.under_way.acquire(timeout=10)
    bench.clock.advance(INTERVAL)
    bench.offer(1)
    bench.clock.advance(INTERVAL + 1.5)
    bench.work.may_end.release(2)

    assert dropped.get() == f"period {bench.first + 1} of work on a dropped: 61.50 s late"
    bench.offer(2)

    assert [bench.ran.get(), bench.ran.get()] == [0, 2]
    logging.getLogger("managers.periods").removeHandler(handler)


@pytest.mark.parametrize("fault", [ValueError("no disk"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_run_raises_is_logged_and_the_next_tick_still_runs(
    bench: Bench, fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    bench.work.fault = fault
    bench.runner.start()
    bench.offer(0)
    assert bench.ran.get() == 0

    bench.work.fault = None
    bench.clock.advance(INTERVAL)
    bench.offer(1)

    assert bench.ran.get() == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == f"periodic tasks of <Work work on a> failed in period {bench.first}"
    assert record.exc_info is not None
    assert record.exc_info[1] is fault
    assert (record.host, record.service) == ("a", "work")  # type: ignore[attr-defined]


def test_an_error_after_a_run_does_not_end_the_ticks(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def fail(tick: Tick) -> None:
        bench.ran.put(tick.number - bench.first)
        raise LookupError("no such function in the db driver")

    bench.runner._on_run = fail
    bench.runner.start()
    bench.offer(0)
    assert bench.ran.get() == 0
    bench.clock.advance(INTERVAL)
    bench.offer(1)

    assert bench.ran.get() == 1
    assert "no such function" in caplog.text


def test_a_run_longer_than_its_interval_is_warned_of_with_figures(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    readings = iter([100.0, 160.0, 200.0, 272.5])
    monkeypatch.setattr("workers.runner.time", SimpleNamespace(monotonic=lambda: next(readings)))
    bench.runner.start()
    bench.offer(0)
    assert bench.ran.get() == 0
    assert lines(caplog, logging.WARNING) == []

    bench.clock.advance(INTERVAL)
    bench.offer(1)
    assert bench.ran.get() == 1

    assert lines(caplog, logging.WARNING) == [
        "periodic tasks of <Work work on a> took 72.50 s, longer than their interval of 60 s"
    ]


def test_a_beat_whose_clock_runs_far_ahead_is_refused_and_silences_no_right_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.runner.start()

    assert bench.offer(60) is False

    assert lines(caplog, logging.WARNING) == [
        f"period {bench.first + 60} of work on a refused: it begins in 3600 s; some beat's clock is wrong"
    ]
    assert bench.offer(0) is True
    assert bench.ran.get() == 0


def test_a_beat_ahead_by_no_more_than_an_interval_is_heeded(bench: Bench) -> None:
    bench.clock.set(bench.first * INTERVAL)

    assert bench.offer(1) is True
    assert bench.offer(2) is False


def test_stopping_waits_for_the_run_under_way_and_drops_the_one_that_waits(bench: Bench) -> None:
    bench.work.hold_up()
    bench.runner.start()
    bench.offer(0)
    assert bench.work.under_way.acquire(timeout=10)
    bench.clock.advance(INTERVAL)
    bench.offer(1)

    assert bench.runner.stop(0) is False
    bench.work.may_end.release(10)

    assert bench.runner.stop(10) is True
    assert bench.ran.rest() == [0]
    assert bench.offer(2) is False


def test_stopping_ends_the_wait_for_a_place_in_the_period(hand_clock: Any, mailbox: Callable[[], Any]) -> None:
    bench = Bench(hand_clock, mailbox(), offset=3000.0)
    bench.runner.start()
    bench.offer(0)

    assert bench.runner.stop(10) is True
    assert bench.ran.rest() == []


def test_stopping_without_having_started_and_twice_is_harmless(bench: Bench) -> None:
    assert bench.runner.stop(0) is True
    assert bench.runner.stop(0) is True
    bench.runner.start()
    assert bench.runner.stop(10) is True
    assert bench.offer(0) is False


@pytest.mark.parametrize("is_started_first", [True, False])
def test_a_runner_bears_being_offered_ticks_and_stopped_from_all_sides(
    hand_clock: Any,
    mailbox: Callable[[], Any],
    stress: Callable[..., None],
    is_started_first: bool,  # noqa: FBT001
) -> None:
    for _ in range(10):
        bench = Bench(hand_clock, mailbox())
        once = threading.Lock()

        def start(bench: Bench = bench, once: Any = once) -> None:
            if once.acquire(blocking=False):
                bench.runner.start()

        if is_started_first:
            start()
        offers = [partial(bench.offer, 0), partial(bench.offer, 1)]
        stress(start, *offers, partial(bench.runner.stop, 5), rounds=5)

        assert bench.runner.stop(10) is True
        assert bench.work.most_at_once <= 1
        assert len(bench.work.contexts) <= 2
