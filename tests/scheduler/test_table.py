"""The capability table keeps its promises on every Redis it may live in."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.connections import connect
from scheduler.errors import HostNotFound
from scheduler.hosts import Host, Joined, Refusal
from scheduler.table import Table

Lives = Callable[..., Any]


def row(table: Table, member: str = "volume/a") -> Host | None:
    """Return the row of *member*, None if there is none."""
    return next((host for host in table.hosts() if f"{host.service}/{host.host}" == member), None)


def state(table: Table, member: str = "volume/a") -> str | None:
    found = row(table, member)
    return None if found is None else found.state


# Names: join, heartbeat, leave


def test_joining_takes_all_names_at_once(table: Table, life: Lives, clock: Any) -> None:
    answer = life("a", services=("volume", "network")).join()

    assert isinstance(answer, Joined)
    assert answer.now == clock.now
    assert [(host.service, host.host, host.state) for host in table.hosts()] == [
        ("network", "a", "up"),
        ("volume", "a", "up"),
    ]


def test_a_second_live_worker_is_refused_and_told_who_holds_the_name(table: Table, life: Lives, joined: Lives) -> None:
    first = joined("a")

    answer = life("a").join()

    assert isinstance(answer, Refusal)
    assert answer.member == "volume/a"
    assert answer.holder.instance == first.identity.instance
    assert (answer.holder.pid, answer.holder.machine) == (first.identity.pid, "vm")
    assert answer.stale_in == pytest.approx(30)


def test_who_is_refused_one_name_takes_none(table: Table, life: Lives, joined: Lives) -> None:
    first = joined("a", services=("volume",))

    assert isinstance(life("a", services=("network", "volume", "zone")).join(), Refusal)

    assert [host.service for host in table.hosts()] == ["volume"]
    assert first.beat() == "ok"


def test_hosts_of_other_names_do_not_disturb_each_other(joined: Lives) -> None:
    lives = [joined("a"), joined("b"), joined("a", services=("network",))]

    assert [one.beat() for one in lives] == ["ok"] * 3


def test_a_silent_name_is_taken_once_it_is_stale_and_not_before(
    table: Table, life: Lives, joined: Lives, clock: Any
) -> None:
    joined("a")
    second = life("a")

    clock.advance(29.999)
    assert isinstance(second.join(), Refusal)

    clock.advance(0.001)
    assert isinstance(second.join(), Joined)
    assert second.beat() == "ok"


def test_each_heartbeat_keeps_the_name_for_three_more(life: Lives, joined: Lives, clock: Any) -> None:
    first, second = joined("a"), life("a")

    for _ in range(5):
        clock.advance(29)
        assert first.beat() == "ok"
        answer = second.join()
        assert isinstance(answer, Refusal)
        assert answer.stale_in == pytest.approx(30)


def test_the_names_of_dead_instances_are_taken_at_once(table: Table, life: Lives, joined: Lives) -> None:
    one, other = joined("a", services=("volume",)), joined("a", services=("network",))
    second = life("a", services=("volume", "network"))

    assert isinstance(second.join(one.identity.instance), Refusal)
    assert isinstance(second.join(one.identity.instance, other.identity.instance), Joined)

    assert one.beat() == other.beat() == "replaced"


def test_naming_a_dead_instance_does_not_free_the_names_of_a_live_one(life: Lives, joined: Lives) -> None:
    joined("a")

    assert isinstance(life("a").join("somebody-else"), Refusal)


def test_every_life_has_a_higher_boot_number_even_within_a_millisecond_or_after_the_clock_fell_back(
    life: Lives, joined: Lives, clock: Any
) -> None:
    first = joined("a")
    second = life("a")
    second.join(first.identity.instance)
    clock.advance(-3600)
    third = life("a")
    third.join(second.identity.instance)

    assert first.boot < second.boot < third.boot


def test_joining_again_keeps_the_boot_number_and_the_row(table: Table, joined: Lives, clock: Any) -> None:
    first = joined("a")
    first.report({"gb": 1})
    boot = first.boot
    clock.advance(5)

    answer = first.join()

    assert isinstance(answer, Joined)
    assert answer.boot == boot
    assert row(table).capabilities == {"gb": 1}  # type: ignore[union-attr]


def test_a_heartbeat_of_nobody_known_is_answered_unknown(table: Table, life: Lives, joined: Lives) -> None:
    assert life("a").beat() == "unknown"
    first = joined("a")
    first.services = ("volume", "network")

    assert first.beat() == "unknown"
    assert state(table, "network/a") is None
    assert table.redis.zrange(f"{table._prefix}presence", 0, -1) == ["volume/a"]


def test_a_heartbeat_of_a_replaced_worker_is_answered_so_and_changes_nothing(
    table: Table, life: Lives, joined: Lives, clock: Any
) -> None:
    frozen = joined("a")
    clock.advance(31)
    second = life("a")
    second.join()
    clock.advance(31)

    assert frozen.beat() == "replaced"
    assert state(table) == "stale"


def test_being_replaced_in_one_name_outweighs_being_forgotten_in_another(
    life: Lives, joined: Lives, clock: Any
) -> None:
    frozen = joined("a", services=("volume", "network"))
    clock.advance(31)
    life("a", services=("network",)).join()
    frozen.services = ("unheard-of", "network")

    assert frozen.beat() == "replaced"


def test_leaving_removes_the_row_at_once_and_whole(table: Table, joined: Lives) -> None:
    first = joined("a", services=("volume", "network"))
    first.report({"gb": 1})
    first.drain("its worker is stopping")

    assert first.leave() == 2

    assert table.hosts() == []
    again = joined("a", services=("volume",))
    assert row(table).capabilities == {}  # type: ignore[union-attr]
    assert (state(table), again.beat()) == ("up", "ok")


def test_only_the_holder_can_leave_or_drain(table: Table, life: Lives, joined: Lives, clock: Any) -> None:
    frozen = joined("a")
    clock.advance(31)
    second = life("a")
    second.join()

    assert frozen.leave() == 0
    assert frozen.drain("its worker is stopping") == 0

    assert (state(table), second.beat()) == ("up", "ok")


def test_leaving_twice_is_harmless(joined: Lives) -> None:
    first = joined("a")

    assert (first.leave(), first.leave()) == (1, 0)


# Reports


def test_a_report_becomes_a_row(table: Table, joined: Lives, clock: Any) -> None:
    first = joined("a", services=("volume", "network"))
    clock.advance(7)

    assert first.report({"gb": 1.5, "zone": "a", "ssd": True, "models": ["x", 2]}) == ["stored", "stored"]

    clock.advance(2)
    found = row(table)
    assert found is not None
    assert found.capabilities == {"gb": 1.5, "zone": "a", "ssd": True, "models": ["x", 2]}
    assert (found.seen_seconds_ago, found.reported_seconds_ago) == (9, 2)


def test_a_report_replaces_the_whole_set_and_none_changes_nothing(table: Table, joined: Lives) -> None:
    first = joined("a")
    seen = []
    for capabilities in ({"gb": 1, "zone": "a"}, {"gb": 2}, {}, {"gb": 3}, None):
        assert first.report(capabilities) == ["stored"]
        seen.append(row(table).capabilities)  # type: ignore[union-attr]

    assert seen == [{"gb": 1, "zone": "a"}, {"gb": 2}, {}, {"gb": 3}, {"gb": 3}]


def test_reports_of_many_hosts_are_stored_in_one_round_trip(table: Table, joined: Lives, monkeypatch: Any) -> None:
    reports = [joined(f"h{number}").say({"gb": number}) for number in range(50)]
    calls = []
    script = table._scripts["report"]
    monkeypatch.setitem(table._scripts, "report", lambda **options: calls.append(1) or script(**options))

    told = table.store(iter(reports))

    assert [(report.host, word) for report, _, word in told] == [(f"h{number}", "stored") for number in range(50)]
    assert calls == [1]
    assert table.aggregate() == {"volume.gb": (0, 49)}


def test_storing_nothing_asks_nobody(table: Table) -> None:
    assert table.store([]) == []


def test_a_late_or_repeated_report_changes_nothing(table: Table, joined: Lives, clock: Any) -> None:
    first = joined("a")
    early, late = first.say({"gb": 1}), first.say({"gb": 2})
    table.store([late])
    clock.advance(5)

    assert [word for _, _, word in table.store([early, late, early])] == ["old"] * 3

    found = row(table)
    assert found is not None
    assert (found.capabilities, found.reported_seconds_ago) == ({"gb": 2}, 5)


def test_sequences_are_told_apart_up_to_the_largest(table: Table, joined: Lives) -> None:
    first = joined("a")

    assert first.report({"gb": 1}, sequence=2**53 - 1) == ["stored"]
    assert first.report({"gb": 2}, sequence=2**53 - 1) == ["old"]
    assert first.report({"gb": 3}, sequence=2**53) == ["stored"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_in_whatever_order_reports_arrive_the_newest_of_the_current_boot_wins(
    table: Table, life: Lives, data: st.DataObject
) -> None:
    host = f"h{uuid.uuid4().hex}"
    old, new = life(host), life(host)
    old.join()
    reports = [old.say({"from": "old", "n": number}) for number in range(3)]
    arrived_before = data.draw(st.lists(st.sampled_from(reports), max_size=3))
    table.store(arrived_before)
    new.join(old.identity.instance)
    reports += [new.say(data.draw(st.sampled_from([{"from": "new", "n": number}, {}, None]))) for number in range(4)]
    arriving = data.draw(st.permutations(reports)) + data.draw(st.lists(st.sampled_from(reports), max_size=5))
    batches = data.draw(st.sampled_from([1, 3, 99]))

    for start in range(0, len(arriving), batches):
        table.store(arriving[start : start + batches])

    found = row(table, f"volume/{host}")
    assert found is not None
    said = [report.services["volume"] for report in reports[3:]]
    assert found.capabilities == next((known for known in reversed(said) if known is not None), {})
    assert found.reported_seconds_ago is not None


def test_a_report_of_nobody_is_unknown_and_makes_no_row(table: Table, life: Lives) -> None:
    assert life("a").report({"gb": 1}, boot=5) == ["unknown"]

    assert table.hosts() == []


def test_a_report_of_a_boot_that_never_was_is_unknown(table: Table, joined: Lives) -> None:
    first = joined("a")

    assert first.report({"gb": 1}, boot=first.boot + 1) == ["unknown"]
    assert first.report({"gb": 1}, boot=first.boot - 1) == ["unknown"]

    assert row(table).capabilities == {}  # type: ignore[union-attr]


def test_a_report_about_a_service_the_host_does_not_run_is_refused(table: Table, joined: Lives) -> None:
    first = joined("a", services=("volume",))

    words = first.report(None, services={"volume": {"gb": 1}, "network": {"ports": 4}})

    assert words == ["stored", "unknown"]
    assert [host.service for host in table.hosts()] == ["volume"]


@pytest.mark.parametrize("end", ["leave", "prune", "restart", "flush"])
def test_a_late_report_never_brings_back_a_row_that_is_gone(
    table: Table, life: Lives, joined: Lives, clock: Any, end: str
) -> None:
    first = joined("a")
    first.report({"gb": 1})
    late = first.say({"gb": 2})
    if end == "leave":
        first.leave()
    elif end == "prune":
        clock.advance(61)
        assert [member for member, _ in table.prune()] == ["volume/a"]
    elif end == "flush":
        table.redis.delete(*table.redis.keys(f"{table._prefix}*"))
    else:
        clock.advance(31)
        life("a").join()

    assert [word for _, _, word in table.store([late])] == ["unknown"]

    found = row(table)
    assert found is None or (end == "restart" and found.capabilities == {} and found.reported_seconds_ago is None)


def test_a_restarted_host_starts_with_an_empty_row(table: Table, life: Lives, joined: Lives, clock: Any) -> None:
    joined("a").report({"gb": 1})
    clock.advance(31)
    second = life("a")
    second.join()

    assert row(table).capabilities == {}  # type: ignore[union-attr]
    assert second.report({"gb": 2}, sequence=1) == ["stored"]


# Staleness and pruning


def test_a_host_is_stale_by_its_presence_with_its_own_interval(table: Table, joined: Lives, clock: Any) -> None:
    slow, fast = joined("slow", heartbeat=20), joined("fast", heartbeat=2)
    for one in (slow, fast):
        one.report({})

    clock.advance(5.9)
    assert (state(table, "volume/slow"), state(table, "volume/fast")) == ("up", "up")
    clock.advance(0.2)
    assert (state(table, "volume/slow"), state(table, "volume/fast")) == ("up", "stale")
    assert row(table, "volume/fast").reasons == ("presence 6.1 s old (heartbeat interval 2 s)",)  # type: ignore[union-attr]
    clock.advance(53.8)
    assert state(table, "volume/slow") == "up"
    clock.advance(0.2)
    assert row(table, "volume/slow").reasons == ("presence 60.1 s old (heartbeat interval 20 s)",)  # type: ignore[union-attr]


def test_a_host_is_stale_by_its_report_with_the_interval_of_that_report(
    table: Table, joined: Lives, clock: Any
) -> None:
    first = joined("a", interval=60)
    first.report({}, interval=5)

    clock.advance(15)
    assert state(table) == "up"
    clock.advance(0.5)

    assert row(table).reasons == ("last report 15.5 s ago (periodic interval 5 s)",)  # type: ignore[union-attr]


def test_a_host_that_never_reports_is_stale_after_three_of_its_intervals(
    table: Table, joined: Lives, clock: Any
) -> None:
    first = joined("a", heartbeat=100, interval=20)

    clock.advance(60)
    assert (state(table), first.beat()) == ("up", "ok")
    clock.advance(0.5)

    assert row(table).reasons == ("joined without a report 60.5 s ago (periodic interval 20 s)",)  # type: ignore[union-attr]


def test_a_host_silent_in_both_ways_says_both(table: Table, joined: Lives, clock: Any) -> None:
    joined("a", heartbeat=1, interval=1).report({})
    clock.advance(5)

    assert row(table).reasons == (  # type: ignore[union-attr]
        "presence 5.0 s old (heartbeat interval 1 s)",
        "last report 5.0 s ago (periodic interval 1 s)",
    )


def test_a_stale_host_is_up_again_with_its_next_sign(table: Table, joined: Lives, clock: Any) -> None:
    first = joined("a")
    first.report({})
    clock.advance(45)
    assert state(table) == "stale"

    first.beat()

    assert state(table) == "up"


def test_a_host_is_pruned_after_six_missed_heartbeats_and_not_before(table: Table, joined: Lives, clock: Any) -> None:
    first, other = joined("a"), joined("b", heartbeat=20)
    clock.advance(60)
    assert table.prune() == []

    clock.advance(0.001)
    ((member, identity),) = table.prune()

    assert (member, identity.pid) == ("volume/a", first.identity.pid)  # type: ignore[union-attr]
    assert [host.host for host in table.hosts()] == ["b"]
    assert first.beat() == "unknown"
    assert other.beat() == "ok"


def test_pruning_leaves_no_trace_but_what_the_operator_said(table: Table, joined: Lives, clock: Any) -> None:
    first = joined("a")
    first.report({"gb": 1})
    first.drain("its worker is stopping")
    table.disable("volume/a", "disk errors")
    clock.advance(61)
    table.prune()

    rest = {key.removeprefix(table._prefix) for key in table.redis.keys(f"{table._prefix}*")}
    assert rest == {"disabled", "since", "counters", "events", "keys"}


def test_pruning_is_done_in_bites(table: Table, joined: Lives, clock: Any) -> None:
    for number in range(5):
        joined(f"h{number}")
    clock.advance(61)

    assert [len(table.prune(limit=2)) for _ in range(4)] == [2, 2, 1, 0]


# The operator's word


def test_a_disabled_host_says_why_and_is_up_again_when_enabled(table: Table, joined: Lives) -> None:
    joined("a")
    table.disable("volume/a", "disk errors")

    assert (state(table), row(table).reasons) == ("disabled", ("disabled: disk errors",))  # type: ignore[union-attr]
    table.enable("volume/a")
    assert state(table) == "up"


def test_disabled_outlives_the_host(table: Table, joined: Lives) -> None:
    first = joined("a")
    table.disable("volume/a", "disk errors")
    first.leave()

    joined("a")

    assert state(table) == "disabled"


def test_a_draining_host_says_why_until_it_joins_anew(table: Table, joined: Lives) -> None:
    first = joined("a")
    assert first.drain("its worker is stopping") == 1

    assert (state(table), row(table).reasons) == ("draining", ("draining: its worker is stopping",))  # type: ignore[union-attr]
    first.join()
    assert state(table) == "up"


def test_stale_outweighs_draining_outweighs_disabled_and_all_reasons_are_told(
    table: Table, joined: Lives, clock: Any
) -> None:
    first = joined("a")
    table.disable("volume/a", "disk errors")
    assert state(table) == "disabled"
    first.drain("stopping")
    assert state(table) == "draining"
    clock.advance(31)

    found = row(table)
    assert found is not None
    assert found.state == "stale"
    assert found.reasons == (
        "presence 31.0 s old (heartbeat interval 10 s)",
        "draining: stopping",
        "disabled: disk errors",
    )


# Questions


def test_the_aggregate_is_the_least_and_most_over_the_hosts_that_are_up(
    table: Table, joined: Lives, clock: Any
) -> None:
    silent = joined("silent")
    silent.report({"gb": 1000})
    clock.advance(31)
    for name, gb in (("a", 4), ("b", 2.5), ("c", 9), ("disabled", 2000), ("draining", 3000)):
        joined(name).report({"gb": gb, "only": name} if name == "a" else {"gb": gb})
    joined("a", services=("network",)).report({"gb": 7})
    table.disable("volume/disabled", "")
    table.drain("draining-6", ["volume/draining"], "")

    assert table.aggregate() == {"network.gb": (7, 7), "volume.gb": (2.5, 9), "volume.only": ("a", "a")}


def test_the_table_is_asked_by_service_or_by_host(table: Table, joined: Lives) -> None:
    joined("a", services=("volume", "network"))
    joined("b", services=("volume",))

    assert [host.host for host in table.hosts("volume")] == ["a", "b"]
    assert [host.host for host in table.hosts("network")] == ["a"]
    assert table.hosts("nothing") == []
    assert [host.service for host in table.host("a")] == ["network", "volume"]


def test_an_unknown_host_is_answered_with_the_known_ones(table: Table, joined: Lives) -> None:
    with pytest.raises(HostNotFound, match="none at all"):
        table.host("a")
    joined("b")

    with pytest.raises(HostNotFound, match="knows no host 'a'; it knows b"):
        table.host("a")


def test_every_fate_of_a_report_is_counted(table: Table, joined: Lives, clock: Any) -> None:
    first = joined("a", services=("volume", "network"))
    report = first.say({})
    table.store([report, report])
    first.report({}, boot=1)
    table.count("reports_refused")
    clock.advance(61)
    table.prune()

    assert table.counters() == {
        "reports_stored": 2,
        "reports_old": 2,
        "reports_unknown": 2,
        "reports_refused": 1,
        "hosts_pruned": 2,
    }


def test_two_fleets_share_a_redis_and_nothing_else(table: Table, table_url: str, joined: Lives, clock: Any) -> None:
    client: Any = connect(table_url)
    other = Table(client, fleet=f"test-{uuid.uuid4()}", url=table_url, now=clock)
    joined("a")

    assert other.hosts() == []
    assert not other.readiness().ready
    client.close()


def test_a_person_can_read_the_table(table: Table, joined: Lives) -> None:
    joined("a").report({"zone": "b", "gb": 1})

    assert table._prefix.startswith("celeriac:{test-")
    assert table.redis.hget(f"{table._prefix}capabilities", "volume/a") == '{"gb": 1, "zone": "b"}'


def test_liveness_leaves_in_the_table_what_no_capabilities_retract(table: Table, joined: Lives) -> None:
    first = joined("a")
    kept = []
    for capabilities in (None, {"gb": 1}, None, {}, None):
        first.report(capabilities)
        kept.append(table.redis.hget(f"{table._prefix}capabilities", "volume/a"))

    assert kept == [None, '{"gb": 1}', '{"gb": 1}', "{}", "{}"]


# Readiness


def test_an_empty_table_is_not_ready(table: Table) -> None:
    readiness = table.readiness()

    assert not readiness.ready
    assert "the table is empty" in readiness.reason


def test_after_the_first_join_the_others_have_one_heartbeat_to_join_and_one_interval_to_report(
    table: Table, joined: Lives, clock: Any
) -> None:
    first = joined("a")
    assert "1 services have joined" in table.readiness().reason
    clock.advance(9.9)
    assert not table.readiness().ready

    clock.advance(0.1)
    assert "1 of 1 services have not reported yet" in table.readiness().reason
    other = joined("b")
    first.report({})
    assert "1 of 2 services have not reported yet" in table.readiness().reason
    other.report(None)

    assert table.readiness().ready
    assert table.readiness().reason == ""


def test_a_host_that_never_reports_holds_the_table_up_for_one_interval_only(
    table: Table, joined: Lives, clock: Any
) -> None:
    joined("a")
    clock.advance(59.9)
    assert not table.readiness().ready

    clock.advance(0.1)

    assert table.readiness().ready


def test_a_host_that_joins_a_ready_table_leaves_it_ready(table: Table, joined: Lives, clock: Any) -> None:
    joined("a").report({})
    clock.advance(100)

    joined("b")

    assert table.readiness().ready


def test_a_fleet_that_has_stopped_is_no_hosts_not_an_unready_table(table: Table, joined: Lives, clock: Any) -> None:
    first = joined("a")
    first.report({})
    clock.advance(100)
    first.leave()

    assert table.snapshot() == ([], table.readiness())
    assert table.readiness().ready


def test_after_a_flush_the_table_is_not_ready_until_all_have_joined_and_reported_again(
    table: Table, joined: Lives, clock: Any
) -> None:
    lives = [joined("a"), joined("b")]
    for one in lives:
        one.report({"gb": 1})
    clock.advance(100)
    assert table.readiness().ready

    table.redis.delete(*table.redis.keys(f"{table._prefix}*"))

    assert not table.readiness().ready
    for one in lives:
        assert one.beat() == "unknown"
        one.join()
    assert [word for one in lives for word in one.report({"gb": 2})] == ["stored"] * 2
    assert not table.readiness().ready
    clock.advance(10)
    assert table.readiness().ready
    assert table.aggregate() == {"volume.gb": (2, 2)}


def test_the_fleets_time_is_the_servers_own(table: Table, table_url: str) -> None:
    client: Any = connect(table_url)
    server = Table(client, fleet=f"test-{uuid.uuid4()}", url=table_url)
    before = server.now()

    stamp = server.heartbeat("nobody", 10, ["volume/a"])[0]

    assert before - 0.001 <= stamp <= server.now() + 0.001
    client.close()
