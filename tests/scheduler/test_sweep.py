"""The sweep places what no event woke, and counts it: a number above 0 means that a wake-up was missed."""

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.claims import Claim
from scheduler.hosts import member_of
from scheduler.placer import SWEEP, Placer
from scheduler.requests import Request
from scheduler.table import Table


@pytest.fixture
def hosts(table: Table, joined: Callable[..., Any], clock: Any) -> Callable[[], None]:
    """Hosts a and b, of which b is disabled; call it to have both say that they live."""
    lives = [joined(host, services=("host",)) for host in "ab"]

    def live() -> None:
        for life in lives:
            life.beat()
            life.report({"slots": 1})

    live()
    clock.advance(15)
    live()
    table.disable(member_of("host", "b"), "for the test")
    return live


def wait_for(placer: Placer, host: str) -> None:
    """Record a request that only *host* may have."""
    request = Request(id=host, task_id=host, task="work", service="host", only=(host,), claims={"slots": 1000})
    placer.notice(placer.pending.submit([(request, {"body": ""})]))


def enable_unheard(table: Table) -> None:
    """Enable b, and lose the event."""
    table.redis.hdel(table.key("disabled"), member_of("host", "b"))


def test_what_only_the_sweep_found_is_counted(table: Table, clock: Any, hosts: Callable[[], None]) -> None:
    sent: list[str] = []
    placer = Placer(table, dispatch=lambda claim, _: sent.append(claim.host))
    wait_for(placer, "b")
    placer.turn(is_anything_new=True)
    enable_unheard(table)

    clock.advance(SWEEP)
    hosts()
    placer.turn(is_anything_new=False)

    assert sent == ["b"]
    assert table.counters()["requests_placed_by_sweep"] == 1


def test_what_happens_while_everything_is_looked_at_is_left_to_its_own_event(
    table: Table, clock: Any, hosts: Callable[[], None]
) -> None:
    sent: list[str] = []

    def dispatch(claim: Claim, _: Any) -> None:
        sent.append(claim.host)
        enable_unheard(table)

    placer = Placer(table, dispatch=dispatch)
    placer.turn(is_anything_new=True)
    clock.advance(SWEEP)
    hosts()
    wait_for(placer, "b")
    wait_for(placer, "a")

    placer.turn(is_anything_new=True)

    assert sent == ["a"]
    placer.turn(is_anything_new=True)
    assert sent == ["a", "b"]
    assert "requests_placed_by_sweep" not in table.counters()
