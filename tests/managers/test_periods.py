"""Periods: numbered stretches of the fleet's time, and each host's fixed place in them."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managers.periods import SPREAD, Tick, TickQueue, host_offset, period_number

INTERVALS = st.sampled_from([0.1, 0.25, 1.0, 7.0, 10.0, 60.0, 3600.0, 86400.0]) | st.floats(0.1, 86400)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True)
TIMES = st.floats(1.5e9, 2.5e9)


@given(TIMES, INTERVALS)
def test_a_moment_lies_in_the_period_of_its_number(now: float, interval: float) -> None:
    number = period_number(now, interval)

    rounding = 1e-6  # a float of 1.8e9 s has steps of 0.24 µs
    assert number * interval <= now + rounding
    assert now < (number + 1) * interval + rounding


@given(st.integers(0, 10**9), st.sampled_from([1.0, 5.0, 10.0, 60.0, 300.0]))
def test_a_period_begins_where_the_one_before_ends(number: int, interval: float) -> None:
    assert period_number(number * interval, interval) == number
    assert period_number(number * interval - 0.001, interval) == number - 1


@given(TIMES, st.floats(0, 1000), INTERVALS)
def test_numbers_never_fall_as_time_goes_on(now: float, later: float, interval: float) -> None:
    assert period_number(now + later, interval) >= period_number(now, interval)


@given(NAMES, INTERVALS)
def test_a_host_starts_within_the_spread_of_its_period(host: str, interval: float) -> None:
    assert 0 <= host_offset(host, interval) < SPREAD * interval


@given(NAMES, INTERVALS)
def test_a_host_keeps_its_place_whatever_the_interval(host: str, interval: float) -> None:
    assert host_offset(host, interval) == pytest.approx(host_offset(host, 1.0) * interval)


def test_a_hosts_place_follows_from_its_name_alone() -> None:
    # fixed figures: a restart, another Python or another machine must not move a host within its period
    assert host_offset("rack1-07", 60.0) == pytest.approx(6.950413, abs=1e-6)
    assert host_offset("rack1-08", 60.0) == pytest.approx(26.371866, abs=1e-6)


def test_a_fleet_of_a_thousand_is_spread_evenly() -> None:
    tenths = [int(host_offset(f"host-{number}", 10.0) / SPREAD) for number in range(1000)]

    counts = [tenths.count(tenth) for tenth in range(10)]
    assert min(counts) > 65
    assert max(counts) < 140
    assert statistics.mean(tenths) == pytest.approx(4.5, abs=0.4)


def test_a_tick_is_due_at_its_hosts_place_and_expires_one_interval_later() -> None:
    tick = Tick(number=100, interval=60.0)

    assert tick.due_at(0) == 6000
    assert tick.due_at(12.5) == 6012.5
    assert tick.expires_at(12.5) == 6072.5


def ticks_of(offset: float = 0.0) -> TickQueue:
    return TickQueue("volume", "a", lambda _: offset)


@given(st.lists(st.integers(100, 110), max_size=40))
def test_whatever_ticks_come_each_period_runs_once_and_never_an_older_one(numbers: list[int]) -> None:
    ticks, ran = ticks_of(), []

    for number in numbers:
        ticks.offer(Tick(number, 60.0), now=110 * 60.0)
        tick = ticks.take(now=max(number * 60.0, 110 * 60.0))
        ran += [] if tick is None else [tick.number]

    assert ran == sorted(set(ran))


def test_of_waiting_ticks_only_the_newest_is_run() -> None:
    ticks = ticks_of()
    for number in (5, 6, 7):
        assert ticks.offer(Tick(number, 60.0), now=7 * 60.0)

    assert ticks.take(now=7 * 60.0) == Tick(7, 60.0)
    assert ticks.take(now=7 * 60.0) is None


def test_a_tick_waits_for_its_hosts_moment_and_is_dropped_an_interval_later() -> None:
    ticks = ticks_of(offset=20.0)
    ticks.offer(Tick(5, 60.0), now=300.0)

    assert ticks.due_at == 320.0
    assert ticks.take(now=319.9) is None
    assert ticks.take(now=380.0) is None
    assert ticks.due_at is None


def test_a_fleets_clock_that_is_set_back_silences_nobody() -> None:
    ticks = ticks_of()
    ticks.offer(Tick(1000, 60.0), now=60_000.0)
    ticks.take(now=60_000.0)

    assert ticks.offer(Tick(940, 60.0), now=940 * 60.0)

    assert ticks.take(now=940 * 60.0) == Tick(940, 60.0)
