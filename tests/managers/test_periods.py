"""Periods: numbered stretches of the fleet's time, and each host's fixed place in them."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managers.periods import SPREAD, Tick, host_offset, period_number

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
