"""Weighers: which of the hosts that fit is the better one, and by how much."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import weighers
from scheduler.weighers import normalised
from tests.scheduler.fleets import candidate, request, row, snapshot

NOBODY = snapshot([])


def free(asked: Any, **facts: Any) -> float:
    return weighers.free(asked, candidate(**facts), NOBODY)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=9))
def test_weights_come_to_lie_between_nothing_and_one_in_their_order(weights: list[float]) -> None:
    given_out = normalised(weights)

    assert all(0.0 <= weight <= 1.0 for weight in given_out)
    if min(weights) < max(weights):
        assert (given_out[weights.index(min(weights))], given_out[weights.index(max(weights))]) == (0.0, 1.0)
    else:
        assert set(given_out) == {0.0}
    ordered = sorted(range(len(weights)), key=weights.__getitem__)
    assert [given_out[index] for index in ordered] == sorted(given_out)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_weight_that_is_no_number_is_refused_wherever_it_stands(odd: float, place: int) -> None:
    weights = [1.0, 2.0, 3.0]
    weights[place] = odd

    with pytest.raises(ValueError, match="not all finite numbers"):
        normalised(weights)


def test_who_spreads_prefers_the_host_that_has_most_left_once_it_has_taken() -> None:
    assert free(request(), slots=8, used={"slots": 1}) > free(request(), slots=8, used={"slots": 4})
    assert free(request(), slots=8) > free(request(), slots=2)


def test_who_packs_prefers_the_host_that_has_least_left() -> None:
    asked = request(strategy="pack")

    assert free(asked, slots=8, used={"slots": 4}) > free(asked, slots=8, used={"slots": 1})


def test_what_counts_is_the_resource_of_which_least_is_left() -> None:
    asked = request(claims={"gpus": 1})
    full_of_slots = {"capabilities": {"gpus": 4}, "slots": 10, "used": {"slots": 8}}
    full_of_gpus = {"capabilities": {"gpus": 4}, "slots": 10, "used": {"gpus": 2}}

    assert free(asked, **full_of_slots) == pytest.approx(0.1)
    assert free(asked, **full_of_gpus) == pytest.approx(0.25)


def test_who_claims_nothing_finds_all_hosts_equally_free() -> None:
    asked = request(claims={"slots": 0})

    assert free(asked, slots=8) == free(asked, slots=8, used={"slots": 8}) == free(asked, slots=0) == 0.0


def test_wishes_that_are_met_count_by_their_weights_against_them_too() -> None:
    asked = request(prefers={"zone == 'a'": 10, "ssd": 3, "load > 5": -4})

    def met(**capabilities: Any) -> float:
        return weighers.prefers(asked, candidate(capabilities=capabilities), NOBODY)

    assert [met(), met(zone="a"), met(zone="a", ssd=True), met(zone="a", load=9), met(load=9)] == [0, 10, 13, 6, -4]


def test_home_is_the_host_that_the_same_name_was_last_placed_on() -> None:
    asked = request(sticky="cache", home="a")

    assert weighers.sticky(asked, candidate("a"), NOBODY) > weighers.sticky(asked, candidate("b"), NOBODY)
    assert weighers.sticky(request(), candidate("a"), NOBODY) == 0.0


def test_two_failures_are_nobodys_fault_and_more_are_the_hosts() -> None:
    def reliable(failures: int) -> float:
        return weighers.reliable(request(), candidate("a", failures=failures), NOBODY)

    assert reliable(0) == reliable(1) == reliable(2) > reliable(3) > reliable(9)


def test_a_host_that_did_not_begin_this_request_is_worse_than_any_that_failed_others() -> None:
    asked = request(avoided=("a", "b", "b"))

    def reliable(host: str, failures: int = 0) -> float:
        return weighers.reliable(asked, candidate(host, failures=failures), NOBODY)

    assert reliable("c", failures=500) > reliable("a") > reliable("b")


FLEET = snapshot([row("a", {"gpus": 4, "ssd": True}), row("b", {"ssd": True}), row("c", {"gpus": 0}), row("d")])


def plain(asked: Any, host: str) -> float:
    (found,) = (one for one in FLEET.candidates("host") if one.host == host)
    return weighers.plain(asked, found, FLEET)


def test_a_host_that_has_what_few_have_is_kept_for_who_asks_for_it() -> None:
    assert plain(request(), "a") < plain(request(), "b") < plain(request(), "d") == 0.0


@pytest.mark.parametrize(
    "options",
    [{"requires": "gpus > 0"}, {"claims": {"gpus": 1}}, {"prefers": {"has(gpus)": 1}}, {"requires": "not gpus"}],
)
def test_who_names_what_is_scarce_is_not_kept_from_it(options: dict[str, Any]) -> None:
    assert plain(request(**options), "a") == plain(request(), "b")


def test_a_host_that_has_none_of_what_is_scarce_is_not_special() -> None:
    assert plain(request(), "c") == plain(request(), "d")


def test_what_most_hosts_have_is_not_scarce() -> None:
    assert weighers.SCARCE == 0.5
    assert FLEET.shares["slots"] == 1.0
    assert plain(request(claims={"slots": 0}), "d") == 0.0
