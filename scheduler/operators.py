"""What a requirement's operators mean: the value each takes, and how it asks a host's capabilities.

A missing key and a value of the wrong type make every operator false, ``!=`` and ``not_in`` included. A number compares
with numbers, a text with texts, a bool with bools, and a bool is no number. Types are compared by identity, so that no
method of a stranger's object is ever called.
"""

import fnmatch
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from packaging.utils import canonicalize_version
from packaging.version import InvalidVersion, Version

from managers.errors import shown
from managers.reports import MAX_LIST, MAX_NUMBER, Scalar, Value
from scheduler.errors import InvalidRequirement

Capabilities = Mapping[str, Value]
Matcher = Callable[[Capabilities], bool]
Operand = Scalar | tuple[Scalar, ...]

#: Letters of a glob's pattern.
MAX_PATTERN = 128
#: Letters of a version, asked or reported.
MAX_VERSION = 128

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = (*COMPARISONS, "in", "not_in", "contains", "not_contains", "exists", "version", "glob")

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_operand(name: str, value: object) -> Operand:
    """Return *value* in its canonical form if the operator *name* takes it, else raise InvalidRequirement."""
    if name in {"in", "not_in"}:
        return _constants(value)
    if name == "exists":
        if value is not True:
            raise InvalidRequirement(f"'exists' takes true, not {shown(value)}: for a missing key negate it")
        return True
    if name == "version":
        return _version_test(value)
    if name == "glob":
        return _pattern(value)
    return _constant(value)


def matcher(key: str, name: str, value: Any) -> Matcher:
    """Return the function that asks capabilities whether *key* has the operator *name* with the checked *value*."""
    if name in {"==", "in"}:
        test = _is_one_of(value if name == "in" else (value,))
    elif name in {"!=", "not_in"}:
        test = _is_none_of(value if name == "not_in" else (value,))
    elif name in {"contains", "not_contains"}:
        test = _holds((value,), wanted=name == "contains")
    elif name == "version":
        test = _has_version(COMPARISONS[value[0]], Version(value[1]))
    elif name == "glob":
        test = _looks_like(value)
    elif name in COMPARISONS:
        test = _is_ordered(COMPARISONS[name], value)
    else:
        return lambda capabilities: key in capabilities
    return lambda capabilities: test(capabilities.get(key))  # None is a value of no operator


def _is_one_of(constants: tuple[Scalar, ...]) -> Callable[[object], bool]:
    texts, numbers, bools = _by_type(constants)

    def test(value: object) -> bool:
        kind = type(value)
        if kind is str:
            return value in texts
        if kind is int or kind is float:
            return value in numbers
        return kind is bool and value in bools

    return test


def _is_none_of(constants: tuple[Scalar, ...]) -> Callable[[object], bool]:
    texts, numbers, bools = _by_type(constants)

    def test(value: object) -> bool:
        kind = type(value)
        if kind is str:
            return bool(texts) and value not in texts
        if kind is int or kind is float:
            return bool(numbers) and value not in numbers and value == value  # noqa: PLR0124  # NaN is no number
        return kind is bool and bool(bools) and value not in bools

    return test


def _holds(constants: tuple[Scalar, ...], *, wanted: bool) -> Callable[[object], bool]:
    is_wanted = _is_one_of(constants)

    def test(value: object) -> bool:
        return type(value) is list and any(map(is_wanted, value)) is wanted

    return test


def _is_ordered(compare: Callable[[Any, Any], bool], constant: Scalar) -> Callable[[object], bool]:
    if isinstance(constant, bool):
        return lambda _: False

    def text(value: object) -> bool:
        return type(value) is str and compare(value, constant)

    def number(value: object) -> bool:
        kind = type(value)
        return (kind is int or kind is float) and compare(value, constant)

    return text if isinstance(constant, str) else number


def _has_version(compare: Callable[[Any, Any], bool], asked: Version) -> Callable[[object], bool]:
    def test(value: object) -> bool:
        if type(value) is not str or len(value) > MAX_VERSION:
            return False
        reported = _version(value)
        return reported is not None and compare(reported, asked)

    return test


def _looks_like(pattern: str) -> Callable[[object], bool]:
    found = re.compile(fnmatch.translate(pattern)).match  # atomic groups since Python 3.11: a star never backtracks
    return lambda value: type(value) is str and found(value) is not None


def _by_type(constants: tuple[Scalar, ...]) -> tuple[frozenset[str], frozenset[int | float], frozenset[bool]]:
    return (
        frozenset(constant for constant in constants if isinstance(constant, str)),
        frozenset(constant for constant in constants if not isinstance(constant, bool | str)),
        frozenset(constant for constant in constants if isinstance(constant, bool)),
    )


@lru_cache(maxsize=4096)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _constants(value: object) -> tuple[Scalar, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidRequirement(f"{shown(value)} is no list of constants")
    if not value:
        raise InvalidRequirement("the list is empty: it needs at least one constant")
    if len(value) > MAX_LIST:
        raise InvalidRequirement(f"the list has {len(value)} constants; the limit is {MAX_LIST}")
    checked = {(type(constant) is str, type(constant) is bool, constant) for constant in map(_constant, value)}
    return tuple(constant for _, _, constant in sorted(checked))


def _constant(value: object) -> Scalar:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if found := _SURROGATE.search(value):
            raise InvalidRequirement(f"{shown(value)} holds {shown(found[0])}, which UTF-8 can't carry")
        return value
    if not isinstance(value, int | float):
        raise InvalidRequirement(f"{shown(value)} is no constant: use a bool, a number or a text")
    if not -MAX_NUMBER <= value <= MAX_NUMBER:  # NaN is within nothing
        raise InvalidRequirement(f"{shown(value)} is too large a number: they are finite and within ±2^53")
    return int(value) if value == int(value) else value


def _version_test(value: object) -> tuple[str, str]:
    match value:
        case [str(comparison), text] if comparison in COMPARISONS:
            return comparison, _canonical_version(text)
    raise InvalidRequirement(f"'version' takes a comparison and a version such as ['>=', '12.2'], not {shown(value)}")


def _canonical_version(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidRequirement(f"{shown(text)} is no version: put it in quotes, such as '12.2'")
    if len(text) > MAX_VERSION:
        raise InvalidRequirement(f"the version has {len(text)} letters; the limit is {MAX_VERSION}")
    version = _version(text)
    if version is None:
        raise InvalidRequirement(f"{shown(text)} is no version as PEP 440 has them, such as '12.2' or '3.0rc1'")
    return canonicalize_version(version)


def _pattern(value: object) -> str:
    text = _constant(value)
    if not isinstance(text, str):
        raise InvalidRequirement(f"{shown(value)} is no pattern: put it in quotes, such as 'A*'")
    if len(text) > MAX_PATTERN:
        raise InvalidRequirement(f"the pattern has {len(text)} letters; the limit is {MAX_PATTERN}")
    return text
