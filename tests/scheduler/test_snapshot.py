"""Candidates: a host as the requests for one of its services see it."""

from scheduler.amounts import amounts
from tests.scheduler.fleets import request, row, snapshot


def test_only_the_hosts_of_the_service_are_candidates() -> None:
    rows = [row("a"), row("b"), row("b", service="volume"), row("c", service="volume")]

    assert [one.host for one in snapshot(rows).candidates("host")] == ["a", "b"]
    assert [one.host for one in snapshot(rows).candidates("volume")] == ["b", "c"]
    assert snapshot(rows).candidates("nothing") == []


def test_a_service_sees_what_its_machine_can_do_beneath_what_it_says_itself() -> None:
    rows = [row("a", {"zone": "x", "gb": 1}, slots=4), row("a", {"gb": 9, "ssd": True}, service="volume")]

    (found,) = snapshot(rows).candidates("volume")

    assert found.capabilities == {"slots": 4, "zone": "x", "gb": 9, "ssd": True}
    assert found.owners == {"slots": "host/a", "gb": "volume/a"}
    assert found.total == {"slots": 4000, "gb": 9000}
    assert found.changed == {"host/a": 3, "volume/a": 3}


def test_a_machine_does_not_see_what_its_services_can_do() -> None:
    (found,) = snapshot([row("a"), row("a", {"gb": 9}, service="volume")]).candidates("host")

    assert found.capabilities == {"slots": 8}
    assert found.changed == {"host/a": 3}


def test_a_service_whose_machine_is_unknown_stands_alone() -> None:
    (found,) = snapshot([row("b"), row("a", {"gb": 9}, service="volume")]).candidates("volume")

    assert found.capabilities == {"gb": 9}


def test_what_is_used_is_counted_at_the_member_that_has_it() -> None:
    rows = [row("a", {"gb": 1}, used={"slots": 3, "gb": 1}), row("a", {"gb": 9}, service="volume", used={"gb": 2})]

    (found,) = snapshot(rows).candidates("volume")

    assert (found.free("slots"), found.free("gb"), found.free("gpus")) == (5000, 7000, 0)


def test_claims_are_sorted_by_the_member_that_has_the_resource() -> None:
    (found,) = snapshot([row("a"), row("a", {"gb": 9}, service="volume")]).candidates("volume")

    assert found.amounts(amounts({"gb": 2})) == {"host/a": {"slots": 1000}, "volume/a": {"gb": 2000}}


def test_what_was_claimed_since_is_no_longer_free() -> None:
    seen = snapshot([row("a", slots=2)])
    (found,) = seen.candidates("host")

    found.withdraw(request().claims)
    assert seen.candidates("host")[0].free("slots") == 1000
    assert found.has_free(request().claims)
    found.withdraw(request().claims)
    assert not found.has_free(request().claims)


def test_a_capability_is_as_common_as_the_hosts_that_have_something_of_it() -> None:
    rows = [
        row("a", {"gpus": 2, "ssd": True, "tags": []}),
        row("b", {"gpus": 0, "ssd": False, "tags": ["x"]}),
        row("c", {"zone": "z"}),
        row("d", slots=0),
    ]

    assert snapshot(rows).shares == {"slots": 0.75, "gpus": 0.25, "ssd": 0.25, "tags": 0.25, "zone": 0.25}


def test_a_host_counts_once_however_many_of_its_services_have_a_capability() -> None:
    rows = [row("a", {"gb": 1}), row("a", {"gb": 1}, service="volume"), row("b")]

    assert snapshot(rows).shares["gb"] == 0.5
