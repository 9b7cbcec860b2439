"""Ticks on real fleets: once per period on every host, however busy, whichever beats live."""

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

from managers.periods import host_offset, period_number
from tests.fleet.harness import BROKER, Harness, Process

pytestmark = pytest.mark.fleet

#: Seconds that the fleets tick; `make ticks` says 60, the suite is content with less.
SECONDS = int(os.environ.get("CELERIAC_TEST_TICK_SECONDS", "6"))
HOSTS = int(os.environ.get("CELERIAC_TEST_TICK_HOSTS", "6"))
POOLS = ("prefork", "threads", "gevent")
SLOTS = 4


@pytest.fixture(scope="module")
def fleet(standing_fleets: Callable[..., Harness]) -> Harness:
    """A scheduler, a host "one" and a host "slow" that the module's tests share; each starts beats of its own."""
    fleet = standing_fleets(BROKER, beats=0)
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
        fleet.wait(lambda: all("Sending due task" in beat.text for beat in beats), 20, "all beats tick")
        return beats

    yield start
    fleet.end_since(count)


def periods(fleet: Harness, host: str, since: int, until: int) -> list[int]:
    """Return the periods from *since* up to *until* in which *host* began its periodic tasks."""
    offset = host_offset(host, fleet.interval)
    numbers = (period_number(run["started"] - offset, fleet.interval) for run in fleet.written(host))
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

    fleet.wait(are_busy, 20, f"{hosts} are busy")


@pytest.mark.timeout(SECONDS + 150)
def test_every_host_of_every_pool_ticks_once_per_period_the_busy_ones_too(any_fleet: Harness) -> None:
    names = [f"{pool}-{number}" for number, pool in zip(range(HOSTS), itertools.cycle(POOLS), strict=False)]
    busy = names[: len(POOLS)]
    any_fleet.scheduler()
    for name in names:
        any_fleet.worker(name, pool=name.partition("-")[0], slots=SLOTS, services="host,journal")
    any_fleet.up(*names, service="journal", within=60)
    keep_busy(any_fleet, busy, SECONDS + 30)
    any_fleet.beat("beat-1")
    any_fleet.beat("beat-2")
    any_fleet.wait(lambda: all(any_fleet.written(name) for name in names), 20, "all tick")

    first = period_number(time.time(), 1.0) + 1
    any_fleet.wait(lambda: time.time() > first + SECONDS + 1, SECONDS + 5, "time")

    for name in busy:
        assert "ended" not in (any_fleet.directory / f"busy-{name}").read_text(), "it was busy all the time"
    for name in names:
        ran = Counter(periods(any_fleet, name, first, first + SECONDS))
        assert len(ran) >= SECONDS - 1, f"{name} missed {set(range(first, first + SECONDS)) - set(ran)}"
        assert max(ran.values()) == 1, f"{name} ran twice: {ran}"
        assert overlaps(any_fleet, name) == []
    assert {row.state for row in any_fleet.rows("journal").values()} == {"up"}


@pytest.mark.timeout(120)
def test_a_killed_beat_costs_no_period_while_another_lives(
    fleet: Harness, start_beats: Callable[..., list[Process]]
) -> None:
    first, _ = start_beats("beat-1", "beat-2")
    fleet.wait(lambda: fleet.written("one"), 10, "ticking")
    start = period_number(time.time(), 1.0) + 1

    fleet.wait(lambda: time.time() > start + 2, 5, "a while")
    first.kill()
    fleet.wait(lambda: time.time() > start + 6, 8, "a while")

    assert periods(fleet, "one", start, start + 5) == list(range(start, start + 5))


@pytest.mark.timeout(120)
def test_restarted_beats_tick_within_one_period(fleet: Harness, start_beats: Callable[..., list[Process]]) -> None:
    before = len(fleet.written("one"))
    first = start_beats("beat-1", "beat-2")
    fleet.wait(lambda: len(fleet.written("one")) > before, 5, "ticked before")
    for beat in first:
        beat.kill()
    silent = len(fleet.written("one"))

    beats = [fleet.beat(f"again-{number}") for number in range(2)]
    fleet.wait(lambda: any("beat: Starting" in beat.text for beat in beats), 20, "beat is up")
    up = time.time()
    fleet.wait(lambda: len(fleet.written("one")) > silent + 1, 10, "ticks again")

    assert (
        next(run["started"] for run in fleet.written("one")[silent:] if run["started"] > up) - up
        <= fleet.interval + host_offset("one", 1.0) + 0.1
    )


@pytest.mark.timeout(120)
def test_ticks_sent_while_a_host_was_frozen_do_not_run_late(
    fleet: Harness, start_beats: Callable[..., list[Process]]
) -> None:
    host = fleet.process("one")
    before = len(fleet.written("one"))
    start_beats("beat-1")
    fleet.wait(lambda: len(fleet.written("one")) > before, 10, "ticking")

    host.signal(signal.SIGSTOP)
    frozen = time.time()
    fleet.wait(lambda: time.time() > frozen + 4, 6, "four periods")
    host.signal(signal.SIGCONT)
    thawed = time.time()
    fleet.wait(lambda: time.time() > thawed + 3, 5, "three more")

    late = [run for run in fleet.written("one") if run["started"] > thawed]
    ran = Counter(period_number(run["started"] - host_offset("one", 1.0), 1.0) for run in late)
    assert max(ran.values()) == 1
    assert 2 <= len(late) <= 4


@pytest.mark.timeout(120)
def test_a_busy_time_leaves_no_backlog_of_ticks(fleet: Harness, start_beats: Callable[..., list[Process]]) -> None:
    start_beats("beat-1")
    fleet.wait(lambda: len(fleet.written("slow")) >= 3, 30, "three slow runs")

    starts = [run["started"] for run in fleet.written("slow")]

    assert overlaps(fleet, "slow") == []
    assert min(later - earlier for earlier, later in itertools.pairwise(starts)) >= 2.5
    assert "longer than their interval" in fleet.process("slow").text
    assert fleet.rows("journal")["slow"].state == "up"
