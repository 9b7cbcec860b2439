"""Points in time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.exc import StatementError

from managers.db import api, session, timestamps
from managers.db.models import Service
from managers.db.timestamps import utc

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=OFFSETS)  # noqa: DTZ001 zones come separately


@given(MOMENTS)
def test_a_moment_stays_the_same_moment_in_utc(moment: datetime) -> None:
    assert utc(moment) == moment
    assert utc(moment).tzinfo is UTC


def test_a_naive_moment_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"no time zone; use datetime\.now\(UTC\)"):
        utc(datetime(2026, 1, 1))  # noqa: DTZ001 naive on purpose


def test_a_naive_moment_never_reaches_a_row(database: str) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 naive on purpose
    row = {"service": "s", "host": "h", "version": "1", "created_at": naive, "started_at": naive, "last_seen_at": naive}

    with pytest.raises(StatementError, match="no time zone"), session() as opened:
        opened.execute(insert(Service).values(row))

    assert api.service_get_all() == []


def test_a_moment_comes_back_to_the_microsecond_and_in_utc(database: str) -> None:
    moment = datetime(2026, 3, 29, 2, 30, 0, 123457, tzinfo=timezone(timedelta(hours=5, minutes=45)))

    api.service_register("volume", "here", version="1", now=moment)

    stored = api.service_get("volume", "here").started_at
    assert stored == moment
    assert stored.tzinfo is UTC


@given(st.integers(0, 4_102_444_800_000_000))
def test_seconds_since_1970_are_told_to_the_microsecond(microseconds: int) -> None:
    told = timestamps.moment(microseconds / 1_000_000)

    assert told == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert told.tzinfo is UTC


def test_the_last_moment_is_one() -> None:
    assert timestamps.moment(253402300799.99997).year == 9999
    assert timestamps.moment(0) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong", [-1.0, 253402300800.0, 1_800_000_000_000, float("nan"), float("inf"), True, "1", None]
)
def test_what_is_no_moment_is_refused_with_the_way_out(wrong: object) -> None:
    with pytest.raises(ValueError, match="is no moment from 1970 to 9999; use seconds since 1970"):
        timestamps.moment(wrong)
