"""Labels: what the operator says of a host in the setting ``CELERIAC_LABELS``, as typed capabilities.

    zone=a, disk=ssd, ports=4, fast=true, ratio=0.5, models=[a|b|c], cuda='12.10', note="one, two"

Labels are separated by commas, a list's items by ``|``. A value is true or false in any case, a whole number,
a decimal number, or else a string. In quotes, single or double, it stays a string whatever it looks like
and may hold any character; a doubled quote stands for itself. Quote versions: bare, 12.10 is the number 12.1.
A number with a leading zero or plus (``rack=007``) is a string too, since its look matters. White space around
keys and values is ignored. ``[]`` is the empty list; a list holds no lists.
"""

import re
from typing import NoReturn

from managers.errors import InvalidLabels
from managers.reports import MAX_LIST, MAX_NUMBER, Scalar, Value

_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r"""'((?:[^']|'')*+)'|"((?:[^"]|"")*+)\"""")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(_INTEGER.pattern + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


def parse_labels(text: str) -> dict[str, Value]:
    """Return the labels in ``text``, in their order; blank text has none.

    Raises:
        InvalidLabels: Naming the label, its value and the way out. One wrong label refuses them all.
    """
    labels: dict[str, Value] = {}
    reader = _Reader(text)
    while reader.has_more():
        key, value = reader.key(), reader.value()
        if key in labels:
            raise InvalidLabels(
                f"label {key!r} is given twice, {labels[key]!r} and {value!r}: keep one, or make a list"
            )
        labels[key] = value
    return labels


class _Reader:
    """Reads labels from left to right: is there one, its key, its value."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._at = 0
        self._label = ""

    def has_more(self) -> bool:
        return self._take(",") if self._at else bool(self._text)

    def key(self) -> str:
        text = self._until(",")
        self._label, equals, _ = (part.strip() for part in text.partition("="))
        if not text.strip():
            raise InvalidLabels(f"label '' before or after a comma of {self._text!r} is empty: remove that comma")
        if not equals:
            raise InvalidLabels(
                f"label {self._label!r} has no '=': write key=value, or quote a value that holds a comma"
            )
        if not _KEY.fullmatch(self._label):
            raise InvalidLabels(
                f"label {text.strip()!r} has the key {self._label!r}: use 1 to 128 of A-Z a-z 0-9 _ . : -"
            )
        self._at += text.index("=") + 1
        return self._label

    def value(self) -> Value:
        self._skip_space()
        start = self._at
        value = self._list() if self._take("[") else self._scalar(",")
        if self._at < len(self._text) and self._text[self._at] != ",":
            self._refuse(self._text[start : self._at] + self._until(","), "goes on after its end: put a comma there")
        return value

    def _list(self) -> list[Scalar]:
        start = self._at - 1
        items: list[Scalar] = []
        self._skip_space()
        while not self._take("]"):
            if items and not self._take("|"):
                self._refuse(self._text[start:], "isn't a list: put '|' between its items and ']' at its end")
            items.append(self._scalar("|],"))
        self._skip_space()
        if len(items) > MAX_LIST:
            self._refuse(self._text[start : self._at], f"is a list of {len(items)} items: {MAX_LIST} is the most")
        return items

    def _scalar(self, ends: str) -> Scalar:
        self._skip_space()
        if quoted := _QUOTED.match(self._text, self._at):
            self._at = quoted.end()
            self._skip_space()
            mark = quoted[0][0]
            return quoted[0][1:-1].replace(mark * 2, mark)
        bare = self._until(ends)
        self._at += len(bare)
        return self._typed(bare.strip())

    def _typed(self, bare: str) -> Scalar:
        if not bare:
            self._refuse(bare, "is empty: write '' for an empty string")
        if bare[0] in "'\"":
            self._refuse(bare, f"opens a quote that nothing closes: end it with {bare[0]}")
        # Labels parted by blanks or lines instead of commas would otherwise become one long string.
        if "=" in bare:
            self._refuse(bare, "holds another '=': put a comma between labels, or quote the value")
        if bare.lower() in {"true", "false"}:
            return bare.lower() == "true"
        if _NOT_FINITE.fullmatch(bare):
            self._refuse(bare, "isn't a finite number: quote it to keep it as a string")
        if not _DECIMAL.fullmatch(bare):
            return bare
        # As a float first: int() refuses thousands of digits with an error of its own.
        number: int | float = float(bare)
        if abs(number) <= MAX_NUMBER and _INTEGER.fullmatch(bare):
            number = int(bare)
        if abs(number) > MAX_NUMBER:
            self._refuse(bare, "is beyond ±2^53: quote it to keep it as a string")
        return number

    def _until(self, ends: str) -> str:
        found = (self._text.find(end, self._at) for end in ends)
        return self._text[self._at : min((at for at in found if at >= 0), default=len(self._text))]

    def _take(self, character: str) -> bool:
        is_next = self._text.startswith(character, self._at)
        self._at += is_next
        return is_next

    def _skip_space(self) -> None:
        if space := _SPACE.match(self._text, self._at):
            self._at = space.end()

    def _refuse(self, value: str, why: str) -> NoReturn:
        shown = value.strip()
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise InvalidLabels(f"label {self._label!r}: value {shown!r} {why}")
