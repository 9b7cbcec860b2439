"""Ticks on real fleets: once per period on every host, however busy, whichever beats live."""

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from managers.periods import host_offset, period_number
from tests.fleet.harness import Harness

pytestmark = pytest.mark.fleet

#: Seconds that the fleets tick; `make ticks` says 60, the suite is content with less.
SECONDS = int(os.environ.get("CELERIAC_TEST_TICK_SECONDS", "6"))
HOSTS = int(os.environ.get("CELERIAC_TEST_TICK_HOSTS", "3"))
SLOTS = 4


def periods(fleet: Harness, host: str, since: int, until: int) -> list[int]:
    """Return the periods from *since* up to *until* in which *host* began its periodic tasks."""
    offset = host_offset(host, fleet.interval)
    numbers = (period_number(run["started"] - offset, fleet.interval) for run in fleet.written(host))
    return [number for number in numbers if since <= number < until]


def overlaps(fleet: Harness, host: str) -> list[str]:
    runs = fleet.written(host)
    return [f"{before} | {after}" for before, after in itertools.pairwise(runs) if after["started"] < before["at"]]


def keep_busy(fleet: Harness, hosts: Iterable[str], seconds: float) -> None:
    """Fill every slot of *hosts* and wait until it is so."""
    for host in hosts:
        path = fleet.directory / f"busy-{host}"
        for _ in range(SLOTS):
            fleet.app.send_task("journal.hold", (seconds, str(path)), queue=f"host.{host}")
        fleet.wait(
            lambda path=path: path.exists() and path.read_text().count("started") == SLOTS, 20, f"{host} is busy"
        )


@pytest.mark.timeout(SECONDS + 150)
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_every_host_ticks_once_per_period_the_busy_ones_too(any_fleet: Harness, pool: str) -> None:
    names = [f"host-{number}" for number in range(HOSTS)]
    any_fleet.scheduler()
    for name in names:
        any_fleet.worker(name, pool=pool, slots=SLOTS, services="host,journal")
    any_fleet.up(*names, service="journal", within=60)
    keep_busy(any_fleet, names[:2], SECONDS + 30)
    any_fleet.beat("beat-1")
    any_fleet.beat("beat-2")
    any_fleet.wait(lambda: all(any_fleet.written(name) for name in names), 20, "all tick")

    first = period_number(time.time(), 1.0) + 1
    any_fleet.wait(lambda: time.time() > first + SECONDS + 1, SECONDS + 5, "time")

    for name in names[:2]:
        assert "ended" not in (any_fleet.directory / f"busy-{name}").read_text(), "it was busy all the time"
    for name in names:
        ran = Counter(periods(any_fleet, name, first, first + SECONDS))
        assert len(ran) >= SECONDS - 1, f"{name} missed {set(range(first, first + SECONDS)) - set(ran)}"
        assert max(ran.values()) == 1, f"{name} ran twice: {ran}"
        assert overlaps(any_fleet, name) == []
    assert {row.state for row in any_fleet.rows("journal").values()} == {"up"}


@pytest.mark.timeout(120)
def test_a_busy_time_leaves_no_backlog_of_ticks(fleet: Harness) -> None:
    fleet.scheduler()
    fleet.worker("one", slots=SLOTS, JOURNAL_TAKES="2.5")
    fleet.up("one", service="journal")
    fleet.beat()
    fleet.wait(lambda: len(fleet.written("one")) >= 3, 30, "three slow runs")

    starts = [run["started"] for run in fleet.written("one")]

    assert overlaps(fleet, "one") == []
    assert min(later - earlier for earlier, later in itertools.pairwise(starts)) >= 2.5
    assert "longer than their interval" in fleet.processes[1].text
    assert fleet.rows("journal")["one"].state == "up"


@pytest.mark.timeout(120)
def test_a_killed_beat_costs_no_period_while_another_lives(fleet: Harness) -> None:
    fleet.scheduler()
    fleet.worker("one")
    fleet.up("one")
    first, second = fleet.beat("beat-1"), fleet.beat("beat-2")
    fleet.wait(lambda: all("Sending due task" in beat.text for beat in (first, second)), 20, "both tick")
    fleet.wait(lambda: fleet.written("one"), 10, "ticking")
    start = period_number(time.time(), 1.0) + 1

    fleet.wait(lambda: time.time() > start + 2, 5, "a while")
    first.kill()
    fleet.wait(lambda: time.time() > start + 6, 8, "a while")

    assert periods(fleet, "one", start, start + 5) == list(range(start, start + 5))


@pytest.mark.timeout(120)
def test_restarted_beats_tick_within_one_period(fleet: Harness) -> None:
    fleet.scheduler()
    fleet.worker("one")
    fleet.up("one")
    first = [fleet.beat(f"beat-{number}") for number in range(2)]
    fleet.wait(lambda: all("Sending due task" in beat.text for beat in first), 20, "both tick")
    for beat in first:
        beat.kill()
    silent = len(fleet.wait(lambda: fleet.written("one"), 5, "ticked before"))

    beats = [fleet.beat(f"again-{number}") for number in range(2)]
    fleet.wait(lambda: any("beat: Starting" in beat.text for beat in beats), 20, "beat is up")
    up = time.time()
    fleet.wait(lambda: len(fleet.written("one")) > silent + 1, 10, "ticks again")

    assert (
        next(run["started"] for run in fleet.written("one")[silent:] if run["started"] > up) - up
        <= fleet.interval + host_offset("one", 1.0) + 0.1
    )


@pytest.mark.timeout(120)
def test_ticks_sent_while_a_host_was_frozen_do_not_run_late(fleet: Harness) -> None:
    fleet.scheduler()
    host = fleet.worker("one")
    fleet.beat()
    fleet.up("one")
    fleet.wait(lambda: fleet.written("one"), 10, "ticking")

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


def test_solo_works_with_a_warning(start_fleet: Callable[..., Harness]) -> None:
    fleet = start_fleet()
    fleet.scheduler()
    host = fleet.worker("one", pool="solo", slots=1)
    fleet.beat()
    fleet.up("one")

    fleet.wait(lambda: fleet.written("one"), 10, "a tick")

    assert "solo pool runs tasks in the main thread" in host.text
