"""Due tasks run one by one; none stops another, and one of a fleet's hosts runs what is the fleet's."""

import logging
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managers import schedule as schedule_module
from managers.manager import Manager, SchedulerDependentManager
from managers.methods import expose
from managers.periodic import PeriodicTask, periodic_task
from managers.runs import HostRuns, ProcessRuns
from managers.schedule import Schedule

START = 1_800_000_000.0


class Clock:
    """Time in the test's hand."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Outbox:
    """A reporter that keeps which services reported."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def report(self, manager: SchedulerDependentManager[Any]) -> None:
        self.sent.append(manager.service_name)


class Volumes(SchedulerDependentManager[None], service_name="volume"):
    """A manager whose tasks say that they ran, or raise what the test says."""

    raises: BaseException | None = None

    def __init__(self, host: str = "a") -> None:
        super().__init__(host)
        self.ran: list[str] = []

    @periodic_task(spacing=0)
    def a_first(self) -> None:
        self.ran.append("a_first")

    @periodic_task(spacing=0)
    def b_failing(self) -> None:
        self.ran.append("b_failing")
        if self.raises is not None:
            raise self.raises

    @periodic_task(spacing=0)
    def c_last(self) -> None:
        self.ran.append("c_last")


class Heavy(Manager[None], service_name="heavy"):
    """A manager with a task of the pool and one of its own."""

    def __init__(self, host: str = "a") -> None:
        super().__init__(host)
        self.ran: list[str] = []

    @periodic_task(spacing=60, run_immediately=True, pool=True)
    def compress(self) -> None:
        self.ran.append("compress")

    @periodic_task(spacing=60, run_immediately=True)
    def measure(self) -> None:
        self.ran.append("measure")


class Janitor(Manager[None], service_name="janitor"):
    """A manager with a task that one host of the fleet does, and one that each does."""

    def __init__(self, host: str, fleet_runs: ProcessRuns, clock: Clock) -> None:
        super().__init__(host)
        self.ran: list[str] = []
        self.schedule.fleet_runs, self.schedule.now = fleet_runs, clock

    @periodic_task(spacing=60, scope="fleet")
    def clean(self) -> None:
        self.ran.append("clean")

    @periodic_task(spacing=60)
    def measure(self) -> None:
        self.ran.append("measure")


@pytest.fixture
def volumes() -> Volumes:
    return Volumes()


@pytest.fixture
def heavy() -> Heavy:
    manager = Heavy()
    manager.schedule.now = Clock()
    return manager


@pytest.mark.parametrize("error", [ValueError("no disk"), SystemExit(3), GeneratorExit(), AssertionError("no")])
def test_a_task_that_fails_is_logged_and_stops_neither_the_others_nor_the_report(
    volumes: Volumes, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    volumes.raises, volumes.reporter = error, (outbox := Outbox())

    volumes.periodic_tasks()

    assert volumes.ran == ["a_first", "b_failing", "c_last"]
    assert outbox.sent == ["volume"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "b_failing of <Volumes volume on a> failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert (vars(record)["host"], vars(record)["service"]) == ("a", "volume")


def test_a_task_that_failed_runs_again_at_its_next_time(volumes: Volumes) -> None:
    volumes.raises = ValueError("no disk")

    volumes.periodic_tasks()
    volumes.periodic_tasks()

    assert volumes.ran.count("b_failing") == 2


def test_who_presses_ctrl_c_is_obeyed_at_once(volumes: Volumes) -> None:
    volumes.raises, volumes.reporter = KeyboardInterrupt(), (outbox := Outbox())

    with pytest.raises(KeyboardInterrupt):
        volumes.periodic_tasks()

    assert volumes.ran == ["a_first", "b_failing"]
    assert outbox.sent == []


def test_a_worker_can_be_told_of_a_failure_instead_of_the_log(
    volumes: Volumes, caplog: pytest.LogCaptureFixture
) -> None:
    error, told = ValueError("no disk"), []
    volumes.raises = error
    volumes.schedule.failed = lambda task, raised: told.append((task.name, raised))

    volumes.periodic_tasks()

    assert told == [("b_failing", error)]
    assert caplog.records == []


def test_last_runs_that_cannot_be_read_stop_no_other_task(caplog: pytest.LogCaptureFixture) -> None:
    class Unreachable(ProcessRuns):
        def last_run(self, service: str, task: str) -> float | None:
            raise ConnectionError("no table")

    janitor = Janitor("a", Unreachable(), clock := Clock())

    for _ in range(2):
        janitor.periodic_tasks()
        clock.now += 60

    assert janitor.ran == ["measure"]
    assert [record.getMessage() for record in caplog.records] == ["clean of <Janitor janitor on a> failed"] * 2


def test_due_tasks_run_in_the_order_of_their_names(volumes: Volumes) -> None:
    assert [task.name for task in volumes.schedule.tasks] == ["a_first", "b_failing", "c_last"]

    volumes.schedule.run_due()

    assert volumes.ran == ["a_first", "b_failing", "c_last"]


def test_a_task_is_the_method_of_this_instance(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "c_last", lambda: volumes.ran.append("replaced"))

    volumes.schedule.run_due()

    assert volumes.ran == ["a_first", "b_failing", "replaced"]


def test_an_exposed_task_runs_as_the_plain_method() -> None:
    class Both(Manager[None], service_name="both"):
        ran = 0

        @expose
        @periodic_task(spacing=0)
        def measure(self) -> None:
            self.ran += 1

    both = Both("a")
    both.periodic_tasks()

    assert both.ran == 1


def test_a_task_runs_once_per_period_by_the_time_that_the_worker_says() -> None:
    janitor = Janitor("a", ProcessRuns(), clock := Clock())

    for number in range(21):
        clock.now = START + 20 * number
        janitor.periodic_tasks()

    assert Counter(janitor.ran) == {"clean": 6, "measure": 6}


def test_time_is_that_of_the_machine_unless_a_worker_says_otherwise(volumes: Volumes) -> None:
    assert volumes.schedule.now is time.time


def test_last_runs_that_survive_keep_the_grid_over_a_restart(tmp_path: Path) -> None:
    def lives_through(*ticks: float) -> int:
        """Return how often a new instance measures at these *ticks*."""
        janitor = Janitor("a", ProcessRuns(), clock := Clock())
        janitor.schedule.runs = HostRuns(tmp_path)
        for tick in ticks:
            clock.now = START + tick
            janitor.periodic_tasks()
        return janitor.ran.count("measure")

    assert lives_through(0, 60) == 1
    assert lives_through(70, 100) == 0  # its period is served
    assert lives_through(1000, 1010) == 1  # fifteen are missed
    assert lives_through(1020) == 1  # the next on the first life's grid


def test_a_task_that_outlasts_its_spacing_is_logged_with_its_figures(
    heavy: Heavy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter([100.0, 161.25, 200.0, 259.9])  # two tasks begin and end
    monkeypatch.setattr(schedule_module, "time", SimpleNamespace(time=time.time, monotonic=moments.__next__))

    heavy.periodic_tasks()

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "compress of <Heavy heavy on a> took 61.25 s, longer than its spacing of 60 s"
    assert (vars(record)["host"], vars(record)["service"]) == ("a", "heavy")


def test_a_task_that_fails_late_is_logged_with_both(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(Manager[None], service_name="slow"):
        @periodic_task(spacing=1, run_immediately=True)
        def measure(self) -> None:
            raise ValueError("no disk")

    moments = iter([100.0, 103.0])
    monkeypatch.setattr(schedule_module, "time", SimpleNamespace(time=time.time, monotonic=moments.__next__))

    Slow("a").periodic_tasks()

    assert [record.getMessage() for record in caplog.records] == [
        "measure of <Slow slow on a> took 3.00 s, longer than its spacing of 1 s",
        "measure of <Slow slow on a> failed",
    ]


def test_a_task_of_every_tick_has_no_spacing_to_outlast(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter(range(0, 60_000, 10_000))
    monkeypatch.setattr(schedule_module, "time", SimpleNamespace(time=time.time, monotonic=moments.__next__))

    volumes.periodic_tasks()

    assert caplog.records == []


def test_a_task_of_the_pool_is_sent_where_there_is_somebody_to_send_it(heavy: Heavy) -> None:
    sent: list[PeriodicTask] = []
    heavy.schedule.send = sent.append

    heavy.periodic_tasks()
    heavy.periodic_tasks()

    assert [task.name for task in sent] == ["compress"]
    assert heavy.ran == ["measure"]


def test_a_task_of_the_pool_runs_here_where_there_is_no_pool(heavy: Heavy) -> None:
    heavy.periodic_tasks()
    heavy.periodic_tasks()

    assert heavy.ran == ["compress", "measure"]


def test_a_task_of_the_pool_that_cannot_be_sent_stops_no_other(heavy: Heavy, caplog: pytest.LogCaptureFixture) -> None:
    def fail(task: PeriodicTask) -> None:
        raise ConnectionError("no broker")

    heavy.schedule.send = fail

    heavy.periodic_tasks()

    assert heavy.ran == ["measure"]
    assert [record.getMessage() for record in caplog.records] == ["compress of <Heavy heavy on a> failed"]


def test_of_two_hosts_that_tick_at_once_one_does_the_fleets_task() -> None:
    class Raced(ProcessRuns):
        """Last runs that another host advances between a host's reading and writing."""

        racing = False

        def advance(self, service: str, task: str, before: float | None, after: float) -> bool:
            if not self.racing:
                self.racing = True
                b.periodic_tasks()
            return super().advance(service, task, before, after)

    runs, clock = Raced(), Clock()
    a, b = Janitor("a", runs, clock), Janitor("b", runs, clock)
    runs.racing = True
    a.periodic_tasks()
    clock.now += 60
    runs.racing = False
    a.periodic_tasks()

    assert (a.ran.count("clean"), b.ran.count("clean")) == (0, 1)


def test_every_host_does_its_own_tasks_and_one_does_the_fleets() -> None:
    runs, clock = ProcessRuns(), Clock()
    hosts = [Janitor(name, runs, clock) for name in ("a", "b", "c")]

    for _ in range(11):
        for host in hosts:
            host.periodic_tasks()
        clock.now += 60

    assert [host.ran.count("measure") for host in hosts] == [10, 10, 10]
    assert sum(host.ran.count("clean") for host in hosts) == 10


INTERVAL = 20.0
PERIODS = 12


@st.composite
def fleets(draw: st.DrawFn) -> tuple[float, list[float], list[list[bool]]]:
    """Draw a spacing in ticks, the offsets of two to four hosts, and which of them are up at each tick."""
    count = draw(st.integers(2, 4))
    spacing = draw(st.integers(1, 4)) * INTERVAL
    offsets = draw(st.lists(st.floats(0, INTERVAL, exclude_max=True), min_size=count, max_size=count, unique=True))
    ticks = round(PERIODS * spacing / INTERVAL)
    is_up = draw(st.lists(st.lists(st.booleans(), min_size=count, max_size=count), min_size=ticks, max_size=ticks))
    return spacing, offsets, is_up


@settings(max_examples=150, deadline=None)
@given(fleets())
def test_one_host_that_is_up_does_the_fleets_task_in_each_period(
    fleet: tuple[float, list[float], list[list[bool]]],
) -> None:
    spacing, offsets, is_up = fleet

    class Cleaners(Manager[None], service_name="cleaner"):
        @periodic_task(spacing=spacing, scope="fleet")
        def clean(self) -> None:
            runs.append(clock.now)

    runs: list[float] = []
    fleet_runs, clock = ProcessRuns(), Clock()
    schedules = []
    for number in range(len(offsets)):
        schedules.append(Schedule(Cleaners(f"host-{number}")))
        schedules[-1].fleet_runs, schedules[-1].now = fleet_runs, clock
    ticks = sorted(
        (START + number * INTERVAL + offset, host)
        for number, up in enumerate(is_up)
        for host, offset in enumerate(offsets)
        if up[host]
    )
    for clock.now, host in ticks:
        schedules[host].run_due()

    if not ticks:
        return
    first = ticks[0][0]  # where the grid begins
    early = jitter_early(spacing)
    period_of = [int((now - first + early) // spacing) for now, _ in ticks]
    assert [int((now - first + early) // spacing) for now in runs] == sorted({*period_of} - {0})


def jitter_early(spacing: float) -> float:
    return schedule_module.jitter_of("cleaner", "clean") * 0.05 * spacing + 0.001


def test_what_is_the_fleets_comes_as_early_on_whichever_host() -> None:
    class Cleaners(Manager[None], service_name="cleaner"):
        ran = 0

        @periodic_task(spacing=3600, scope="fleet")
        def clean(self) -> None:
            self.ran += 1

    due_at = START + 3600 - jitter_early(3600)
    for number in range(20):
        cleaners = Cleaners(f"host-{number}")
        cleaners.schedule.now = clock = Clock()
        for clock.now, ran in ((START, 0), (due_at - 0.1, 0), (due_at + 0.1, 1)):
            cleaners.schedule.run_due()
            assert cleaners.ran == ran


def test_when_the_host_that_did_it_is_gone_another_does_the_fleets_task_within_a_period() -> None:
    runs, clock = ProcessRuns(), Clock()
    a, b = Janitor("a", runs, clock), Janitor("b", runs, clock)
    ticks: list[tuple[float, str]] = []

    for number in range(20):
        for offset, host in ((3.0, a), (41.0, b)):
            if host is b or number < 10:  # a dies after its tenth tick
                clock.now = START + 60 * number + offset
                before = host.ran.count("clean")
                host.periodic_tasks()
                ticks += [(clock.now, host.host)] * (host.ran.count("clean") - before)

    assert Counter(host for _, host in ticks) == {"a": 9, "b": 10}
    assert all(later - earlier <= 60 + 38 for (earlier, _), (later, _) in pairwise(ticks))
