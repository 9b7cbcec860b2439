"""Reads a requirement's expression: Python's own parser makes a syntax tree, and what isn't on a short list is refused.

Nothing is ever evaluated. The tree's columns are bytes of UTF-8, the user's are letters.
"""

import ast
import re

from managers.errors import shown
from managers.reports import MAX_LIST
from scheduler.errors import InvalidRequirement
from scheduler.requirement_faults import key_of, no_condition, no_constant, no_holder, no_key
from scheduler.requirement_scanner import check_words
from scheduler.requirement_text import refusal
from scheduler.requirement_tree import (
    ANYTHING,
    MAX_NESTING,
    AllOf,
    AnyOf,
    Node,
    Not,
    Term,
    TermMaker,
    check_key,
)

#: Bytes of a requirement, as text and as JSON.
MAX_BYTES = 64 * 1024

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_WORD = re.compile(r"\s*([A-Za-z0-9_.]{1,40}|[=!<>]=|\S)")
_TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def parse(text: str) -> Node:
    """Return the node of the expression *text*; blank text asks for nothing.

    Raises:
        InvalidRequirement: and nothing else, whatever the text.
    """
    size = len(text) if len(text) > MAX_BYTES else len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise InvalidRequirement(f"the requirement has {size} bytes; the limit is {MAX_BYTES}")
    check_words(text)
    flat = text.translate({ord("\n"): " ", ord("\r"): " "})  # no quoted text holds either
    if not flat.strip():
        return ANYTHING
    try:
        tree = ast.parse(f"({flat})", mode="eval")  # the bracket allows blanks in front, and moves all columns by one
    except SyntaxError as error:
        at = min(max((error.offset or 1) - 2, 0), len(text))
        raise refusal(text, at, _misplaced(flat[at:])) from None
    except (MemoryError, RecursionError):
        raise InvalidRequirement(
            "the requirement is nested too deep to be read: use fewer brackets and 'not'"
        ) from None
    return _Parser(text, flat).node(tree.body, MAX_NESTING)


def _misplaced(rest: str) -> str:
    word = _WORD.match(rest)
    return f"{word[1]!r} can't stand here: something is missing before it" if word else "it ends too early"


class _Parser:
    """Turns a syntax tree into a requirement's nodes."""

    def __init__(self, text: str, flat: str) -> None:
        self._text = text
        self._flat = flat
        self._terms = TermMaker()

    def node(self, tree: ast.expr, levels: int) -> Node:
        """Return the node of a condition."""
        if not levels:
            raise self._fault(tree, f"it is nested {MAX_NESTING + 1} deep as written; the limit is {MAX_NESTING}")
        match tree:
            case ast.BoolOp(op=operator, values=values):
                kind = AllOf if isinstance(operator, ast.And) else AnyOf
                return kind(tuple(self.node(value, levels - 1) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Not(self.node(operand, levels - 1))
            case ast.Compare():
                return self._comparison(tree)
            case _:
                return self._condition(tree)

    def _condition(self, tree: ast.expr) -> Term:
        match tree:
            case ast.Call(func=ast.Name(id="has"), args=[key]):
                return self._term(tree, self._key(key), "exists", value=True)
            case ast.Call(func=ast.Name(id="glob"), args=[key, pattern]):
                return self._term(pattern, self._key(key), "glob", self._constant(pattern))
            case _ if self._is_key(tree):
                return self._term(tree, self._key(tree), "==", value=True)
            case _:
                raise self._fault(tree, no_condition(tree))

    def _comparison(self, tree: ast.Compare) -> Node:
        operands = [tree.left, *tree.comparators]
        links = zip(operands[:-1], tree.ops, operands[1:], strict=True)
        found = tuple(self._link(left, operator, right) for left, operator, right in links)
        return found[0] if len(found) == 1 else AllOf(found)

    def _link(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Term:
        if isinstance(operator, ast.In | ast.NotIn):
            negation = "not_" if isinstance(operator, ast.NotIn) else ""
            if isinstance(right, ast.Tuple | ast.List):
                return self._one_of(left, right, negation)
            return self._held(left, right, negation)
        name = _COMPARISONS[type(operator)]
        if not self._is_subject(left):
            constant = self._constant(left)
            if not self._is_subject(right):
                self._constant(right)
                raise self._fault(left, f"{shown(constant)} is compared with a constant: a key has no quotes")
            left, name, right = right, _TURNED[name], left
        if self._is_key(left):
            return self._term(right, self._key(left), name, self._constant(right))
        match left:
            case ast.Call(args=[key]):
                return self._term(right, self._key(key), "version", (name, self._constant(right)))
        raise self._fault(left, no_constant(left))

    def _one_of(self, left: ast.expr, constants: ast.Tuple | ast.List, negation: str) -> Term:
        if len(constants.elts) > MAX_LIST:
            raise self._fault(constants, f"the list has {len(constants.elts)} constants; the limit is {MAX_LIST}")
        return self._term(constants, self._key(left), f"{negation}in", [self._constant(one) for one in constants.elts])

    def _held(self, left: ast.expr, right: ast.expr, negation: str) -> Term:
        if not self._is_key(right):
            raise self._fault(right, no_holder(right))
        key = self._key(right)
        if isinstance(left, ast.Tuple | ast.List):
            raise self._fault(left, "a list can't be looked for: write 'a' in key and 'b' in key")
        if self._is_key(left):
            raise self._fault(right, f"{key} is a key here, and no list of constants: did you mean ({key!r},)?")
        return self._term(left, key, f"{negation}contains", self._constant(left))

    def _term(self, tree: ast.expr, key: str, name: str, value: object) -> Term:
        try:
            return self._terms.make(key, name, value)
        except InvalidRequirement as error:
            raise self._fault(tree, str(error)) from None

    def _is_key(self, tree: ast.expr) -> bool:
        return key_of(tree) is not None

    def _is_subject(self, tree: ast.expr) -> bool:
        return self._is_key(tree) or (
            isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "version"
        )

    def _key(self, tree: ast.expr) -> str:
        key = key_of(tree)
        if key is None:
            raise self._fault(tree, no_key(tree))
        try:
            return check_key(key)
        except InvalidRequirement as error:
            raise self._fault(tree, str(error)) from None

    def _constant(self, tree: ast.expr) -> object:
        match tree:
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case _:
                raise self._fault(tree, no_constant(tree))

    def _fault(self, tree: ast.expr, said: str) -> InvalidRequirement:
        before = self._flat.encode()[: max(tree.col_offset - 1, 0)].decode(errors="ignore")
        return refusal(self._text, len(before), said)
