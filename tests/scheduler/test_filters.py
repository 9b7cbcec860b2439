"""Filters: each of their noes, and the reason that it gives."""

from typing import Any

import pytest

from scheduler import filters
from scheduler.filters import No
from tests.scheduler.fleets import candidate, request, row, snapshot


@pytest.mark.parametrize("state", ["stale", "draining", "disabled"])
def test_a_host_that_is_not_up_is_out_by_its_state(state: str) -> None:
    assert filters.state(request(), candidate(state=state)) == No(state)
    assert filters.state(request(), candidate()) is None


def test_a_host_that_is_not_named_is_out() -> None:
    assert filters.names(request(only=["b", "c"]), candidate("a")) == No("only b, c")
    assert filters.names(request(only="a"), candidate("a")) is None


def test_a_host_that_is_excluded_is_out_even_if_it_is_named() -> None:
    assert filters.names(request(exclude="a"), candidate("a")) == No("excluded by name")
    assert filters.names(request(only="a", exclude="a"), candidate("a")) == No("excluded by name")
    assert filters.names(request(exclude="b"), candidate("a")) is None


def test_the_same_host_is_the_one_that_all_the_tasks_ran_on() -> None:
    asked = request(same_host=["t8", "t9"], ran={"t8": "a", "t9": "a"})

    assert filters.relations(asked, candidate("a")) is None
    assert filters.relations(asked, candidate("b")) == No("same host as task t8")


def test_nobody_is_the_same_host_as_that_of_a_task_without_one() -> None:
    no = filters.relations(request(same_host="t9"), candidate("a"))

    assert no == No("same host as task t9, which has not been placed")


def test_a_different_host_is_any_that_none_of_the_tasks_ran_on() -> None:
    asked = request(different_host=["t7", "t8", "t9"], ran={"t8": "a", "t9": "b"})

    assert filters.relations(asked, candidate("a")) == No("different host from task t8")
    assert filters.relations(asked, candidate("b")) == No("different host from task t9")
    assert filters.relations(asked, candidate("c")) is None


def test_who_must_stick_goes_home_and_nowhere_else_once_there_is_a_home() -> None:
    asked = {"sticky": "cache", "must_stick": True}

    assert filters.relations(request(**asked, home="a"), candidate("a")) is None
    assert filters.relations(request(**asked, home="a"), candidate("b")) == No("sticks to a")
    assert filters.relations(request(**asked), candidate("b")) is None


def test_who_only_likes_to_stick_may_go_anywhere() -> None:
    assert filters.relations(request(sticky="cache", home="a"), candidate("b")) is None


def test_the_first_clause_that_is_not_met_is_the_reason() -> None:
    asked = request(requires="zone == 'a' and gpu.model in ('A100', 'H100')")

    assert filters.requires(asked, candidate(capabilities={"zone": "a", "gpu.model": "H100"})) is None
    assert filters.requires(asked, candidate(capabilities={"zone": "b", "gpu.model": "H100"})) == No("zone == 'a'")
    assert filters.requires(asked, candidate(capabilities={"zone": "a"})) == No("gpu.model in ('A100', 'H100')")


def test_who_requires_nothing_takes_any_host() -> None:
    assert filters.requires(request(), candidate()) is None


def test_a_host_that_never_has_so_much_is_out_for_good() -> None:
    no = filters.room(request(claims={"gpus": 2}), candidate(capabilities={"gpus": 1.5}))

    assert no == No("gpus >= 2", most_free=1500)
    assert filters.room(request(claims={"gpus": 1}), candidate()) == No("gpus >= 1", most_free=0)


def test_a_host_that_is_full_is_out_for_now() -> None:
    busy = candidate(capabilities={"gpus": 2}, used={"gpus": 1.5})

    assert filters.room(request(claims={"gpus": 1}), busy) == No("gpus >= 1", most_free=500, is_full=True)
    assert filters.room(request(claims={"gpus": 0.5}), busy) is None


def test_a_host_too_small_for_one_claim_is_out_for_good_however_full_it_is_for_another() -> None:
    busy = candidate(capabilities={"cpus": 1, "gpus": 1}, used={"cpus": 1})

    assert filters.room(request(claims={"cpus": 1, "gpus": 2}), busy) == No("gpus >= 2", most_free=1000)


def test_a_host_that_shrank_below_what_is_claimed_of_it_has_no_room() -> None:
    no = filters.room(request(claims={"gpus": 1}), candidate(capabilities={"gpus": 1}, used={"gpus": 3}))

    assert no == No("gpus >= 1", most_free=0, is_full=True)


@pytest.mark.parametrize("value", [True, "8", [8], -8, 0])
def test_nothing_can_be_claimed_of_what_is_no_number_above_nothing(value: Any) -> None:
    no = filters.room(request(claims={"gpus": 1}), candidate(capabilities={"gpus": value}))

    assert no == No("gpus >= 1", most_free=0)


def test_who_claims_no_slot_fits_a_host_without_any() -> None:
    assert filters.room(request(claims={"slots": 0}), candidate(slots=0)) is None
    assert filters.room(request(), candidate(slots=0)) == No("slots >= 1", most_free=0)


def test_a_service_has_room_in_what_its_machine_has_too() -> None:
    rows = [row("a", {"gpus": 1}, slots=4), row("a", {"ports": 2}, service="network", used={"ports": 1})]
    (found,) = snapshot(rows).candidates("network")

    assert filters.room(request(service="network", claims={"ports": 1, "gpus": 1}), found) is None
    assert filters.room(request(service="network", claims={"ports": 2}), found) == No(
        "ports >= 2", most_free=1000, is_full=True
    )
