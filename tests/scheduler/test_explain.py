"""Explanations: what each clause alone leaves, what the nearest hosts lack, and the parts of one told in a line."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import filters
from scheduler.explain import Explanation, explain, parts
from scheduler.filters import No
from scheduler.select import Selector
from tests.scheduler.fleets import request, row, snapshot

ROWS = [
    row("a", {"zone": "x", "gpu.model": "A100", "gpus": 2}, used={"gpus": 2}),
    row("b", {"zone": "x", "gpu.model": "T4", "gpus": 4}),
    row("c", {"zone": "y"}, state="disabled"),
    row("d", {"zone": "y", "gpu.model": "H100", "gpus": 1}),
]
ASKED = {"requires": "zone == 'x' and gpu.model in ('A100', 'H100')", "claims": {"gpus": 1}}


def explained(asked: Any = ASKED, rows: Any = ROWS, **options: Any) -> Explanation:
    return explain(request(**asked), snapshot(rows), Selector(), **options)


def test_each_clause_is_counted_by_itself() -> None:
    assert explained().clauses == [
        ("gpu.model in ('A100', 'H100')", 2), ("zone == 'x'", 2), ("gpus >= 1", 2), ("slots >= 1", 4),
    ]  # fmt: skip


def test_the_nearest_hosts_come_first_each_with_all_that_it_lacks() -> None:
    assert explained().nearest == [
        ("a", ["gpus >= 1 (free: 0)"]),
        ("b", ["gpu.model in ('A100', 'H100')"]),
        ("d", ["zone == 'x'"]),
    ]


def test_what_filters_other_than_the_clauses_say_is_lacking_too() -> None:
    def even(asked: Any, host: Any) -> No | None:
        return No("odd")

    asked = request(exclude="c", requires="zone == 'x'", claims={"gpus": 1})
    found = explain(asked, snapshot(ROWS[2:3]), Selector(filters=(*filters.BUILT_IN, even)))

    assert found.nearest == [("c", ["zone == 'x'", "gpus >= 1 (free: 0)", "disabled", "excluded by name", "odd"])]


def test_a_filter_that_fails_breaks_no_explanation() -> None:
    def broken(asked: Any, host: Any) -> No | None:
        raise KeyError("x")

    found = explain(request(), snapshot([row("a")]), Selector(filters=(*filters.BUILT_IN, broken)))

    assert found.nearest == [("a", ["broken failed with KeyError: 'x'"])]


def test_in_one_line_it_is_the_reasons_and_then_the_nearest() -> None:
    assert str(explained()) == (
        "0/4 hosts: 1 gpus >= 1 (most free: 0), 1 gpu.model in ('A100', 'H100'), 1 disabled, 1 zone == 'x';"
        " nearest: a lacks gpus >= 1 (free: 0); b lacks gpu.model in ('A100', 'H100'); d lacks zone == 'x'"
    )


def test_where_it_fits_nobody_is_nearest() -> None:
    found = explained({"claims": {"gpus": 1}})

    assert (found.verdict, found.fit, found.nearest) == ("feasible", 2, [])
    assert str(explained({}, ROWS[:1])) == "1/1 hosts: all fit"


def test_for_a_gang_it_says_whether_there_are_hosts_enough() -> None:
    assert explained({"claims": {"gpus": 1}}, count=3).verdict == "full"
    assert str(explained({}, ROWS[:2], count=3)) == "2/2 hosts: 3 are needed at once"


def test_of_a_service_that_nobody_runs_it_says_just_that() -> None:
    assert str(explained({"service": "volume"})) == "0/0 hosts: none is known of that service"


def test_the_json_shape_is_the_promised_one() -> None:
    found = explained().to_dict()

    assert json.loads(json.dumps(found)) == found
    assert list(found) == ["service", "hosts", "fit", "verdict", "clauses", "reasons", "nearest"]
    assert (found["service"], found["hosts"], found["fit"], found["verdict"]) == ("host", 4, 0, "full")
    assert found["clauses"][0] == {"clause": "gpu.model in ('A100', 'H100')", "passed": 2}
    assert found["nearest"][0] == {"host": "a", "lacks": ["gpus >= 1 (free: 0)"]}


@pytest.mark.parametrize(
    "asked",
    [
        ASKED,
        {"only": ["e", "f", "g"]},
        {"requires": "name == 'it\\'s, 3 of; nearest: me' and has(x)"},
        {"requires": 'name == "a\\"b, 7 c" or zone in (1, 2, 30)'},
        {"requires": "glob(name, '1, 2 *')", "claims": {"gpus": 9}},
        {},
        {"service": "volume"},
    ],
)
def test_its_reasons_can_be_had_back_from_the_line(asked: Any) -> None:
    found = explained(asked)

    assert parts(f"no valid host for tasks.render within 3.0 s; {found}") == found.reasons


@given(st.lists(st.text("ab,'\"\\ 1()", max_size=9), min_size=1, max_size=3))
def test_whatever_texts_a_requirement_has_its_reasons_can_be_had_back(texts: list[str]) -> None:
    found = explained({"requires": {"name": texts, "zone": "x"}})

    assert parts(str(found)) == found.reasons


def test_a_line_that_is_no_explanation_has_no_parts() -> None:
    assert parts("") == parts("its host died") == []
