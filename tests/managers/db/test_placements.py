"""A placement as the history is given it: what is a row, and what is refused by name."""

import json
from contextlib import suppress
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managers.db import InvalidRecord
from managers.db.placements import MAX_REASONS, is_storable, rows, storable

RECORD = {
    "request_id": "r-1",
    "attempt": 1,
    "task_id": "t-1",
    "task": "shop.render",
    "service": "host",
    "outcome": "done",
    "submitted_at": 1_800_000_000.0,
    "ended_at": 1_800_000_060.0,
}


class Outcome(str, Enum):  # noqa: UP042 the kind whose str() is its name
    DONE = "done"


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("request_id", "x" * 65, "request_id is 'xxx.*, not a text of 1 to 64 letters"),
        ("task_id", "x" * 256, "task_id is .*, not a text of 1 to 255 letters"),
        ("task", "", "task is '', not a text of 1 to 255 letters"),
        ("service", 7, "service is 7, not a text of 1 to 64 letters"),
        ("host", "a\0b", r"host is 'a.x00b', not a text of 1 to 128 letters without NUL"),
        ("outcome", "\ud800", "outcome is .*, not a text of 1 to 32 letters"),
        ("attempt", -1, "attempt is -1, not a whole number"),
        ("attempt", 1.0, "attempt is 1.0, not a whole number"),
        ("attempt", True, "attempt is True, not a whole number"),
        ("attempt", 2**31, "attempt is 2147483648, not a whole number"),
        ("ended_at", "noon", "ended_at is wrong: 'noon' is no moment from 1970 to 9999; use seconds since 1970"),
        ("placed_at", 1_800_000_000_000, "placed_at is wrong: 1800000000000 is no moment"),
        ("started_at", float("nan"), "started_at is wrong: nan is no moment"),
        ("claims", ["gpus"], "claims are .'gpus'., not a mapping of at most 256 names to amounts"),
        ("claims", {str(number): 1 for number in range(257)}, "claims are .*, not a mapping of at most 256"),
        ("claims", {"": 1}, "claims name '', not a text of 1 to 128 letters"),
        ("claims", {1: 1}, "claims name 1, not a text"),
        ("claims", {"gpus": "2"}, "claims hold '2' of 'gpus', not a finite number"),
        ("claims", {"gpus": True}, "claims hold True of 'gpus', not a finite number"),
        ("claims", {"gpus": float("inf")}, "claims hold inf of 'gpus', not a finite number"),
        ("claims", {"gpus": float("nan")}, "claims hold nan of 'gpus', not a finite number"),
        ("reasons", ["stale"], "reasons are .'stale'., not a text"),
        ("node", "a", " has the unknown key 'node'; known are request_id, attempt, "),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_its_limit(name: str, value: Any, fault: str) -> None:
    with pytest.raises(InvalidRecord, match=rf"^record 1 of the batch: attempt .* of request .*{fault}") as bad:
        rows([RECORD, {**RECORD, name: value}])

    assert bad.value.index == 1


@pytest.mark.parametrize("name", RECORD)
def test_what_must_be_known_may_not_be_missing(name: str) -> None:
    with pytest.raises(InvalidRecord, match=f"has no {name}"):
        rows([{key: value for key, value in RECORD.items() if key != name}])


@pytest.mark.parametrize("name", ["host", "placed_at", "started_at", "reasons"])
def test_what_may_be_unknown_may_be_missing_or_none(name: str) -> None:
    assert [row[name] for row in rows([RECORD, {**RECORD, name: None}])] == [None, None]


def test_no_claims_are_empty_ones() -> None:
    assert [row["claims"] for row in rows([RECORD, {**RECORD, "claims": None}, {**RECORD, "claims": {}}])] == ["{}"] * 3


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="record 0 of the batch: 7 is no mapping"):
        rows([7])


def test_a_member_of_an_enumeration_is_stored_by_its_value() -> None:
    (row,) = rows([{**RECORD, "outcome": Outcome.DONE}])

    assert type(row["outcome"]) is str
    assert row["outcome"] == "done"


@given(st.text(st.characters(exclude_categories=[]), max_size=20))
def test_a_storable_text_has_neither_nul_nor_half_a_pair(text: str) -> None:
    kept = storable(text)

    assert len(kept) == len(text)
    assert is_storable(kept)
    assert is_storable(text) is (kept == text)


@given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=5), st.integers(-2, 2))
def test_reasons_never_pass_their_limit(letters: str, more: int) -> None:
    reasons = (letters * MAX_REASONS)[: MAX_REASONS + more]

    (row,) = rows([{**RECORD, "reasons": reasons}])

    assert len(row["reasons"]) == min(len(reasons), MAX_REASONS)
    assert is_storable(row["reasons"])


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=128),
        st.integers(-(2**53), 2**53) | st.floats(-(2**53), 2**53),
        max_size=8,
    )
)
def test_claims_come_back_as_they_were(claims: dict[str, float]) -> None:
    (row,) = rows([{**RECORD, "claims": claims}])

    assert json.loads(row["claims"]) == claims


@given(
    st.dictionaries(
        st.sampled_from([*RECORD, "host", "claims", "reasons"]) | st.text(),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary() | st.lists(st.text()),
    )
)
def test_whatever_a_stranger_sends_is_a_row_or_refused(values: dict[str, Any]) -> None:
    with suppress(InvalidRecord):
        (row,) = rows([{**RECORD, **values}])

        assert row["task"]
