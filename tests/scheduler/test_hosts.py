"""What can be said of hosts is decided by pure functions of what the table holds and the moment."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.hosts import Host, Identity, aggregate, member_of, readiness, split_member

NOW = 1_800_000_000.0
IDENTITY = Identity(
    instance="i",
    machine="vm",
    pid=1,
    pid_started=2.5,
    version="0.1.0",
    heartbeat_interval=10,
    interval=60,
    boot=7,
    joined_at=NOW - 100,
)


def host(capabilities: dict[str, Any], name: str = "a", service: str = "volume", **changes: Any) -> Host:
    known: dict[str, Any] = {
        "identity": IDENTITY,
        "stale_at": NOW + 25,
        "report": {"sequence": 1, "at": NOW - 4, "interval": 60},
        "disabled": None,
        "draining": None,
        "now": NOW,
    }
    return Host.of(service, name, capabilities=capabilities, **{**known, **changes})


@given(
    st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,63}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True),
)
def test_a_member_names_its_service_and_host(service: str, name: str) -> None:
    assert split_member(member_of(service, name)) == (service, name)


def test_an_identity_is_read_back_and_keys_of_a_newer_version_are_passed_over() -> None:
    assert Identity.from_json(IDENTITY.to_json()) == IDENTITY
    assert Identity.from_json(json.dumps({**json.loads(IDENTITY.to_json()), "zone": "a"})) == IDENTITY


def test_a_live_host_is_up_and_says_when_it_was_last_heard() -> None:
    found = host({"gb": 1})

    assert (found.state, found.reasons) == ("up", ())
    assert (found.seen_seconds_ago, found.reported_seconds_ago) == (5, 4)


def test_a_clock_that_fell_back_shows_no_negative_age() -> None:
    found = host({}, now=NOW - 50)

    assert (found.seen_seconds_ago, found.reported_seconds_ago) == (0, 0)
    assert found.state == "up"


def test_only_claimable_numbers_have_a_total_and_a_free_amount() -> None:
    found = host({"slots": 4, "cpus": 7.5, "gpus": True, "memory_mb": "much", "load_1m": 3})

    assert found.total == found.free == {"slots": 4, "cpus": 7.5}


def test_the_json_shape_of_a_row_is_what_the_command_line_promises() -> None:
    assert json.loads(json.dumps(host({"slots": 4, "zone": "a"}).to_dict())) == {
        "service": "volume",
        "host": "a",
        "state": "up",
        "reasons": [],
        "seen_seconds_ago": 5,
        "reported_seconds_ago": 4,
        "capabilities": {"slots": 4, "zone": "a"},
        "total": {"slots": 4},
        "free": {"slots": 4},
    }


def test_one_host_is_both_the_least_and_the_most() -> None:
    assert aggregate([host({"gb": 3, "zone": "a", "ssd": True})]) == {
        "volume.gb": (3, 3),
        "volume.ssd": (True, True),
        "volume.zone": ("a", "a"),
    }


def test_numbers_are_compared_with_numbers_and_texts_with_texts() -> None:
    hosts = [host({"gb": 3, "zone": "b"}), host({"gb": 2.5, "zone": "a"}), host({"gb": True, "zone": "c"})]

    assert aggregate(hosts) == {"volume.gb": (True, 3), "volume.zone": ("a", "c")}


def test_what_has_no_order_is_left_out() -> None:
    hosts = [
        host({"mixed": 3, "models": ["a"], "sometimes": 1, "gb": 1}),
        host({"mixed": "3", "models": ["b"], "sometimes": [1], "gb": 2}),
    ]

    assert aggregate(hosts) == {"volume.gb": (1, 2)}


def test_only_hosts_that_are_up_count() -> None:
    hosts = [
        host({"gb": 5}),
        host({"gb": 1}, disabled="disk errors"),
        host({"gb": 2}, draining="stopping"),
        host({"gb": 9}, stale_at=NOW),
        host({"only": 1}, stale_at=NOW - 1),
    ]

    assert aggregate(hosts) == {"volume.gb": (5, 5)}


def test_services_are_told_apart_and_the_keys_sorted() -> None:
    hosts = [host({"b": 1, "a": 1}, service="volume"), host({"a": 2}, service="network")]

    assert list(aggregate(hosts)) == ["network.a", "volume.a", "volume.b"]
    assert aggregate([]) == {}


def test_a_table_without_a_first_join_is_not_ready_whatever_the_time() -> None:
    assert not readiness([], since=None, now=NOW).ready


@pytest.mark.parametrize(("age", "ready"), [(0, False), (9.9, False), (10, False), (59.9, False), (60, True)])
def test_a_silent_host_is_waited_for_one_interval_after_the_first_join(age: float, ready: bool) -> None:  # noqa: FBT001
    silent = host({}, report=None)

    assert readiness([silent], since=NOW - age, now=NOW).ready is ready


@pytest.mark.parametrize(("age", "ready"), [(9.9, False), (10, True)])
def test_other_hosts_are_waited_for_one_heartbeat_after_the_first_join(age: float, ready: bool) -> None:  # noqa: FBT001
    assert readiness([host({})], since=NOW - age, now=NOW).ready is ready
