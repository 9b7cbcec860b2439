"""The doctor's judgement of a fleet, without a server."""

from typing import Any

import pytest

from scheduler.hosts import Host, Identity, Readiness
from workers.console import fleet_checks, server_checks
from workers.console.probes import Placing, TableFacts

NOW = 1_800_000_000.0
READY = Readiness(ready=True)


def row(
    host: str = "a",
    service: str = "host",
    *,
    seen: float = 1,
    reported: float | None = 1,
    state: str = "up",
    joined: float = 900,
) -> Host:
    identity = Identity(host, "box", 1, 1.0, "0.1.0", 10.0, 60.0, 1, NOW - joined)
    return Host(service, host, state, (), seen, reported, {}, identity)


def facts(*rows: Host, readiness: Readiness = READY, **given: Any) -> TableFacts:
    known: dict[str, Any] = {"counters": {}, "now": NOW, "ahead": 0.0, "latency": 0.001, "info": {"role": "master"}}
    return TableFacts(list(rows), readiness, **{**known, **given})


@pytest.mark.parametrize(
    ("age", "status"), [(1, "ok"), (89, "ok"), (100, "warning"), (179, "warning"), (181, "failed")]
)
def test_the_newest_report_tells_how_beat_is(age: float, status: str) -> None:
    rows = [row("s", "scheduler", reported=500), row("a", reported=age), row("dead", seen=31, reported=0)]

    assert fleet_checks.beat(facts(*rows), backlog=False).status == status


def test_a_host_that_never_reported_is_counted_from_its_start() -> None:
    scheduler = row("s", "scheduler", reported=None, joined=200)

    assert fleet_checks.beat(facts(scheduler, row(reported=None, joined=30)), backlog=False).status == "ok"
    assert fleet_checks.beat(facts(scheduler, row(reported=None, joined=200)), backlog=False).status == "failed"


@pytest.mark.parametrize(
    ("rows", "backlog"), [([row(reported=500)], False), ([row("s", "scheduler", reported=500)], True)]
)
def test_beat_is_not_blamed_for_a_scheduler_that_takes_no_reports(rows: list[Host], *, backlog: bool) -> None:
    check = fleet_checks.beat(facts(*rows), backlog=backlog)

    assert check.status == "warning"
    assert "no scheduler takes reports" in check.found


def test_a_scheduler_that_fell_silent_is_named() -> None:
    check = fleet_checks.scheduler(facts(row("s-1", "scheduler", seen=31)))

    assert check.status == "failed"
    assert "s-1 fell silent" in check.found


def test_live_schedulers_are_counted_even_if_no_beat_ticks_them() -> None:
    check = fleet_checks.scheduler(facts(row("s-1", "scheduler", reported=999, state="stale"), row("s-2", "scheduler")))

    assert (check.status, check.found) == ("ok", "2 live: s-1, s-2")


@pytest.mark.parametrize(
    ("states", "status"),
    [((), "failed"), (("up",), "ok"), (("up", "stale"), "warning"), (("stale",), "failed"), (("disabled",), "failed")],
)
def test_a_fleet_needs_one_host_that_is_up(states: tuple[str, ...], status: str) -> None:
    rows = [row(f"h-{number}", state=state) for number, state in enumerate(states)]

    check = fleet_checks.hosts([*rows, row("s", "scheduler")], READY, [])

    assert check.status == status
    assert bool(check.advice) == (status != "ok")


@pytest.mark.parametrize(
    ("ahead", "latency", "status"),
    [(0.2, 0.001, "ok"), (-0.2, 0.001, "ok"), (5.0, 0.001, "warning"), (-5.0, 0.001, "warning"), (3.0, 2.5, "ok")],
)
def test_a_clock_is_wrong_only_by_more_than_the_round_trip_explains(ahead: float, latency: float, status: str) -> None:
    check = server_checks.clock(facts(ahead=ahead, latency=latency))

    assert check.status == status
    assert ("ahead of" if ahead > 0 else "behind") in check.found


@pytest.mark.parametrize(
    ("info", "status"),
    [
        ({"role": "slave"}, "failed"),
        ({"role": "master", "rdb_last_bgsave_status": "err"}, "failed"),
        ({"role": "master", "aof_last_write_status": "err"}, "failed"),
        ({"role": "master", "aof_enabled": 1, "maxmemory_policy": "noeviction"}, "ok"),
        ({}, "ok"),
    ],
)
def test_a_redis_that_takes_no_writes_fails(info: dict[str, Any], status: str) -> None:
    assert server_checks.table(facts(info=info), "redis://h").status == status


def test_a_slow_table_is_a_warning() -> None:
    assert server_checks.table(facts(latency=0.5), "redis://h").status == "warning"


@pytest.mark.parametrize(
    ("placing", "counted", "status", "advice"),
    [
        (Placing(), {"requests_placed_by_sweep": 3}, "ok", ""),
        (Placing(waiting=7, oldest_seconds=59), {}, "ok", ""),
        (Placing(waiting=7, oldest_seconds=61), {}, "warning", "celeriac pending"),
        (Placing(overdue=1), {}, "failed", "start one"),
        (Placing(unwritten=1001), {}, "warning", "history"),
        (Placing(), {"history_dropped": 1}, "warning", "1 ends are lost"),
        (Placing(), {"claims_repaired": 1}, "warning", "miscounted"),
    ],
)
def test_placement_is_judged_by_what_waits_where_it_should_not(
    placing: Placing, counted: dict[str, int], status: str, advice: str
) -> None:
    check = fleet_checks.placement(facts(placing=placing, counters=counted))

    assert check.status == status
    assert advice in check.advice
    assert bool(check.advice) == (status != "ok")
