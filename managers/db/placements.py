"""A placement as the history is given it, checked and turned into a row."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import String, inspect

from managers.db.errors import InvalidRecord
from managers.db.models import Placement
from managers.db.timestamps import moment
from managers.errors import shown
from managers.reports import MAX_KEYS, MAX_NUMBER

#: Letters of the reasons that are kept; a longer text ends in "…" there.
MAX_REASONS = 4000
#: Letters of a claim's name.
MAX_CLAIM = 128
#: The largest attempt that a database counts to.
MAX_ATTEMPT = 2**31 - 1

_COLUMNS = {column.name: column for column in inspect(Placement).columns}
_OPTIONAL = {name for name, column in _COLUMNS.items() if column.nullable} | {"claims"}
_LENGTHS = {name: column.type.length or 0 for name, column in _COLUMNS.items() if type(column.type) is String}
_TIMES = {name for name in _COLUMNS if name.endswith("_at")}


def rows(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each record as a row, whose keys are the columns; optional ones may be missing or None.

    Raises:
        InvalidRecord: the message and `index` name the first bad record.
    """
    made = []
    for index, record in enumerate(records):
        try:
            made.append(_row(record))
        except _Fault as fault:
            raise InvalidRecord(index, str(fault)) from None
    return made


def is_storable(text: str) -> bool:
    """Whether every database takes the text: PostgreSQL stores no NUL, and neither stores half a surrogate pair."""
    return text == storable(text)


def storable(text: str) -> str:
    """Return the text with a question mark for each letter that not every database takes."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


class _Fault(Exception):
    """What is wrong with a record, in words that follow its name."""


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(record, Mapping):
        raise _Fault(f"{shown(record)} is no mapping")
    for name in record:
        if name not in _COLUMNS:
            raise _Fault(f"{_culprit(record)} has the unknown key {shown(name)}; known are {', '.join(_COLUMNS)}")
    row = {}
    for name in _COLUMNS:
        value = record.get(name)
        if value is None and name not in _OPTIONAL:
            raise _Fault(f"{_culprit(record)} has no {name}")
        try:
            row[name] = _value(name, value)
        except _Fault as fault:
            raise _Fault(f"{_culprit(record)}: {name} {fault}") from None
    return row


def _culprit(record: Mapping[str, Any]) -> str:
    return f"attempt {shown(record.get('attempt'))} of request {shown(record.get('request_id'))}"


def _value(name: str, value: Any) -> object:
    if name == "claims":
        return _claims(value)
    if value is None:
        return None
    if name in _TIMES:
        return _time(value)
    if name == "attempt":
        return _attempt(value)
    return _reasons(value) if name == "reasons" else _text(value, _LENGTHS[name])


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or not is_storable(value):
        raise _Fault(f"is {shown(value)}, not a text of 1 to {limit} letters without NUL")
    return str.__str__(value)  # a database driver would store a member of an enumeration by its name


def _attempt(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_ATTEMPT:
        raise _Fault(f"is {shown(value)}, not a whole number from 0 to 2^31-1")
    return int(value)


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        raise _Fault(f"is {shown(value)}; use seconds since 1970")
    try:
        return moment(value)
    except ValueError as fault:
        raise _Fault(f"is wrong: {fault}") from None


def _claims(value: Any) -> str:
    claims = {} if value is None else value
    if not isinstance(claims, Mapping) or len(claims) > MAX_KEYS:
        raise _Fault(f"are {shown(value)}, not a mapping of at most {MAX_KEYS} names to amounts")
    for name, amount in claims.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_CLAIM:
            raise _Fault(f"name {shown(name)}, not a text of 1 to {MAX_CLAIM} letters")
        if not isinstance(amount, int | float) or isinstance(amount, bool) or not -MAX_NUMBER <= amount <= MAX_NUMBER:
            raise _Fault(f"hold {shown(amount)} of {shown(name)}, not a finite number within ±2^53")
    return json.dumps(dict(claims), sort_keys=True)


def _reasons(value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault(f"are {shown(value)}, not a text")
    return storable(value if len(value) <= MAX_REASONS else f"{value[: MAX_REASONS - 1]}…")
