"""A report's codec: what keeps the limits survives the wire, everything else is refused by sender and fault."""

import json
import math
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st

from managers.errors import InvalidReport
from managers.reports import (
    MAX_BYTES,
    MAX_CLAIM_BYTES,
    MAX_CLAIMS,
    MAX_KEYS,
    MAX_LIST,
    MAX_NUMBER,
    MAX_SERVICES,
    REPORT_TASK,
    Report,
    check_capabilities,
    fit_claims,
    send_report,
)

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,63}", fullmatch=True).filter(
    lambda name: name not in ("undefined", "fanout")
)
KEYS = st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True)
SCALARS = (
    st.booleans()
    | st.integers(-MAX_NUMBER, MAX_NUMBER)
    | st.floats(-MAX_NUMBER, MAX_NUMBER)
    | st.text()
    | st.text(st.characters(categories=["Cs"]), max_size=1)
)
CAPABILITIES = st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=5), max_size=6)
REPORTS = st.builds(
    Report,
    host=NAMES,
    boot=st.integers(0, MAX_NUMBER),
    sequence=st.integers(0, MAX_NUMBER),
    interval=st.floats(0, 86400, exclude_min=True),
    version=st.text(min_size=1, max_size=64),
    services=st.dictionaries(NAMES, st.none() | CAPABILITIES, min_size=1, max_size=4),
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**4000, -(10**400), 2**53, 2**53 + 1])
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs"]), max_size=1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def kind(value: object) -> str:
    """Return an id for a value that may be too long to be one."""
    return type(value).__name__


def wire(**changes: Any) -> dict[str, Any]:
    """Return a report that is right but for *changes*."""
    sound = {"host": "rack1-07", "boot": 5, "sequence": 3, "interval": 60.0, "version": "0.1.0"}
    return {**sound, "services": {"host": {"cpus": 8}, "network": None}, **changes}


def refusal(values: object) -> str:
    with pytest.raises(InvalidReport) as refused:
        Report.from_dict(values)
    return str(refused.value)


def refused_capabilities(capabilities: object) -> str:
    with pytest.raises(InvalidReport) as refused:
        check_capabilities("volume", capabilities)
    return str(refused.value)


@given(REPORTS)
def test_a_report_survives_its_travel_as_json(report: Report) -> None:
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


@given(JUNK)
def test_junk_is_refused_as_an_invalid_report_and_nothing_else(junk: Any) -> None:
    with pytest.raises(InvalidReport):
        Report.from_dict(junk)


@settings(max_examples=300)
@given(st.sampled_from(sorted(wire())), JUNK)
def test_junk_in_any_field_parses_or_is_refused_by_its_sender(field: str, junk: Any) -> None:
    try:
        parsed = Report.from_dict(wire(**{field: junk}))
    except InvalidReport as error:
        message = str(error)
    else:
        json.dumps(parsed.to_dict(), allow_nan=False)
        return

    assert field == "host" or "report from 'rack1-07' refused" in message
    assert len(message) < 500


@settings(max_examples=300)
@given(st.dictionaries(KEYS | st.text(max_size=4), JUNK, max_size=4))
def test_junk_capabilities_are_taken_within_the_limits_or_refused_by_service(capabilities: dict[str, Any]) -> None:
    try:
        check_capabilities("volume", capabilities)
    except InvalidReport as error:
        message = str(error)
    else:
        assert json.loads(json.dumps(capabilities, allow_nan=False)) == capabilities
        return

    assert "volume" in message
    assert len(message) < 300


@pytest.mark.parametrize("junk", [None, 7, "report", [], [{}], True, math.nan])
def test_what_is_no_object_is_no_report(junk: object) -> None:
    assert "a report is a JSON object" in refusal(junk)


@pytest.mark.parametrize("field", sorted(wire()))
def test_a_missing_field_is_named(field: str) -> None:
    values = wire()
    del values[field]

    assert field in refusal(values)


@pytest.mark.parametrize(
    "host", ["", "a/b", "a b", None, 7, ["a"], "x" * 200, "x" * 10**6, 10**5000, "fanout.a"], ids=kind
)
def test_a_host_that_is_no_name_is_refused_and_shown_shortly(host: object) -> None:
    message = refusal(wire(host=host))

    assert "report from" in message
    assert len(message) < 500


@pytest.mark.parametrize("field", ["boot", "sequence"])
def test_boot_and_sequence_are_whole_numbers_that_lua_holds_exactly(field: str) -> None:
    assert Report.from_dict(wire(**{field: 0}))
    assert Report.from_dict(wire(**{field: MAX_NUMBER}))
    for value in (-1, MAX_NUMBER + 1, 3.0, True, False, "3", None, math.nan, 10**5000):
        assert f"{field} is" in refusal(wire(**{field: value}))


def test_an_interval_is_above_zero_and_up_to_a_day() -> None:
    assert Report.from_dict(wire(interval=86400)).interval == 86400
    assert Report.from_dict(wire(interval=0.1)).interval == 0.1
    for value in (0, -1, 86400.1, math.nan, math.inf, True, "60", None, 10**5000):
        assert "interval is" in refusal(wire(interval=value))


def test_a_version_is_a_short_text() -> None:
    assert Report.from_dict(wire(version="v" * 64))
    for value in ("", "v" * 65, None, 1.0):
        assert "version is" in refusal(wire(version=value))


def test_a_report_speaks_for_1_to_64_services() -> None:
    most = {f"service{number}": None for number in range(MAX_SERVICES)}

    assert Report.from_dict(wire(services=most)).services == most
    assert "limit is 64" in refusal(wire(services={**most, "more": None}))
    for value in ({}, [], None, "host"):
        assert "services are" in refusal(wire(services=value))


@pytest.mark.parametrize("service", ["undefined", "", "a.b", "a/b", "x" * 10**6])
def test_a_service_that_is_no_name_is_refused(service: str) -> None:
    message = refusal(wire(services={service: {}}))

    assert "report from 'rack1-07' refused" in message
    assert len(message) < 500


def test_capabilities_that_are_no_dict_are_refused() -> None:
    for value in ([], "cpus=8", 7, True, [["cpus", 8]]):
        assert "not a dict" in refusal(wire(services={"volume": value}))


def test_none_and_no_capabilities_are_two_things() -> None:
    report = Report.from_dict(wire(services={"a": None, "b": {}}))

    assert report.services == {"a": None, "b": {}}
    assert report.to_dict()["services"] == {"a": None, "b": {}}


def test_256_keys_are_taken_and_257_refused() -> None:
    keys = {f"key{number}": 1 for number in range(MAX_KEYS)}

    assert check_capabilities("volume", keys) == keys
    assert "257 keys; the limit is 256" in refused_capabilities({**keys, "more": 1})


@pytest.mark.parametrize("key", ["a", "gpu.model", "a:b-c_d", "0", "k" * 128])
def test_a_key_within_the_limits_is_taken(key: str) -> None:
    assert check_capabilities("volume", {key: 1})


@pytest.mark.parametrize("key", ["", "k" * 129, "a b", "a/b", "ä", "a\n", "a=1", "\ud800", "٤", 7, None, True])
def test_a_key_beyond_the_limits_is_refused(key: object) -> None:
    assert "use 1 to 128 of A-Z" in refused_capabilities({key: 1})


@pytest.mark.parametrize("number", [0, -0.0, MAX_NUMBER, -MAX_NUMBER, float(MAX_NUMBER), 5e-324, 0.1])
def test_a_number_within_2_to_the_53_is_taken(number: float) -> None:
    assert check_capabilities("volume", {"size": number, "sizes": [number]})


@pytest.mark.parametrize(
    "number",
    [MAX_NUMBER + 1, -MAX_NUMBER - 1, float(MAX_NUMBER + 2), math.inf, -math.inf, math.nan, 10**400, -(10**5000)],
    ids=kind,
)
def test_a_number_beyond_2_to_the_53_is_refused_by_its_key(number: float) -> None:
    for value in (number, [1, number]):
        message = refused_capabilities({"size": value})
        assert "volume.size is" in message
        assert "finite and within ±2^53" in message


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, [[1]], [{}], [None], (1, 2), b"x", {1}, object(), 1j])
def test_a_nested_or_foreign_value_is_refused_by_its_key(value: object) -> None:
    message = refused_capabilities({"size": value})

    assert "volume.size is" in message
    assert "use bool, int, float, str, or a list of those" in message


def test_a_list_of_1000_is_taken_and_of_1001_refused() -> None:
    assert check_capabilities("volume", {"models": [1] * MAX_LIST})
    assert "volume.models lists 1001 values; the limit is 1000" in refused_capabilities({"models": [1] * 1001})


def test_64_kilobytes_are_taken_and_one_more_refused() -> None:
    room = MAX_BYTES - len(json.dumps({"text": ""}))

    assert check_capabilities("volume", {"text": "x" * room})
    assert "take 65537 bytes as JSON; the limit is 65536" in refused_capabilities({"text": "x" * (room + 1)})
    # six bytes each on the wire
    assert "the limit is 65536" in refused_capabilities({"text": "\u20ac" * 11_000})


def test_a_lone_surrogate_travels() -> None:
    report = Report.from_dict(json.loads(json.dumps(wire(services={"host": {"name": "\udcff", "names": ["\ud800"]}}))))

    assert report.services["host"] == {"name": "\udcff", "names": ["\ud800"]}


def test_any_mapping_is_a_report_of_capabilities() -> None:
    for mapping in (MappingProxyType({"cpus": 8}), OrderedDict(cpus=8)):
        assert check_capabilities("volume", mapping) == {"cpus": 8}


def test_keys_of_a_newer_version_are_passed_over() -> None:
    assert Report.from_dict(wire(zone="a")) == Report.from_dict(wire())


@pytest.fixture
def app() -> Celery:
    return Celery("reports", broker="memory://", set_as_current=False)


def test_a_report_travels_as_a_task_by_name_that_expires_after_three_intervals(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(app, "send_task", lambda *args, **options: sent.append((*args, options)))
    report = Report.from_dict(wire(interval=20))

    send_report(app, report)

    ((name, args, options),) = sent
    assert (name, args) == (REPORT_TASK, (report.to_dict(),))
    assert options["queue"].name == "scheduler"
    assert options["expires"] == 60
    assert options["ignore_result"] is True


def test_in_eager_mode_a_report_is_taken_in_at_once(app: Celery) -> None:
    app.conf.task_always_eager = True
    taken: list[Any] = []

    def take(report: dict[str, Any]) -> None:
        taken.append(report)

    app.task(name=REPORT_TASK, shared=False)(take)
    report = Report.from_dict(wire())

    send_report(app, report)

    assert taken == [report.to_dict()]


# Claims.


def claim(**changes: Any) -> dict[str, Any]:
    """Return a claim of rack1-07 that is right but for *changes*."""
    sound = {
        "id": "r1", "attempt": 1, "task_id": "t1", "task": "tasks.render", "service": "host", "host": "rack1-07",
        "is_late": False, "amounts": {"host/rack1-07": {"slots": 1000}}, "is_begun": True,
    }  # fmt: skip
    return {**sound, **changes}


def test_claims_survive_their_travel_whatever_keys_a_newer_host_adds() -> None:
    told = Report.from_dict(wire(at=1.0, claims=[claim(newer=1)]))

    assert told.claims == (claim(),)
    assert Report.from_dict(json.loads(json.dumps(told.to_dict()))) == told


@pytest.mark.parametrize(
    "changes",
    [
        {"task_id": "t" * 1025}, {"task": "a\nb"}, {"service": 5}, {"host": "rack1-08"}, {"is_late": 1},
        {"amounts": {"host/rack1-08": {}}}, {"amounts": {"host/rack1-07": {"a b": 1}}},
        {"amounts": {"host/rack1-07": {"slots": -1}}}, {"is_begun": 1},
    ],
)  # fmt: skip
def test_a_claim_that_breaks_a_limit_is_one_of_which_only_its_name_is_known(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    told = Report.from_dict(wire(at=1.0, claims=[claim(**changes), claim(id="r2")]))

    assert told.claims == ({"id": "r1", "attempt": 1, "is_begun": False}, claim(id="r2"))
    assert ("claims of rack1-07" in caplog.text) == (changes != {"is_begun": 1})


@pytest.mark.parametrize("junk", [5, {}, claim(id="a b"), claim(id="a:b"), claim(id=""), claim(attempt="1"), [1]])
def test_a_claim_without_a_name_costs_itself_alone(junk: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert Report.from_dict(wire(at=1.0, claims=[junk, claim()])).claims == (claim(),)

    assert "1 claims of rack1-07 can't be counted" in caplog.text


def test_a_host_of_many_claims_names_them_all_and_tells_of_as_many_as_fit(caplog: pytest.LogCaptureFixture) -> None:
    many = [claim(id=f"{number:032}", task="t" * 200) for number in range(8000)]

    told = fit_claims(many, "rack1-07")

    assert told is not None
    assert len(json.dumps(told)) < MAX_CLAIM_BYTES
    assert [one["id"] for one in told] == [one["id"] for one in many]
    assert 0 < sum(one["is_begun"] for one in told) < 8000
    assert caplog.text == ""


def test_a_host_of_too_many_claims_says_nothing_of_them(caplog: pytest.LogCaptureFixture) -> None:
    assert fit_claims([claim(id=f"r{number}") for number in range(MAX_CLAIMS + 1)], "rack1-07") is None

    assert "rack1-07 holds 10001 claims, too many to report" in caplog.text


def test_a_host_tells_of_a_claim_beyond_the_limits_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    told = fit_claims([claim(task_id="t" * 2000), claim(id="r2")], "rack1-07")

    assert told == ({"id": "r1", "attempt": 1, "is_begun": False}, claim(id="r2"))
    assert "1 claims of rack1-07 are not reported in full" in caplog.text
