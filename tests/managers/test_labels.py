"""The operator's labels become typed capabilities, or an error that says what to write instead."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managers.errors import InvalidLabels
from managers.labels import parse_labels
from managers.reports import MAX_NUMBER, Scalar, Value, check_capabilities

KEYS = st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-MAX_NUMBER, MAX_NUMBER),
    st.floats(-MAX_NUMBER, MAX_NUMBER),
    st.text(),
    st.text(alphabet="ab 01.,=|[]'\"\\-+e"),
)
LABELS = st.dictionaries(KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=5)), max_size=5)
BLANKS = st.sampled_from(["", " ", "\n\t "])


def scalar_text(value: Scalar, quote: str) -> str:
    if isinstance(value, str):
        return f"{quote}{value.replace(quote, quote * 2)}{quote}"
    return str(value).lower()


def value_text(value: Value, quote: str, blank: str) -> str:
    if isinstance(value, list):
        return f"[{blank}{f'{blank}|{blank}'.join(scalar_text(item, quote) for item in value)}{blank}]"
    return scalar_text(value, quote)


def refusal(text: str) -> str:
    with pytest.raises(InvalidLabels) as refused:
        parse_labels(text)
    return str(refused.value)


@given(LABELS, st.sampled_from("'\""), BLANKS)
def test_every_label_survives_being_written_and_parsed(labels: dict[str, Value], quote: str, blank: str) -> None:
    written = [f"{blank}{key}{blank}={blank}{value_text(value, quote, blank)}{blank}" for key, value in labels.items()]

    parsed = parse_labels(",".join(written))

    # As JSON, since True == 1 == 1.0 in Python but not on the wire.
    assert json.dumps(parsed) == json.dumps(labels)


@given(st.one_of(st.text(), st.text(alphabet="ab=,|[]'\" 019.-+eEnaif\n"), st.from_regex(r"a=[0-9eE.+-]+")))
def test_any_text_is_parsed_within_the_limits_or_refused_as_invalid(text: str) -> None:
    try:
        parsed = parse_labels(text)
    except InvalidLabels:
        return

    check_capabilities("host", parsed)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", "a"),
        ("4", 4),
        ("-4", -4),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("'4'", "4"),
        ('"true"', "true"),
        ("'nan'", "nan"),
        ("'one, two'", "one, two"),
        ("'it''s'", "it's"),
        ("it's", "it's"),
        ("''", ""),
        ("007", "007"),
        ("+5", "+5"),
        ("12.2.1", "12.2.1"),
        ("1_000", "1_000"),
        ("٤", "٤"),
        ("two words", "two words"),
        ("[]", []),
        ("[a]", ["a"]),
        ("[a|4|true|'4']", ["a", 4, True, "4"]),
        ("['a|b'|'c]']", ["a|b", "c]"]),
        ("9007199254740992", MAX_NUMBER),
    ],
)
def test_a_value_has_the_type_it_looks_like(text: str, value: Value) -> None:
    parsed = parse_labels(f"key={text}")["key"]

    assert (type(parsed), parsed) == (type(value), value)


def test_labels_are_separated_by_commas_and_blank_text_has_none() -> None:
    assert parse_labels("zone=a,disk = ssd ,\n models=[a|b]") == {"zone": "a", "disk": "ssd", "models": ["a", "b"]}
    assert parse_labels("") == parse_labels(" \n") == {}


@pytest.mark.parametrize(
    ("text", "culprit", "way_out"),
    [
        ("zone=a,disk", "'disk'", "key=value"),
        ("=a", "'=a'", "A-Z a-z 0-9"),
        ("größe=1", "'größe'", "A-Z a-z 0-9"),
        ("k" * 129 + "=1", "k" * 129, "1 to 128"),
        ("zone=a,disk=b,zone=c", "'zone' is given twice, 'a' and 'c'", "keep one"),
        ("zone=", "'zone'", "write ''"),
        ("zone=a,", "'zone=a,'", "remove that comma"),
        (",zone=a", "',zone=a'", "remove that comma"),
        ("zone=a,,disk=b", "'zone=a,,disk=b'", "remove that comma"),
        ("ratio=nan", "'ratio': value 'nan'", "quote it"),
        ("ratio=-Infinity", "'ratio': value '-Infinity'", "quote it"),
        ("ratio=1e999", "'ratio': value '1e999'", "quote it"),
        ("serial=9007199254740993", "'serial': value '9007199254740993'", "quote it"),
        ("serial=-9007199254740993", "'serial': value '-9007199254740993'", "quote it"),
        ("zone=a disk=ssd", "'zone': value 'a disk=ssd'", "put a comma"),
        ("zone='a", "'zone'", "end it with '"),
        ("zone='a'b", "'zone'", "put a comma"),
        ("models=[a,b]", "'models': value '[a,b]'", "put '|' between"),
        ("models=[a|b", "'models': value '[a|b'", "']' at its end"),
        ("models=[a|]", "'models'", "write ''"),
        ("models=[" + "|".join("a" * 1001) + "]", "'models'", "1000 is the most"),
    ],
)
def test_a_refusal_names_the_label_the_value_and_the_way_out(text: str, culprit: str, way_out: str) -> None:
    message = refusal(text)

    assert culprit in message
    assert way_out in message


def test_a_refusal_of_thousands_of_digits_stays_readable() -> None:
    assert len(refusal("serial=" + "9" * 5000)) < 200
