"""Amounts: thousandths on the way in, what people said on the way out, and never a little more than there is."""

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.amounts import MOST, amounts, quantity, totals
from scheduler.errors import InvalidPlacement


def test_every_task_claims_a_slot_unless_it_says_otherwise() -> None:
    assert amounts(None) == amounts({}) == {"slots": 1000}
    assert amounts({"gpus": 2}) == {"gpus": 2000, "slots": 1000}
    assert amounts({"slots": 0.5}) == {"slots": 500}


def test_a_resource_of_which_nothing_is_claimed_is_left_out() -> None:
    assert amounts({"slots": 0}) == {}
    assert amounts({"slots": 0.0, "gpus": 0, "cpus": 1}) == {"cpus": 1000}


def test_amounts_are_in_one_order_whatever_the_callers_was() -> None:
    assert list(amounts({"z": 1, "a": 1})) == list(amounts({"a": 1, "z": 1})) == ["a", "slots", "z"]


@pytest.mark.parametrize(("value", "thousandths"), [(0.1 + 0.2, 300), (1.001, 1001), (0.001, 1), (0.57, 570)])
def test_a_sum_that_is_off_by_a_hair_is_what_was_meant(value: float, thousandths: int) -> None:
    assert amounts({"gpus": value})["gpus"] == thousandths


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ("gpus", r"claims are 'gpus'; write a dict such as \{'memory_mb': 4096\}"),
        ([("gpus", 1)], "write a dict"),
        ({"gpus": -1}, f"claims ask for gpus = -1; an amount is a number from 0 to {MOST}"),
        ({"gpus": True}, "gpus = True; an amount is a number"),
        ({"gpus": "2"}, "gpus = '2'; an amount is a number"),
        ({"gpus": None}, "gpus = None; an amount is a number"),
        ({"gpus": Decimal(1)}, "an amount is a number"),
        ({"gpus": math.nan}, "gpus = nan; an amount is a number"),
        ({"gpus": math.inf}, "gpus = inf; an amount is a number"),
        ({"gpus": MOST + 1}, f"gpus = {MOST + 1}; an amount is a number"),
        ({"gpus": 10**400}, "an amount is a number"),
        ({"gpus": 0.0001}, "claims ask for gpus = 0.0001; amounts have three decimals at most"),
        ({"gpus": 1.0005}, "three decimals at most"),
        ({7: 1}, "claims name 7; a resource is a capability's name, such as 'gpus'"),
        ({"": 1}, "claims name ''"),
        ({"x" * 129: 1}, "a resource is a capability's name"),
        ({None: 1, "gpus": 1}, "claims name None"),
    ],
)
def test_what_cannot_be_claimed_is_refused_by_name_with_what_may_be(claims: Any, said: str) -> None:
    with pytest.raises(InvalidPlacement, match=said):
        amounts(claims)


def test_the_most_of_one_resource_can_be_claimed_and_offered() -> None:
    assert amounts({"bytes": MOST})["bytes"] == totals({"bytes": MOST})["bytes"] == MOST * 1000
    assert totals({"bytes": 2.0**53}) == {"bytes": MOST * 1000}


def test_only_numbers_above_nothing_can_be_claimed_of_a_host() -> None:
    reported = {"gpus": 2, "cpus": 1.5, "ssd": True, "zone": "a", "ids": [1], "left": 0, "debt": -1}

    assert totals(reported) == {"gpus": 2000, "cpus": 1500}


def test_a_total_is_rounded_down() -> None:
    assert totals({"cpus": 1.9999}) == {"cpus": 1999}


@given(st.integers(1, 10**7))
def test_a_host_that_reports_an_amount_has_room_for_just_that(thousandths: int) -> None:
    value = thousandths / 1000

    assert totals({"cpus": value})["cpus"] == amounts({"cpus": value})["cpus"] == thousandths
    assert quantity(thousandths) == value


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_what_was_withdrawn_in_parts_adds_up_again(parts: list[int]) -> None:
    withdrawn = sum(amounts({"cpus": part / 1000})["cpus"] for part in parts)

    assert withdrawn == sum(parts)


def test_whole_quantities_are_told_whole() -> None:
    assert (repr(quantity(2000)), repr(quantity(1500)), repr(quantity(0))) == ("2", "1.5", "0")
