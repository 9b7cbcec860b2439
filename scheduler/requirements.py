"""What a task asks of a host, as data: an expression's meaning, which travels as JSON and is asked of capabilities."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from managers.errors import shown
from managers.reports import Scalar
from scheduler.errors import InvalidRequirement
from scheduler.operators import Capabilities, Matcher, matcher
from scheduler.requirement_parser import MAX_BYTES, parse
from scheduler.requirement_text import to_text
from scheduler.requirement_tree import (
    MAX_DEPTH,
    AllOf,
    AnyOf,
    Node,
    Not,
    Term,
    TermMaker,
    canonical,
    depth,
    from_tree,
    terms_of,
    to_json,
    to_tree,
)

#: Letters of an expression that is remembered with what it means.
_MAX_REMEMBERED = 2048


@dataclass(frozen=True, slots=True, repr=False)
class Requirement:
    """A condition on a host's capabilities; two are equal if their canonical trees are.

    Make one by ``parse``, ``of`` or ``from_tree``. ``shape`` is a short hash of the canonical JSON: the same for all
    that mean the same, as far as the canonical form goes. ``keys`` are the capabilities it names.
    """

    json: str
    shape: str = field(compare=False)
    keys: frozenset[str] = field(compare=False)
    _text: str = field(compare=False)
    _node: Node = field(compare=False)
    _matcher: Matcher = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> "Requirement":
        """Return the requirement that the expression *text* asks; blank text asks for nothing.

        Raises:
            InvalidRequirement: and nothing else; the message points at the fault.
        """
        if not isinstance(text, str):
            raise InvalidRequirement(f"a requirement is a text, not {shown(text)}")
        return _remembered(text) if len(text) <= _MAX_REMEMBERED else _made(parse(text))

    @classmethod
    def of(cls, asked: "str | Mapping[str, Scalar | Sequence[Scalar]] | Requirement | None") -> "Requirement":
        """Return the requirement that a user gave: an expression, equalities, a requirement, or None for anything.

        Of a mapping each key must equal its value, or one of its values where they are a list.

        Raises:
            InvalidRequirement: what was given asks nothing that can be answered.
        """
        if isinstance(asked, Requirement):
            return asked
        if isinstance(asked, str):
            return cls.parse(asked)
        if asked is not None and not isinstance(asked, Mapping):
            raise InvalidRequirement(
                f"a requirement is an expression or a mapping of keys to values, not {shown(asked)}"
            )
        terms = TermMaker()
        equalities = tuple(_equality(terms, key, value) for key, value in (asked or {}).items())
        return _made(AllOf(equalities))

    @classmethod
    def from_tree(cls, tree: object) -> "Requirement":
        """Return the requirement in *tree*, a decoded JSON value of unknown origin.

        Raises:
            InvalidRequirement: it is no tree, or breaks a limit.
        """
        return _made(from_tree(tree))

    @property
    def tree(self) -> dict[str, Any]:
        """The canonical JSON operator tree, the only wire form; a copy each time."""
        return to_tree(self._node)

    @property
    def clauses(self) -> "tuple[Requirement, ...]":
        """The terms that must all be true: itself if there is but one, none if it asks nothing."""
        if not isinstance(self._node, AllOf):
            return (self,)
        return tuple(_made(operand) for operand in self._node.operands)

    def matches(self, capabilities: Capabilities) -> bool:
        """Say whether a host that reported *capabilities* is what is asked; never raises, whatever they hold."""
        return self._matcher(capabilities)

    def __str__(self) -> str:
        """Return the canonical expression, which is read again as the same requirement."""
        return self._text

    def __repr__(self) -> str:
        return f"Requirement.parse({self._text!r})"

    def __reduce__(self) -> "tuple[Callable[[object], Requirement], tuple[object]]":
        return self.from_tree, (self.tree,)


def _made(written: Node) -> Requirement:
    node = canonical(written)
    if (levels := depth(node)) > MAX_DEPTH:
        raise InvalidRequirement(f"the requirement is {levels} deep; the limit is {MAX_DEPTH}")
    json, text = to_json(node), to_text(node)
    for form, size in (("JSON", len(json.encode())), ("text", len(text.encode()))):
        if size > MAX_BYTES:
            raise InvalidRequirement(f"the requirement takes {size} bytes as {form}; the limit is {MAX_BYTES}")
    return Requirement(
        json=json,
        shape=hashlib.sha256(json.encode()).hexdigest()[:16],
        keys=frozenset(term.key for term in terms_of(node)),
        _text=text,
        _node=node,
        _matcher=_compiled(node),
    )


@lru_cache(maxsize=1024)
def _remembered(text: str) -> Requirement:
    return _made(parse(text))


def _equality(terms: TermMaker, key: object, value: object) -> Term:
    if not isinstance(key, str):
        raise InvalidRequirement(f"{shown(key)} is no key: it is no text")
    if isinstance(value, Mapping):
        raise InvalidRequirement(f"{shown(key)} is to equal {shown(value)}: a tree goes into Requirement.from_tree")
    try:
        return terms.make(key, "in" if isinstance(value, list | tuple) else "==", value)
    except InvalidRequirement as error:
        raise InvalidRequirement(f"{shown(key)}: {error}") from None


def _compiled(node: Node) -> Matcher:
    if isinstance(node, Term):
        return matcher(node.key, node.operator, node.value)
    if isinstance(node, Not):
        refused = _compiled(node.operand)
        return lambda capabilities: not refused(capabilities)
    matchers = tuple(map(_compiled, node.operands))
    return _any_of(matchers) if isinstance(node, AnyOf) else _all_of(matchers)


def _all_of(matchers: tuple[Matcher, ...]) -> Matcher:
    def matches(capabilities: Capabilities) -> bool:
        for one in matchers:  # noqa: SIM110  # a generator in all() costs more than the terms
            if not one(capabilities):
                return False
        return True

    return matches


def _any_of(matchers: tuple[Matcher, ...]) -> Matcher:
    def matches(capabilities: Capabilities) -> bool:
        for one in matchers:  # noqa: SIM110  # as above
            if one(capabilities):
                return True
        return False

    return matches
