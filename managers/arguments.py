"""Arguments that arrive as they were given, or are refused at the caller.

A method's arguments travel as JSON in kombu's dialect, which also takes bytes, dates, times, Decimal and UUID. JSON
would turn a tuple into a list, a member of an enum into its value and a number that is a key into a text without a
word; here that is an error. A datetime keeps its moment and its offset from UTC, but not the name of its zone.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from managers.errors import InvalidArguments, shown

#: How deep lists and dicts may nest; the C stack of a JSON decoder is no place to find out.
MAX_DEPTH = 64
#: Bits of an integer: Python reads no more than 4,300 digits without being told to.
MAX_BITS = 14_000

_TYPES = frozenset({str, bytes, bool, int, float, date, datetime, time, Decimal, UUID, NoneType, list, dict})
#: What a dict with exactly these keys means to the decoder.
_ENVELOPE = {"__type__", "__value__"}
#: Two lone surrogates that JSON's decoder takes for one character.
_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_PAIRED = "with two surrogates, which would arrive as one character"


def check_arguments(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise InvalidArguments, naming the place and the value, unless all would arrive as they are."""
    for number, value in enumerate(args):
        _check(value, f"argument {number + 1} of {task}", 0)
    if kwargs.keys() == _ENVELOPE:
        raise InvalidArguments(f"{task} has just the arguments __type__ and __value__, which mean something to kombu")
    for name, value in kwargs.items():
        _check_key(name, task)
        _check(value, f"argument {name} of {task}", 0)


def _check(value: Any, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidArguments(f"{where} nests deeper than {MAX_DEPTH} lists and dicts")
    if (fault := _fault(value)) is not None:
        raise InvalidArguments(f"{where} is {shown(value)}, {fault}")
    if isinstance(value, list):
        for number, entry in enumerate(value):
            _check(entry, f"{where}[{number}]", depth + 1)
    elif isinstance(value, dict):
        for key, entry in value.items():
            _check_key(key, where)
            _check(entry, f"{where}[{shown(key)}]", depth + 1)
        if value.keys() == _ENVELOPE:
            raise InvalidArguments(f"{where} has just the keys __type__ and __value__, which mean something to kombu")


def _check_key(key: Any, where: str) -> None:
    if type(key) is not str:
        raise InvalidArguments(f"{where} has the key {shown(key)}: JSON keeps only plain texts as keys")
    if _PAIR.search(key):
        raise InvalidArguments(f"{where} has the key {shown(key)}, {_PAIRED}")


def _fault(value: Any) -> str | None:
    """Return why *value*, whatever is in it, would not arrive as it is; None if it would."""
    kind = type(value)
    if kind in _TYPES:
        is_lost, why = _LOSSES.get(kind, (None, ""))
        return why if is_lost is not None and is_lost(value) else None
    if isinstance(value, tuple):
        return "a tuple, which would arrive as a list; give a list"
    plain = next((base.__name__ for base in kind.__mro__ if base in _TYPES), None)
    if plain is not None:
        return f"of the type {kind.__name__}, which would arrive as {plain}; give that"
    return "of a type that can't travel; give what JSON knows, bytes, a date or time, Decimal or UUID"


def _loses_offset(value: datetime | time) -> bool:
    """Return whether ISO 8601 can't say all of *value* that makes it a moment, or Python can't read it back."""
    try:
        offset, read = value.utcoffset(), type(value).fromisoformat(value.isoformat())
    except Exception:  # noqa: BLE001  # a zone is user code
        return True
    if offset is None:
        return value.tzinfo is not None or bool(value.fold)
    return read.utcoffset() != offset


_NOTHING = "which equals nothing, not even itself where it arrives"
_ZONE = "whose zone or fold would be lost; give it an offset from UTC, in seconds"
#: What a value of a type that travels may still lose.
_LOSSES: Mapping[type, tuple[Callable[[Any], object], str]] = {
    str: (_PAIR.search, _PAIRED),
    int: (lambda value: value.bit_length() > MAX_BITS, f"an integer of more than {MAX_BITS} bits"),
    float: (math.isnan, _NOTHING),
    Decimal: (Decimal.is_nan, _NOTHING),
    datetime: (_loses_offset, _ZONE),
    time: (_loses_offset, _ZONE),
}
