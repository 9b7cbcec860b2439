"""Who would take a message now: what a sender asks before it sends."""

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.connections import connect
from scheduler.table import Table

Lives = Callable[..., Any]


@pytest.fixture
def up(joined: Lives, clock: Any) -> Lives:
    """Make a life that has joined, reported and seen the time pass in which others may join."""

    def make(*hosts: str, **options: Any) -> list[Any]:
        lives = [joined(host, **options) for host in hosts]
        for one in lives:
            one.report({})
        clock.advance(10)
        for one in lives:
            assert one.beat() == "ok"
        return lives

    return make


def emptied(table: Table) -> None:
    table.redis.delete(*table.redis.keys(f"{table._prefix}*"))


def test_a_host_that_is_up_is_present_and_not_absent(table: Table, up: Lives) -> None:
    up("a", "b", services=("volume", "network"))

    assert table.present("volume") == {"a": True, "b": True}
    assert table.absence("volume/a") is None


def test_the_hosts_of_a_service_are_those_that_run_it(table: Table, up: Lives) -> None:
    up("a", services=("volume",))
    up("b.c", services=("network",))

    assert table.present("network") == {"b.c": True}
    assert table.present("zone") == {}
    assert table.absence("network/a") == "the capability table knows no such host"


@pytest.mark.parametrize(("heartbeat", "seconds"), [(10.0, 30), (2.0, 6)])
def test_a_host_is_absent_from_the_moment_that_it_missed_three_heartbeats(
    table: Table, up: Lives, clock: Any, heartbeat: float, seconds: float
) -> None:
    (one,) = up("a", heartbeat=heartbeat)

    clock.advance(seconds - 0.001)
    assert (table.present("volume"), table.absence("volume/a")) == ({"a": True}, None)
    clock.advance(0.001)
    assert table.present("volume") == {"a": False}
    assert table.absence("volume/a") == "it missed 3 heartbeats and is stale since 0.0 s"
    clock.advance(1.5)
    assert table.absence("volume/a") == "it missed 3 heartbeats and is stale since 1.5 s"

    one.beat()
    assert (table.present("volume"), table.absence("volume/a")) == ({"a": True}, None)


def test_a_draining_host_says_why_it_takes_nothing(table: Table, up: Lives) -> None:
    one, _ = up("a", "b")

    one.drain("its worker is stopping")

    assert table.present("volume") == {"a": False, "b": True}
    assert table.absence("volume/a") == "it is draining: its worker is stopping"
    assert table.absence("volume/b") is None


def test_a_disabled_host_takes_what_is_sent_to_it_by_name(table: Table, up: Lives) -> None:
    up("a")

    table.disable("volume/a", "new disk")

    assert (table.present("volume"), table.absence("volume/a")) == ({"a": True}, None)


def test_a_host_that_left_or_was_pruned_is_unknown(table: Table, up: Lives, clock: Any) -> None:
    one, _ = up("a", "b")
    one.leave()
    assert table.present("volume") == {"b": True}
    assert table.absence("volume/a") == "the capability table knows no such host"

    clock.advance(60.1)
    table.prune()

    assert table.present("volume") == {}
    assert table.absence("volume/b") == "the capability table knows no such host"


def test_an_emptied_table_calls_nobody_absent_and_can_not_say_who_is_present(table: Table, up: Lives) -> None:
    assert (table.present("volume"), table.absence("volume/a")) == (None, None)
    up("a", "b")

    emptied(table)

    assert (table.present("volume"), table.absence("volume/a")) == (None, None)


def test_a_half_filled_table_waits_one_heartbeat_for_the_others(table: Table, up: Lives, clock: Any) -> None:
    one, other = up("a", "b")
    emptied(table)
    one.join()
    one.report({})

    clock.advance(9.9)
    assert (table.present("volume"), table.absence("volume/b")) == (None, None)
    assert table.absence("volume/a") is None
    other.join()
    clock.advance(0.1)

    assert table.present("volume") == {"a": True, "b": True}


def test_senders_go_by_the_servers_clock(table: Table, table_url: str, joined: Lives) -> None:
    joined("a")
    fleet = table._prefix.split("{")[1].split("}")[0]
    client: Any = connect(table_url)
    elsewhere = Table(client, fleet=fleet)
    seconds, _ = client.time()
    client.zadd(elsewhere.key("presence"), {"volume/a": seconds + 30, "volume/b": seconds - 30})
    client.set(elsewhere.key("since"), seconds - 1000)

    assert elsewhere.present("volume") == {"a": True, "b": False}
    assert elsewhere.absence("volume/a") is None
    assert "stale since 3" in str(elsewhere.absence("volume/b"))
    client.close()
