"""The choice: who is out and why, and which of the others is first."""

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import filters, weighers
from scheduler.filters import No
from scheduler.requests import Request
from scheduler.select import ALTERNATIVES, Selection, Selector
from scheduler.snapshot import Candidate, Snapshot
from tests.scheduler.fleets import request, row, snapshot


def select(asked: Request, *rows: Any, seed: int = 1, count: int = 1, **failures: int) -> Selection:
    return Selector().select(asked, snapshot(rows, **failures), count=count, rng=random.Random(seed))


def first(asked: Request, *rows: Any, seed: int = 1, **failures: int) -> str:
    return select(asked, *rows, seed=seed, **failures).hosts[0].host


def firsts(asked: Request, *rows: Any, selector: Selector | None = None, **failures: int) -> set[str]:
    """Return whom several schedulers would try first."""
    seen = snapshot(rows, **failures)
    return {(selector or Selector()).select(asked, seen, rng=random.Random(seed)).hosts[0].host for seed in range(40)}


# Whatever is preferred, every filter counts.

ZONES = st.sampled_from(["x", "y"])
HOSTS = st.lists(
    st.builds(
        lambda name, zone, gpus, state, used: row(
            name,
            {"zone": zone, "gpus": gpus},
            state=state,
            slots=2,
            used={"slots": used, "gpus": min(used, gpus)},
        ),
        st.sampled_from([f"h{number}" for number in range(8)]),
        ZONES,
        st.integers(0, 2),
        st.sampled_from(["up", "up", "up", "stale", "disabled", "draining"]),
        st.integers(0, 2),
    ),
    unique_by=lambda one: one.host,
    max_size=8,
)
NAMES = st.sampled_from([f"h{number}" for number in range(8)])
REQUESTS = st.builds(
    request,
    requires=st.sampled_from([None, "zone == 'x'", "zone == 'y' and gpus >= 1", "gpus in (1, 2)"]),
    claims=st.sampled_from([None, {"slots": 0}, {"gpus": 1}, {"gpus": 2, "slots": 2}]),
    prefers=st.sampled_from([None, {"zone == 'y'": 1000000}, {"gpus > 1": 5, "zone == 'x'": -1000}]),
    only=st.none() | st.lists(NAMES, min_size=1, max_size=4),
    exclude=st.none() | NAMES,
    same_host=st.sampled_from([None, None, "t1"]),
    different_host=st.sampled_from([None, "t1", ["t1", "t2"]]),
    sticky=st.just("cache"),
    must_stick=st.booleans(),
    strategy=st.sampled_from(["spread", "pack"]),
    ran=st.dictionaries(st.sampled_from(["t1", "t2"]), NAMES),
    home=st.none() | NAMES,
    avoided=st.lists(NAMES, max_size=2).map(tuple),
)


def would_fit(asked: Request, host: Candidate, *, if_empty: bool = False) -> bool:
    """Say in the plainest way whether *host* can run what is *asked*."""
    ran = {asked.ran.get(task) for task in asked.same_host}
    return (
        host.state == "up"
        and (not asked.only or host.host in asked.only)
        and host.host not in asked.exclude
        and ran <= {host.host}
        and not any(asked.ran.get(task) == host.host for task in asked.different_host)
        and not (asked.must_stick and asked.home is not None and asked.home != host.host)
        and asked.requires.matches(host.capabilities)
        and all(
            host.total.get(name, 0) - (0 if if_empty else host.used.get(name, 0)) >= amount
            for name, amount in asked.claims.items()
        )
    )


@settings(deadline=None)
@given(REQUESTS, HOSTS, st.integers(1, 3), st.integers(0, 3))
def test_every_host_that_is_chosen_passes_every_filter_and_the_verdict_is_what_a_child_would_say(
    asked: Request, rows: list[Any], count: int, seed: int
) -> None:
    seen = snapshot(rows, h1=5, h2=9)
    hosts = seen.candidates("host")

    selection = Selector().select(asked, seen, count=count, rng=random.Random(seed))

    fitting = {host.host for host in hosts if would_fit(asked, host)}
    empty = [host for host in hosts if would_fit(asked, host, if_empty=True)]
    chosen = [host.host for host in selection.hosts]
    assert set(chosen) <= fitting
    assert len(chosen) == len(set(chosen))
    assert selection.verdict == (
        "feasible" if len(fitting) >= count else "full" if len(empty) >= count else "infeasible"
    )
    assert len(chosen) == (min(len(fitting), count + ALTERNATIVES - 1) if selection.verdict == "feasible" else 0)
    assert (selection.fit, selection.asked) == (len(fitting), len(hosts))
    if hosts and len(fitting) < len(hosts):
        told = [reason for reason in selection.reasons if not reason.endswith(" needed at once")]
        assert sum(int(reason.split()[0]) for reason in told) == len(hosts) - len(fitting)


@pytest.mark.parametrize("multiplier", [1e9, -1e9, 0.0])
def test_no_weigher_saves_a_host_from_a_filter(multiplier: float) -> None:
    def loves(asked: Request, host: Candidate, seen: Snapshot) -> float:
        return float(host.host == "a")

    selector = Selector(weighers={**weighers.BUILT_IN, "loves": (loves, multiplier)})
    asked = request(requires="zone == 'y'", prefers={"zone == 'x'": 1e6}, sticky="cache", home="a")

    selection = selector.select(asked, snapshot([row("a", {"zone": "x"}), row("b", {"zone": "y"})]))

    assert [host.host for host in selection.hosts] == ["b"]


# Reasons.


def test_the_reasons_read_as_a_person_would_count() -> None:
    rows = [row(f"f{number}", {"gpus": 1}, used={"gpus": 1}) for number in range(7)]
    rows += [row(f"s{number}", {"gpus": 1}, state="stale") for number in range(3)]
    rows += [row(f"d{number}", {"gpus": 1}, state="disabled") for number in range(2)]

    selection = select(request(claims={"gpus": 1}), *rows)

    assert str(selection) == "0/12 hosts: 7 gpus >= 1 (most free: 0), 3 stale, 2 disabled"
    assert selection.verdict == "full"


def test_the_most_that_any_host_has_free_is_told_beside_the_clause() -> None:
    rows = [row("a", {"gpus": 1}), row("b", {"gpus": 1.5}), row("c")]

    assert str(select(request(claims={"gpus": 2}), *rows)) == "0/3 hosts: 3 gpus >= 2 (most free: 1.5)"


def test_never_and_not_now_are_one_reason_of_which_the_verdict_is_told() -> None:
    small, full = row("a", {"gpus": 1}), row("b", {"gpus": 4}, used={"gpus": 3.5})
    asked = request(claims={"gpus": 2})

    assert (select(asked, small).verdict, select(asked, full).verdict) == ("infeasible", "full")
    both = select(asked, small, full)
    assert (both.verdict, both.reasons) == ("full", ["2 gpus >= 2 (most free: 1)"])
    assert select(asked, small, full, count=2).verdict == "infeasible"


def test_a_host_of_which_more_is_claimed_than_it_has_has_nothing_free() -> None:
    assert select(request(claims={"gpus": 1}), row("a", {"gpus": 1}, used={"gpus": 3})).reasons == [
        "1 gpus >= 1 (most free: 0)"
    ]


def test_where_all_fit_nothing_is_wanting() -> None:
    assert str(select(request(), row("a"), row("b"))) == "2/2 hosts: all fit"


def test_a_service_that_nobody_runs_is_told_so() -> None:
    selection = select(request(service="volume"), row("a"))

    assert (str(selection), selection.verdict) == ("0/0 hosts: none is known of that service", "infeasible")


def test_a_table_that_cannot_tell_who_is_there_is_no_reason_to_give_up() -> None:
    selection = Selector().select(request(), snapshot([row("a")], reason="the table was emptied"))

    assert (selection.verdict, selection.hosts) == ("not-ready", [])
    assert selection.reasons == ["the table was emptied"]


# Gangs.


def test_a_gang_gets_as_many_hosts_as_it_has_members_each_another() -> None:
    selection = select(request(), row("a", slots=9), row("b"), row("c"), count=3)

    assert sorted(host.host for host in selection.hosts) == ["a", "b", "c"]


def test_a_gang_that_is_one_host_short_gets_none() -> None:
    selection = select(request(), row("a", slots=99), row("b"), count=3)

    assert (selection.hosts, selection.verdict, str(selection)) == ([], "infeasible", "2/2 hosts: 3 are needed at once")


def test_a_gang_waits_where_there_would_be_hosts_enough_if_they_were_free() -> None:
    selection = select(request(), row("a"), row("b", used={"slots": 8}), row("c", state="stale"), count=2)

    assert (selection.hosts, selection.verdict) == ([], "full")


# Which one is first.


def test_who_spreads_goes_to_the_emptiest_and_who_packs_fills_one_before_the_next() -> None:
    rows = [row("a", used={"slots": 6}), row("b", used={"slots": 1}), row("c", used={"slots": 4})]

    assert firsts(request(), *rows) == {"b"}
    assert firsts(request(strategy="pack"), *rows) == {"a"}


def test_what_is_preferred_counts_more_than_room() -> None:
    rows = [row("a", {"loaded": "sdxl"}, used={"slots": 7}), row("b")]

    assert firsts(request(prefers={"loaded == 'sdxl'": 1}), *rows) == {"a"}


def test_home_counts_more_than_room_and_less_than_what_is_preferred() -> None:
    rows = [row("a", used={"slots": 6}), row("b")]
    asked = {"sticky": "cache", "home": "a"}

    assert firsts(request(**asked), *rows) == {"a"}
    assert firsts(request(**asked, prefers={"zone == 'z'": 1}), rows[0], row("b", {"zone": "z"})) == {"b"}


def test_a_host_with_something_scarce_is_taken_last_by_those_who_do_not_ask_for_it() -> None:
    rows = [row("a", {"gpus": 4}), row("b", used={"slots": 6}), row("c", used={"slots": 7})]

    assert firsts(request(), *rows) == {"b"}
    assert firsts(request(claims={"gpus": 1}), *rows) == {"a"}


def test_a_host_on_which_much_failed_is_taken_last() -> None:
    rows = [row("a"), row("b", used={"slots": 7}), row("c", used={"slots": 7})]

    assert firsts(request(), *rows, a=9) == {"b", "c"}
    assert firsts(request(), *rows, a=2) == {"a"}


def test_a_host_that_did_not_begin_it_is_taken_last_whatever_speaks_for_it() -> None:
    wish = {"zone == 'z'": 1}
    rows = [row("a", {"zone": "z"}), row("b", {"gpus": 1, "ssd": True}, used={"slots": 7}), row("c", {"zone": "z"})]
    asked = request(avoided=("a", "c"), prefers=wish, sticky="cache", home="a")

    assert firsts(asked, *rows) == {"b"}
    assert firsts(request(avoided=("a", "a", "c"), prefers=wish, sticky="cache", home="a"), *rows[::2]) == {"c"}


def test_hosts_that_are_as_good_share_the_work_of_several_schedulers() -> None:
    rows = [row(f"h{number}") for number in range(5)]

    assert firsts(request(), *rows) == {"h0", "h1", "h2", "h3", "h4"}


def test_hosts_that_are_nearly_as_good_share_it_too_and_clearly_worse_ones_do_not() -> None:
    rows = [
        row("a", slots=100),
        row("b", slots=100, used={"slots": 4}),
        row("c", slots=100, used={"slots": 20}),
        row("d", slots=100, used={"slots": 90}),
    ]

    assert firsts(request(), *rows) == {"a", "b"}
    ranked = [[host.host for host in select(request(), *rows, seed=seed).hosts] for seed in range(20)]
    assert {tuple(hosts[2:]) for hosts in ranked} == {("c", "d")}


@pytest.mark.parametrize("failures", [{}, {"bad": 50}])
def test_one_bad_host_does_not_make_all_the_others_look_alike(failures: dict[str, int]) -> None:
    rows = [row("empty", slots=10), row("full", slots=10, used={"slots": 9}), row("bad", slots=10, used={"slots": 9})]

    assert firsts(request(), *rows, **failures) == {"empty"}
    assert firsts(request(avoided=("bad",)), *rows) == {"empty"}


def test_the_list_is_as_long_as_a_claim_tries() -> None:
    rows = [row(f"h{number}") for number in range(40)]

    assert len(select(request(), *rows).hosts) == ALTERNATIVES
    assert len(select(request(), *rows, count=5).hosts) == ALTERNATIVES + 4


def test_where_nobody_hands_in_chance_it_is_not_the_same_each_time() -> None:
    seen = snapshot([row(f"h{number}") for number in range(5)])

    assert len({Selector().select(request(), seen).hosts[0].host for _ in range(60)}) > 1


# Filters and weighers of one's own.


def by_size(asked: Request, host: Candidate, seen: Snapshot) -> float:
    return float(host.capabilities["size"])  # type: ignore[arg-type]


SIZES = [row("small", {"size": 1}), row("large", {"size": 9})]


def test_a_negative_multiplier_turns_a_weigher_round_and_none_switches_it_off() -> None:
    def chosen(multiplier: float) -> set[str]:
        return firsts(request(), *SIZES, selector=Selector(weighers={"size": (by_size, multiplier)}))

    assert (chosen(1.0), chosen(-1.0), chosen(0.0)) == ({"large"}, {"small"}, {"large", "small"})


def test_multipliers_and_not_the_units_of_a_weigher_decide() -> None:
    def light(asked: Request, host: Candidate, seen: Snapshot) -> float:
        return 1e-9 if host.host == "small" else 0.0

    assert firsts(request(), *SIZES, selector=Selector(weighers={"size": (by_size, 1), "light": (light, 2)})) == {
        "small"
    }


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "heavy", None])
def test_a_weigher_that_gives_no_number_is_left_out(weight: Any, caplog: pytest.LogCaptureFixture) -> None:
    selector = Selector(weighers={"odd": (lambda *_: weight, 5.0), "size": (by_size, 1.0)})

    assert firsts(request(), *SIZES, selector=selector) == {"large"}
    assert "the weigher odd is left out" in caplog.text


def small(asked: Request, host: Candidate) -> No | None:
    return No("too large") if host.capabilities.get("size") == 9 else None


def test_a_filter_of_ones_own_counts_as_much_as_the_built_in_ones() -> None:
    selector = Selector(filters=(*filters.BUILT_IN, small))

    selection = selector.select(request(prefers={"size == 9": 1000}), snapshot(SIZES))

    assert [host.host for host in selection.hosts] == ["small"]
    assert str(selection) == "1/2 hosts: 1 too large"


def test_what_a_filter_of_ones_own_refuses_is_not_just_full() -> None:
    selector = Selector(filters=(*filters.BUILT_IN, small))
    busy = row("large", {"size": 9}, used={"slots": 8})

    selection = selector.select(request(), snapshot([busy]))

    assert (selection.verdict, selection.reasons) == ("infeasible", ["1 too large"])


def test_a_filter_that_fails_refuses_and_says_what_happened() -> None:
    def broken(asked: Request, host: Candidate) -> No | None:
        raise KeyError(host.host)

    selection = Selector(filters=(*filters.BUILT_IN, broken)).select(request(), snapshot(SIZES))

    assert selection.verdict == "infeasible"
    assert selection.reasons == [
        "1 broken failed with KeyError: 'small'", "1 broken failed with KeyError: 'large'",
    ]  # fmt: skip


@given(HOSTS)
def test_each_host_out_is_counted_under_one_reason(rows: list[Any]) -> None:
    selection = select(request(claims={"gpus": 1}, requires="zone == 'x'"), *rows)

    counted: Counter[str] = Counter()
    for reason in selection.reasons:
        if found := re.match(r"(\d+) (.*)", reason):
            counted[found[2]] += int(found[1])
    assert counted.total() + selection.fit == len(rows)
