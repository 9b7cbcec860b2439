"""A requirement as text: what is written for a node, and how a fault in a text is pointed at."""

import keyword
import re
import unicodedata

from scheduler.errors import InvalidRequirement
from scheduler.requirement_tree import AllOf, Node, Not, Term

#: Letters shown before and after a fault.
_BEFORE, _AFTER = 50, 40

_FORMS = {
    "in": "{key} in {value!r}",
    "not_in": "{key} not in {value!r}",
    "contains": "{value!r} in {key}",
    "not_contains": "{value!r} not in {key}",
    "exists": "has({key})",
    "glob": "glob({key}, {value!r})",
}

#: A key that an expression may name as it is, unless a part is a word of Python.
BARE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def to_text(node: Node) -> str:
    """Return the expression of *node*, which is read again as the same node."""
    if isinstance(node, Term):
        return _term(node)
    if isinstance(node, Not):
        operand = node.operand
        text = to_text(operand)
        return f"not {text}" if isinstance(operand, Term) and _is_condition(operand) else f"not ({text})"
    word = " and " if isinstance(node, AllOf) else " or "
    return word.join(f"({to_text(one)})" if not isinstance(one, Term | Not) else to_text(one) for one in node.operands)


def key_text(key: str) -> str:
    """Return how *key* is written in an expression: bare if Python can read it so."""
    is_bare = BARE_KEY.fullmatch(key) and not any(map(keyword.iskeyword, key.split(".")))
    return key if is_bare else f"key({key!r})"


def refusal(text: str, at: int, said: str) -> InvalidRequirement:
    """Return the error that says what is wrong and points at the letter *at* of *text*."""
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].split("\n", 1)[0]
    column = at - start
    place = (
        f"column {column + 1}" if "\n" not in text else f"line {text.count(chr(10), 0, at) + 1}, column {column + 1}"
    )
    before, after = line[max(0, column - _BEFORE) : column], line[column : column + _AFTER]
    before = f"... {before}" if column > _BEFORE else before
    after = f"{after} ..." if len(line) > column + _AFTER else after
    shown = "".join(letter if letter.isprintable() else " " for letter in before + after)
    caret = " " * sum(map(_width, shown[: len(before)]))
    return InvalidRequirement(f"{said} ({place})\n  {shown}\n  {caret}^")


def _term(term: Term) -> str:
    key, value = key_text(term.key), term.value
    if value is True and term.operator == "==":
        return key
    if isinstance(value, tuple) and term.operator == "version":
        return f"version({key}) {value[0]} {value[1]!r}"
    return _FORMS.get(term.operator, "{key} {operator} {value!r}").format(key=key, operator=term.operator, value=value)


def _is_condition(term: Term) -> bool:
    return term.operator in {"exists", "glob"} or (term.operator == "==" and term.value is True)


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
