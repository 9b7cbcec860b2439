"""What goes in comes out as it was, or is refused at the caller."""

import enum
import json
import zoneinfo
from collections import OrderedDict, UserString, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kombu.exceptions import DecodeError, EncodeError
from kombu.serialization import dumps, loads

from managers.arguments import MAX_BITS, MAX_DEPTH, check_arguments
from managers.errors import InvalidArguments

# ruff: noqa: DTZ001, DTZ901  # a moment without a zone is an argument too

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
#: Beside each other in a text they are two characters that JSON reads as one.
HIGH, LOW = "\ud800", "\udc00"


class Level(enum.IntEnum):
    LOW = 1


class Colour(enum.StrEnum):
    RED = "red"


class Bits(enum.IntFlag):
    ONE = 1


class Text(str):
    __slots__ = ()


class Count(int):
    pass


class Share(float):
    pass


class Blob(bytes):
    pass


class Moment(datetime):
    pass


class Day(date):
    pass


class Hour(time):
    pass


class Price(Decimal):
    pass


class Key(UUID):
    pass


class Row(list[Any]):
    pass


class Jsonable:
    def __json__(self) -> dict[str, int]:
        return {"a": 1}


class JsonableDict(dict[str, int]):
    def __json__(self) -> dict[str, int]:
        return {"a": 1}


class ZoneWithoutOffset(tzinfo):
    pass


Point = namedtuple("Point", "x y")  # noqa: PYI024  # the plain kind

TIMEZONES = st.one_of(
    st.none(),
    st.timezones(),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))),
    st.sampled_from([timezone(timedelta(microseconds=1)), timezone(timedelta(microseconds=-1)), ZoneWithoutOffset()]),
)
FOLDS = st.integers(0, 1)
TEXTS = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from([HIGH, LOW]), max_size=8)
INTEGERS = st.one_of(
    st.integers(),
    st.integers(MAX_BITS - 2, MAX_BITS + 2).flatmap(lambda bits: st.sampled_from([1 << bits, -1 << bits])),
)
DATETIMES = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes(), TIMEZONES, FOLDS
)
TIMES = st.builds(lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.times(), TIMEZONES, FOLDS)
DECIMALS = st.decimals() | st.sampled_from(
    [Decimal("sNaN"), Decimal("-sNaN123"), Decimal("NaN7"), Decimal("-Infinity"), Decimal("-0"), Decimal("1E+999999")]
)
PLAIN = st.one_of(
    st.none(), st.booleans(), INTEGERS, st.floats(), TEXTS, st.binary(max_size=8), st.dates(), DATETIMES, TIMES,
    DECIMALS, st.uuids(),
)  # fmt: skip
ODD = st.one_of(
    st.sampled_from([
        Level.LOW, Colour.RED, Bits.ONE, Text("a"), Count(1), Share(1.5), Blob(b"a"), Key(int=1), Row([1]), Price(1),
        Moment(2026, 1, 1), Day(2026, 1, 1), Hour(12), Point(1, 2), Jsonable(), JsonableDict(a=1), UserString("a"),
        OrderedDict(a=1), object(), object, print, 1j, bytearray(b"a"), memoryview(b"a"), timedelta(1), ..., range(3),
        (value for value in ()), frozenset({1}), {1}, NotImplemented,
    ]),
    st.tuples(st.integers()),
)  # fmt: skip
KEYS = TEXTS | st.sampled_from(["__type__", "__value__", 1, 1.5, None, True, b"a", ("a",), Text("a"), Colour.RED])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return *leaves* in lists and dicts of any shape, some with an envelope's keys."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(KEYS, inner, max_size=4),
            st.fixed_dictionaries({"__type__": inner | st.sampled_from(["bytes", "uuid"]), "__value__": inner}),
            st.fixed_dictionaries({"__type__": inner, "__value__": inner, "more": inner}),
        ),
        max_leaves=8,
    )


def are_same(sent: Any, arrived: Any) -> bool:  # noqa: PLR0911  # one per kind
    """Return whether nothing of *sent* was lost; what a zone is called is not part of a moment."""
    if type(sent) is not type(arrived):
        return False
    if isinstance(sent, list):
        return len(sent) == len(arrived) and all(map(are_same, sent, arrived))
    if isinstance(sent, dict):
        return list(sent) == list(arrived) and all(are_same(sent[key], arrived[key]) for key in sent)
    if isinstance(sent, float):
        return repr(sent) == repr(arrived)
    if isinstance(sent, Decimal):
        return sent.as_tuple() == arrived.as_tuple()
    if isinstance(sent, datetime | time):
        if sent.utcoffset() is None:
            return (sent, sent.fold, sent.tzinfo) == (arrived, arrived.fold, arrived.tzinfo)
        bare = sent.replace(tzinfo=None, fold=0), sent.utcoffset()
        return bare == (arrived.replace(tzinfo=None), arrived.utcoffset())
    return bool(sent == arrived)


def travelled(value: Any) -> Any:
    """Return *value* as the other side gets it."""
    content_type, encoding, body = dumps(value, "json")
    return loads(body, content_type, encoding)


def refusal(*args: Any, **kwargs: Any) -> str:
    """Return why these arguments are refused, "" if they aren't."""
    try:
        check_arguments("volume.grow", args, kwargs)
    except InvalidArguments as error:
        return str(error)
    return ""


@settings(max_examples=400)
@given(nested(PLAIN | ODD))
@example({"__type__": "nothing", "__value__": 1})
@example(HIGH + LOW)
@example({HIGH + LOW: 1})
@example(time(12, tzinfo=BERLIN))
@example(datetime(2026, 10, 25, 2, 30, fold=1))
@example(datetime(1, 1, 1, tzinfo=timezone(timedelta(microseconds=1))))
def test_an_argument_arrives_as_it_was_given_or_is_refused_at_its_place(value: Any) -> None:
    refused = refusal(value)

    if refused:
        assert refused.startswith("argument 1 of volume.grow")
    else:
        assert are_same(value, travelled(value))


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=5))
def test_what_is_refused_would_not_have_arrived(value: Any) -> None:
    refused = refusal(value)

    if refused and "equals nothing" not in refused and "an integer of more than" not in refused:
        with pytest.raises((AssertionError, EncodeError, DecodeError)):
            assert are_same(value, travelled(value))


@pytest.mark.parametrize(
    "value",
    [
        [], {}, "", "å\udcff", LOW + HIGH, {LOW: HIGH}, b"\xff", b"a", -0.0, 1e308, float("inf"), float("-inf"), True,
        None, 2**MAX_BITS - 1, 1 - 2**MAX_BITS, Decimal("Infinity"), Decimal("-0.10"), UUID(int=1), date.min, date.max,
        datetime.min, datetime.max, time.max, datetime.max.replace(tzinfo=UTC), time(1, tzinfo=UTC),
        time(1, fold=1, tzinfo=UTC), datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN), datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
        {"__type__": "bytes"}, {"__type__": "bytes", "__value__": "a", "more": 1}, [[{"a": [{"b": 1}]}]],
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_json_and_kombu_can_say_arrives(value: Any) -> None:
    assert refusal(value) == ""
    assert are_same(value, travelled(value))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((1, 2), "(1, 2), a tuple, which would arrive as a list; give a list"),
        (Point(1, 2), "Point(x=1, y=2), a tuple, which would arrive as a list; give a list"),
        ({1}, "{1}, of a type that can't travel"),
        (float("nan"), "nan, which equals nothing"),
        (Decimal("NaN"), "Decimal('NaN'), which equals nothing"),
        (Decimal("sNaN"), "Decimal('sNaN'), which equals nothing"),
        (2**MAX_BITS, f"an integer of more than {MAX_BITS} bits"),
        (-(10**5000), f"an integer of more than {MAX_BITS} bits"),
        (Level.LOW, "of the type Level, which would arrive as int; give that"),
        (Colour.RED, "of the type Colour, which would arrive as str; give that"),
        (Text("a"), "of the type Text, which would arrive as str"),
        (Count(1), "of the type Count, which would arrive as int"),
        (Share(1.5), "of the type Share, which would arrive as float"),
        (Blob(b"a"), "of the type Blob, which would arrive as bytes"),
        (Moment(2026, 1, 1), "of the type Moment, which would arrive as datetime"),
        (Day(2026, 1, 1), "of the type Day, which would arrive as date"),
        (Hour(12), "of the type Hour, which would arrive as time"),
        (Price(1), "of the type Price, which would arrive as Decimal"),
        (Key(int=1), "of the type Key, which would arrive as UUID"),
        (Row([1]), "of the type Row, which would arrive as list"),
        (OrderedDict(a=1), "of the type OrderedDict, which would arrive as dict"),
        (JsonableDict(a=1), "of the type JsonableDict, which would arrive as dict"),
        (Jsonable(), "of a type that can't travel"),
        (HIGH + LOW, "with two surrogates, which would arrive as one character"),
        (time(12, tzinfo=BERLIN), "whose zone or fold would be lost"),
        (datetime(2026, 10, 25, 2, 30, fold=1), "whose zone or fold would be lost"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(microseconds=1))), "whose zone or fold would be lost"),
        (datetime(1, 1, 1, tzinfo=ZoneWithoutOffset()), "whose zone or fold would be lost"),
        ({"__type__": "bytes", "__value__": "a"}, "has just the keys __type__ and __value__"),
        ({1: 2}, "has the key 1: JSON keeps only plain texts as keys"),
        ({Colour.RED: 2}, "has the key <Colour.RED: 'red'>: JSON keeps only plain texts as keys"),
        ({HIGH + LOW: 2}, r"has the key '\ud800\udc00', with two surrogates"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_would_not_arrive_is_refused_with_its_reason(value: Any, says: str) -> None:
    assert says in refusal(value)


def test_a_refusal_names_the_place_however_deep_it_lies() -> None:
    assert refusal(1, [0, {"a": {2}}]).startswith("argument 2 of volume.grow[1]['a'] is {2},")
    assert refusal(disks=[{"size": float("nan")}]).startswith("argument disks of volume.grow[0]['size'] is nan,")
    assert refusal(disks=[{1: 1}]).startswith("argument disks of volume.grow[0] has the key 1:")
    assert refusal(disks=[{}, {"__type__": 1, "__value__": 2}]).startswith("argument disks of volume.grow[1] has just")


def test_keyword_arguments_are_a_dict_on_their_way_too() -> None:
    assert refusal(__type__="bytes", __value__="a") == (
        "volume.grow has just the arguments __type__ and __value__, which mean something to kombu"
    )
    assert "has the key" in refusal(**{HIGH + LOW: 1})


def test_lists_may_nest_to_the_limit_and_no_deeper() -> None:
    deepest: Any = 1
    for _ in range(MAX_DEPTH):
        deepest = [deepest]

    assert refusal(deepest) == ""
    assert travelled(deepest) == deepest
    assert f"nests deeper than {MAX_DEPTH} lists and dicts" in refusal([deepest])
    assert f"nests deeper than {MAX_DEPTH} lists and dicts" in refusal({"a": deepest})


def test_what_contains_itself_is_refused_rather_than_followed() -> None:
    itself: list[Any] = []
    itself.extend([1, itself, itself])
    family: dict[str, Any] = {"children": [{"name": "a"}]}
    family["children"][0]["parent"] = family

    assert "nests deeper" in refusal(itself)
    assert "nests deeper" in refusal(family)


def test_the_types_that_travel_are_those_of_json_and_kombu() -> None:
    spoken = {type(json.loads(word)) for word in ("null", "true", "1", "1.5", '""', "[]", "{}")}

    assert spoken == {NoneType, bool, int, float, str, list, dict}
    for value in (None, True, 1, 1.5, "", [], {}):
        assert refusal(value) == ""
