"""Requests: what may be asked, what asks the same, and the way into a record and back."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.requests import OPTIONS, Request, as_json, check_number, check_options, check_record
from scheduler.requirements import Requirement
from tests.scheduler.fleets import request

NAMES = st.text("abc-", min_size=1, max_size=5)
LISTS = st.none() | NAMES | st.lists(NAMES, max_size=3) | st.sets(NAMES, max_size=3) | st.tuples(NAMES)
HOSTS = st.none() | st.lists(st.sampled_from(["a", "b-2", "c.d"]), max_size=3)
GIVEN = st.fixed_dictionaries(
    {},
    optional={
        "requires": st.sampled_from(
            [None, "gpus > 1 and zone in ('a', 'b')", {"zone": ["a", "b"]}, Requirement.of("x == 1")]
        ),
        "claims": st.dictionaries(
            st.sampled_from(["gpus", "slots", "memory_mb"]), st.integers(0, 9999).map(lambda n: n / 1000)
        ),
        "prefers": st.sampled_from([None, {}, {"zone == 'a'": 3, "has(ssd)": -1.5}, {Requirement.of("x == 1"): 2}]),
        "only": HOSTS,
        "exclude": HOSTS,
        "same_host": LISTS,
        "different_host": LISTS,
        "sticky": st.none() | NAMES,
        "must_stick": st.booleans(),
        "strategy": st.sampled_from(["spread", "pack"]),
        "start_deadline": st.none() | st.floats(0.1, 86400),
        "max_attempts": st.none() | st.integers(1, 1000),
        "service": st.none() | st.just("volume"),
    },
)


def asked(**options: Any) -> Request:
    return request(**options)


@given(GIVEN, st.booleans(), st.none() | st.floats(0, 2e9))
def test_a_request_is_recorded_and_read_again_as_the_same(
    options: dict[str, Any], is_late: Any, expires_at: float | None
) -> None:
    service = options.pop("service", None) or "host"
    made = replace(request(service=service, **options), is_late=is_late, expires_at=expires_at, gang="g1")

    again = Request.from_json(made.to_json())

    assert again == made
    assert (again.shape, again.keys) == (made.shape, made.keys)
    assert json.loads(made.to_json())["shape"] == made.shape
    assert check_record(again) is again


@given(GIVEN)
def test_what_a_call_said_asks_the_same_once_a_message_has_carried_it(options: dict[str, Any]) -> None:
    carried = json.loads(json.dumps(as_json(options)))

    assert check_options(carried) == check_options(options)
    assert set(carried) == set(options)


def test_what_is_known_at_the_moment_of_deciding_is_not_recorded() -> None:
    knowing = asked(same_host="t9").knowing(ran={"t9": "a"}, home="b").avoiding(["c", "c"])

    assert (knowing.ran, knowing.home, knowing.avoided) == ({"t9": "a"}, "b", ("c", "c"))
    assert knowing == asked(same_host="t9")
    assert knowing.to_json() == asked(same_host="t9").to_json()


def test_a_record_of_a_newer_version_is_read_for_what_is_known_of_it() -> None:
    record = {**asked(claims={"gpus": 1}).to_dict(), "colour": "red"}

    assert Request.from_dict(record) == asked(claims={"gpus": 1})


# Shapes.

BASE: dict[str, Any] = {
    "requires": "zone == 'a' and gpus > 1",
    "claims": {"gpus": 1},
    "only": ["a", "b"],
    "sticky": "s",
}


@pytest.mark.parametrize(
    "other",
    [
        {"requires": "gpus > 1 and zone == 'a'"},
        {"requires": "gpus > 1.0 and zone == 'a' and gpus > 1"},
        {"claims": {"slots": 1, "gpus": 1.0}},
        {"only": ["b", "a", "b"]},
        {"prefers": {"zone == 'a'": 5}},
        {"strategy": "pack"},
        {"sticky": "another"},
        {"sticky": None},
        {"must_stick": False},
        {"start_deadline": 1.0},
        {"max_attempts": 9},
        {"id": "r2", "task_id": "t2", "task": "tasks.other"},
        {"ran": {"t9": "a"}, "home": "a", "avoided": ("a",)},
    ],
)
def test_what_decides_nothing_about_feasibility_changes_no_shape(other: dict[str, Any]) -> None:
    assert asked(**{**BASE, **other}).shape == asked(**BASE).shape


@pytest.mark.parametrize(
    "other",
    [
        {"service": "volume"},
        {"requires": "zone == 'a' and gpus >= 1"},
        {"requires": None},
        {"claims": {"gpus": 1.001}},
        {"claims": {"gpus": 1, "slots": 0}},
        {"claims": {"cpus": 1}},
        {"only": "a"},
        {"only": None},
        {"exclude": "a"},
        {"same_host": "t9"},
        {"different_host": "t9"},
        {"must_stick": True},
        {"must_stick": True, "sticky": "another"},
    ],
)
def test_what_decides_feasibility_changes_the_shape(other: dict[str, Any]) -> None:
    assert asked(**{**BASE, **other}).shape != asked(**BASE).shape


def test_no_two_of_those_shapes_are_the_same() -> None:
    ways = ["only", "exclude", "same_host", "different_host"]

    assert len({asked(**{way: "x"}).shape for way in ways}) == len(ways)
    assert asked(must_stick=True, sticky="a").shape != asked(must_stick=True, sticky="b").shape


def test_the_keys_are_all_the_capabilities_that_it_names() -> None:
    made = asked(requires="zone == 'a' or not has(ssd)", claims={"gpus": 1}, prefers={"load < 3": 1})

    assert made.keys == {"zone", "ssd", "gpus", "slots", "load"}


# Options.


def test_what_is_not_said_is_the_default() -> None:
    assert asked() == Request(id="r1", task_id="t1", task="tasks.render", service="host", claims={"slots": 1000})


def test_every_option_that_a_task_may_have_is_checked() -> None:
    for option in OPTIONS:
        with pytest.raises(ValueError, match="object object at"):
            check_options({option: object()})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sticky": ""}, "sticky is ''; it is a text of up to 255 letters"),
        ({"sticky": 7}, "sticky is 7; it is a text of up to 255 letters"),
        ({"sticky": "x" * 256}, "sticky is 'xxx"),
        ({"must_stick": "no"}, "must_stick is 'no'; it is true or false"),
        ({"strategy": "pcak"}, "strategy is 'pcak'; it is one of spread, pack"),
        ({"strategy": 7}, "strategy is 7; it is one of spread, pack"),
        ({"strategy": ["pack"]}, r"strategy is \['pack'\]; it is one of spread, pack"),
        ({"claims": {"gpus": "2"}}, "claims ask for gpus = '2'; an amount is a number from 0"),
        ({"prefers": "zone == 'a'"}, "prefers are \"zone == 'a'\"; write a dict such as"),
        ({"prefers": {"zone == 'a'": "much"}}, "the weight of \"zone == 'a'\" is 'much'; it is a number from -1e"),
        ({"prefers": {"zone == 'a'": 1e7}}, "is 10000000.0; it is a number from"),
        ({"prefers": {"zone == 'a'": float("nan")}}, "is nan; it is a number from"),
        ({"prefers": {"zone == 'a'": True}}, "is True; it is a number from"),
        ({"prefers": {"zone =": 1}}, "zone ="),
        ({"requires": "zone = 'a'"}, "zone = 'a'"),
        ({"requires": 7}, "a requirement is an expression or a mapping"),
        ({"only": 7}, "only is 7; it is a name or a list of names"),
        ({"only": ["a", 7]}, r"only is \['a', 7\]; it is a name or a list of names"),
        ({"only": "a b"}, "host 'a b' is no name"),
        ({"exclude": ["a", ""]}, r"exclude is \['a', ''\]; it is a name or a list of names"),
        ({"exclude": "fanout"}, "host 'fanout' would share its queue's name"),
        ({"same_host": [None]}, r"same_host is \[None\]; it is a name or a list of names"),
        ({"different_host": {"t": 1}.values()}, "different_host is"),
        ({"different_host": "x" * 256}, "different_host is 'xxx"),
        ({"start_deadline": 0}, r"start_deadline is 0; it is a number from 0\.1 to 86400"),
        ({"start_deadline": "soon"}, "start_deadline is 'soon'; it is a number"),
        ({"placement_timeout": -1}, "placement_timeout is -1; it is a number from 0 to"),
        ({"placement_timeout": float("nan")}, "placement_timeout is nan; it is a number"),
        ({"placement_timeout": True}, "placement_timeout is True; it is a number"),
        ({"max_attempts": 0}, "max_attempts is 0; it is a whole number from 1 to 1000"),
        ({"max_attempts": 1.5}, r"max_attempts is 1\.5; it is a whole number from 1 to 1000"),
        ({"count": 129}, "count is 129; it is a whole number from 1 to 128"),
        ({"count": True}, "count is True; it is a whole number from 1 to 128"),
        ({"service": "no such"}, "service 'no such' is no name"),
        ({"service": 7}, "service 7 is no name"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_with_its_value_and_what_it_may_be(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        check_options(options)


def test_one_name_is_as_good_as_a_list_of_one() -> None:
    for option in ("only", "exclude", "same_host", "different_host"):
        assert check_options({option: "a"}) == check_options({option: ["a"]}) == check_options({option: {"a": 1}})


def test_none_says_nothing() -> None:
    assert check_options(dict.fromkeys(OPTIONS)) == check_options({})


# Records from elsewhere.

GOOD = asked(requires="zone == 'a'", claims={"gpus": 1}, prefers={"has(ssd)": 2}, only="a").to_dict()


def test_a_record_from_elsewhere_is_a_request() -> None:
    assert check_record(Request.from_dict(json.loads(json.dumps(GOOD)))).task == "tasks.render"


@pytest.mark.parametrize(
    "change",
    [
        lambda good: {**good, "service": "a b"},
        lambda good: {**good, "service": None},
        lambda good: {name: value for name, value in good.items() if name != "id"},
        lambda good: {**good, "id": 7},
        lambda good: {**good, "id": "a b"},
        lambda good: {**good, "task_id": ""},
        lambda good: {**good, "task": ["tasks.render"]},
        lambda good: {**good, "task": "x" * 2000},
        lambda good: {**good, "requires": {"a": {"=": 1}}},
        lambda good: {**good, "requires": "a == 1"},
        lambda good: {**good, "claims": {"gpus": 1.5}},
        lambda good: {**good, "claims": {"gpus": -1}},
        lambda good: {**good, "claims": ["gpus"]},
        lambda good: {**good, "prefers": 7},
        lambda good: {**good, "prefers": [[{}]]},
        lambda good: {**good, "prefers": [[{"a": {"==": 1}}, "much"]]},
        lambda good: {**good, "prefers": [[{"a": {"==": 1}}, float("nan")]]},
        lambda good: {**good, "only": [7]},
        lambda good: {**good, "only": 7},
        lambda good: {**good, "sticky": 7},
        lambda good: {**good, "must_stick": "no"},
        lambda good: {**good, "strategy": "pcak"},
        lambda good: {**good, "strategy": []},
        lambda good: {**good, "start_deadline": "soon"},
        lambda good: {**good, "start_deadline": 0},
        lambda good: {**good, "max_attempts": None},
        lambda good: {**good, "max_attempts": True},
        lambda good: {**good, "max_attempts": 10**400},
        lambda good: {**good, "is_late": 1},
        lambda good: {**good, "keeps_errors": None},
        lambda good: {**good, "gang": None},
        lambda good: {**good, "expires_at": "now"},
        lambda good: [],
        lambda good: None,
        lambda good: "id",
    ],
)
def test_a_record_from_elsewhere_that_is_none_is_refused(change: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        check_record(Request.from_dict(change(GOOD)))
    assert len(str(caught.value)) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_whatever_a_record_holds_it_is_a_request_that_can_be_recorded_or_refused(name: str, value: Any) -> None:
    try:
        made = check_record(Request.from_dict({**GOOD, name: value}))
    except ValueError:
        return

    assert Request.from_json(made.to_json()) == made


@pytest.mark.parametrize("value", [None, True, "1", float("nan"), float("inf"), [], 10**400])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is no number"):
        check_number(value)
    assert check_number(-1.5) == -1.5
