"""A requirement as a tree: its canonical form, and its wire form in JSON.

A node is one of::

    {"all": [node, …]}    {"any": [node, …]}    {"not": node}    {"<key>": {"<operator>": value}}

with the operators ``== != < <= > >= in not_in contains not_contains exists version glob``. A key that is named all, any
or not is written as in an expression, ``{"key('all')": {"==": 1}}``: the brackets and quotes are no letters of a key.
``{}`` and ``{"all": []}`` ask for nothing; inside a tree neither may stand.

Two trees of one canonical form mean the same. It has nested all and any flattened, double negations dropped, operands
and constants sorted and without repetition, all and any of one operand unwrapped, a list of one constant made a
comparison, and numbers and versions in their shortest form. A negation stays where it is: a missing key makes both
``x == 1`` and ``x != 1`` false, so ``not`` can't be moved into a comparison.
"""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from managers.errors import shown
from managers.reports import KEY, MAX_KEY
from scheduler.errors import InvalidRequirement
from scheduler.operators import OPERATORS, Operand, check_operand

#: All, any and not inside each other, the term included.
MAX_DEPTH = 8
#: Terms of a requirement, as written.
MAX_TERMS = 64
#: Constants of all its lists together, as written.
MAX_CONSTANTS = 4000
#: What stands inside each other as written, before the canonical form is made.
MAX_NESTING = 64

_RESERVED = {f"key('{name}')": name for name in ("all", "any", "not")}
_WRITTEN = {name: written for written, name in _RESERVED.items()}


@dataclass(frozen=True, slots=True)
class Term:
    """One question about one key."""

    key: str
    operator: str
    value: Operand


@dataclass(frozen=True, slots=True)
class AllOf:
    """True if every operand is; without operands it always is."""

    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if one operand is."""

    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True if its operand is not."""

    operand: "Node"


Node = Term | AllOf | AnyOf | Not

ANYTHING = AllOf(())


def check_key(key: str) -> str:
    """Return *key* if a capability may be called so, else raise InvalidRequirement."""
    if not KEY.fullmatch(key):
        raise InvalidRequirement(f"{shown(key)} is no key: use 1 to {MAX_KEY} of A-Z a-z 0-9 _ . : -")
    return key


def make_term(key: str, name: str, value: object) -> Term:
    """Return the canonical term, or raise InvalidRequirement where key, operator or value isn't one."""
    check_key(key)
    if name not in OPERATORS:
        near = difflib.get_close_matches(name[:20], OPERATORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {' '.join(OPERATORS)}"
        raise InvalidRequirement(f"{shown(name)} is no operator: {hint}")
    operand = check_operand(name, value)
    if name in {"in", "not_in"} and isinstance(operand, tuple) and len(operand) == 1:
        return Term(key, "==" if name == "in" else "!=", operand[0])
    return Term(key, name, operand)


def canonical(node: Node) -> Node:
    """Return the canonical form of *node*, whose terms are canonical."""
    if isinstance(node, Term):
        return node
    if isinstance(node, Not):
        operand = canonical(node.operand)
        return operand.operand if isinstance(operand, Not) else Not(operand)
    kind = type(node)
    by_json: dict[str, Node] = {}
    for operand in map(canonical, node.operands):
        inner = operand.operands if isinstance(operand, kind) else (operand,)
        by_json.update((to_json(one), one) for one in inner)
    operands = tuple(by_json[key] for key in sorted(by_json))
    return operands[0] if len(operands) == 1 else kind(operands)


def depth(node: Node) -> int:
    """Return how many nodes are inside each other; a term is one."""
    if isinstance(node, Term):
        return 1
    inner = (node.operand,) if isinstance(node, Not) else node.operands
    return 1 + max(map(depth, inner), default=0)


def terms_of(node: Node) -> Iterator[Term]:
    """Yield the terms of *node*, left to right."""
    if isinstance(node, Term):
        yield node
    else:
        for operand in (node.operand,) if isinstance(node, Not) else node.operands:
            yield from terms_of(operand)


def to_tree(node: Node) -> dict[str, object]:
    """Return *node* as JSON has it."""
    if isinstance(node, Term):
        value = list(node.value) if isinstance(node.value, tuple) else node.value
        return {_WRITTEN.get(node.key, node.key): {node.operator: value}}
    if isinstance(node, Not):
        return {"not": to_tree(node.operand)}
    return {"all" if isinstance(node, AllOf) else "any": [to_tree(operand) for operand in node.operands]}


def to_json(node: Node) -> str:
    """Return the one JSON text of *node*."""
    return json.dumps(to_tree(node), ensure_ascii=False, separators=(",", ":"))


def from_tree(tree: object) -> Node:
    """Return the node in *tree*, a decoded JSON value of unknown origin; raise InvalidRequirement if it has none."""
    if tree in ({}, {"all": []}):
        return ANYTHING
    return _Reader().node(tree, MAX_NESTING)


class TermMaker:
    """Makes the terms of one requirement and counts them, so that nobody has to read a million."""

    def __init__(self) -> None:
        self._terms = 0
        self._constants = 0

    def make(self, key: str, name: str, value: object) -> Term:
        """Return the canonical term, or raise InvalidRequirement where it isn't one, or one too many."""
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise InvalidRequirement(f"this is term {self._terms}; the limit is {MAX_TERMS}")
        self._constants += len(value) if name in {"in", "not_in"} and isinstance(value, list | tuple) else 0
        if self._constants > MAX_CONSTANTS:
            raise InvalidRequirement(
                f"the lists have {self._constants} constants up to here; the limit is {MAX_CONSTANTS}"
            )
        return make_term(key, name, value)


class _Reader:
    """Reads a tree from the top."""

    def __init__(self) -> None:
        self._terms = TermMaker()

    def node(self, tree: object, levels: int) -> Node:
        if not levels:
            raise InvalidRequirement(
                f"the tree is nested {MAX_NESTING + 1} deep as written; the limit is {MAX_NESTING}"
            )
        name, body = _only_item(tree, "a node")
        if name in {"all", "any"}:
            if not isinstance(body, list) or not body:
                raise InvalidRequirement(
                    f"{name!r} takes a list of at least one node, not {shown(body)};"
                    f" a key of that name is written {_WRITTEN[name]}"
                )
            operands = tuple(self.node(operand, levels - 1) for operand in body)
            return AllOf(operands) if name == "all" else AnyOf(operands)
        if name == "not":
            return Not(self.node(body, levels - 1))
        return self._terms.make(_RESERVED.get(name, name), *_only_item(body, f"what {shown(name)} is asked"))


def _only_item(value: object, what: str) -> tuple[str, object]:
    if not isinstance(value, dict) or len(value) != 1:
        raise InvalidRequirement(f"{what} is an object of one entry, not {shown(value)}")
    ((name, body),) = value.items()
    if not isinstance(name, str):
        raise InvalidRequirement(f"{what} has the name {shown(name)}, which is no text")
    return name, body
