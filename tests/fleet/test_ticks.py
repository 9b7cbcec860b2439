"""Ticks on real fleets: once per period on every host, however busy, whichever beats live."""

import itertools
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

from managers.periods import host_offset, period_number
from tests.fleet.conftest import on_broker
from tests.fleet.harness import BROKER, PATIENCE, Harness, Process

pytestmark = pytest.mark.fleet

#: Seconds between two ticks: a slow machine may start a run up to so late.
INTERVAL = 2.0
#: Seconds that the fleets tick, and hosts; `make ticks` says 60 and 6, the suite is content with less.
SECONDS = int(os.environ.get("CELERIAC_TEST_TICK_SECONDS", "8"))
HOSTS = int(os.environ.get("CELERIAC_TEST_TICK_HOSTS", "4"))
POOLS = ("prefork", "threads", "gevent")
SLOTS = 4


@pytest.fixture(params=["redis", "rabbitmq"])
def ticking(request: pytest.FixtureRequest, start_fleet: Callable[..., Harness]) -> Harness:
    return on_broker(request.param, request, start_fleet, interval=INTERVAL)


@pytest.fixture(scope="module")
def fleet(standing_fleets: Callable[..., Harness]) -> Harness:
    """A scheduler, a host "one" and a host "slow" that the module's tests share; each starts beats of its own."""
    fleet = standing_fleets(BROKER, beats=0, interval=INTERVAL)
    fleet.worker("one")
    fleet.worker("slow", slots=SLOTS, JOURNAL_TAKES="2.5")
    fleet.up("one", "slow", service="journal")
    return fleet


@pytest.fixture
def start_beats(fleet: Harness) -> Iterator[Callable[..., list[Process]]]:
    """Start beats and wait until all of them tick; they end with the test."""
    count = len(fleet.processes)

    def start(*names: str) -> list[Process]:
        beats = [fleet.beat(name) for name in names]
        fleet.wait(lambda: all("Sending due task" in beat.text for beat in beats), PATIENCE, "all beats tick")
        return beats

    yield start
    fleet.end_since(count)


def period_of(host: str, moment: float) -> int:
    """Return the period that *host* is in at this moment."""
    return period_number(moment - host_offset(host, INTERVAL) + 0.001, INTERVAL)


def periods(fleet: Harness, host: str, since: int, until: float = math.inf) -> list[int]:
    """Return the periods from *since* up to *until* whose periodic tasks *host* ran."""
    numbers = (period_of(host, run["due"]) for run in fleet.written(host))
    return [number for number in numbers if since <= number < until]


def overlaps(fleet: Harness, host: str) -> list[str]:
    runs = fleet.written(host)
    return [f"{before} | {after}" for before, after in itertools.pairwise(runs) if after["started"] < before["at"]]


def keep_busy(fleet: Harness, hosts: Iterable[str], seconds: float) -> None:
    """Fill every slot of *hosts*, with as much again waiting for one, and wait until it is so."""
    paths = [fleet.directory / f"busy-{host}" for host in hosts]
    for host, path in zip(hosts, paths, strict=True):
        for _ in range(2 * SLOTS):
            fleet.app.send_task("journal.hold", (seconds, str(path)), queue=f"host.{host}")

    def are_busy() -> bool:
        return all(path.exists() and path.read_text().count("started") == SLOTS for path in paths)

    fleet.wait(are_busy, PATIENCE, f"{hosts} are busy")


@pytest.mark.timeout(SECONDS + 4 * PATIENCE)
def test_every_host_of_every_pool_ticks_once_per_period_the_busy_ones_too(ticking: Harness) -> None:
    names = [f"{pool}-{number}" for number, pool in zip(range(HOSTS), itertools.cycle(POOLS), strict=False)]
    busy = names[: len(POOLS)]
    ticking.scheduler()
    for name in names:
        ticking.worker(name, pool=name.partition("-")[0], slots=SLOTS, services="host,journal")
    ticking.up(*names, service="journal")
    keep_busy(ticking, busy, SECONDS + 3 * PATIENCE)
    ticking.beat("beat-1")
    ticking.beat("beat-2")
    ticking.wait(lambda: all(ticking.written(name) for name in names), PATIENCE, "all tick")

    first = period_number(time.time(), INTERVAL) + 1
    end = first + int(SECONDS / INTERVAL)
    ticking.wait(lambda: all(periods(ticking, name, end) for name in names), SECONDS + PATIENCE, "time")

    for name in busy:
        assert "ended" not in (ticking.directory / f"busy-{name}").read_text(), "it was busy all the time"
    for name in names:
        ran = Counter(periods(ticking, name, first, end))
        assert len(ran) >= end - first - 1, f"{name} missed {set(range(first, end)) - set(ran)}"
        assert max(ran.values()) == 1, f"{name} ran twice: {ran}"
        assert overlaps(ticking, name) == []
    ticking.up(*names, service="journal")


def test_a_killed_beat_costs_no_period_while_another_lives(
    fleet: Harness, start_beats: Callable[..., list[Process]]
) -> None:
    first, _ = start_beats("beat-1", "beat-2")
    fleet.wait(lambda: fleet.written("one"), PATIENCE, "ticking")
    start = period_number(time.time(), INTERVAL) + 1

    fleet.wait(lambda: periods(fleet, "one", start), PATIENCE, "a period with both")
    first.kill()
    fleet.wait(lambda: periods(fleet, "one", start + 3), PATIENCE, "three with one")

    assert periods(fleet, "one", start, start + 4) == list(range(start, start + 4))


def test_restarted_beats_tick_within_one_period(fleet: Harness, start_beats: Callable[..., list[Process]]) -> None:
    before = len(fleet.written("one"))
    first = start_beats("beat-1", "beat-2")
    fleet.wait(lambda: len(fleet.written("one")) > before, PATIENCE, "ticked before")
    for beat in first:
        beat.kill()
    silent = len(fleet.written("one"))

    beats = [fleet.beat(f"again-{number}") for number in range(2)]
    fleet.wait(lambda: any("beat: Starting" in beat.text for beat in beats), PATIENCE, "beat is up")
    up = time.time()

    run = fleet.wait(
        lambda: next((run for run in fleet.written("one")[silent:] if run["started"] > up), None), PATIENCE, "it ticks"
    )
    assert period_of("one", run["due"]) <= period_number(up, INTERVAL) + 1


def test_ticks_sent_while_a_host_was_frozen_do_not_run_late(
    fleet: Harness, start_beats: Callable[..., list[Process]]
) -> None:
    host = fleet.process("one")
    before = len(fleet.written("one"))
    start_beats("beat-1")
    fleet.wait(lambda: len(fleet.written("one")) > before, PATIENCE, "ticking")

    host.signal(signal.SIGSTOP)
    frozen = time.time()
    fleet.wait(lambda: time.time() > frozen + 2.5 * INTERVAL, PATIENCE, "some periods")
    thawed = time.time()
    host.signal(signal.SIGCONT)
    fleet.wait(lambda: periods(fleet, "one", period_of("one", thawed) + 2), PATIENCE, "two more")

    ran = [period_of("one", run["due"]) for run in fleet.written("one") if run["started"] > thawed]
    assert min(ran) >= period_of("one", thawed), "none of before"
    assert max(Counter(ran).values()) == 1


def test_a_busy_time_leaves_no_backlog_of_ticks(fleet: Harness, start_beats: Callable[..., list[Process]]) -> None:
    start_beats("beat-1")
    fleet.wait(lambda: len(fleet.written("slow")) >= 3, PATIENCE, "three slow runs")

    starts = [run["started"] for run in fleet.written("slow")]

    assert overlaps(fleet, "slow") == []
    assert min(later - earlier for earlier, later in itertools.pairwise(starts)) >= 2.5
    assert "longer than their interval" in fleet.process("slow").text
    assert fleet.rows("journal")["slow"].state == "up"
