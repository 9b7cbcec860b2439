"""What to tell the user of an expression that is good Python and no requirement, and what to write instead."""

import ast
import difflib

from managers.errors import shown
from scheduler.requirement_text import key_text

_USES = {
    "glob": "glob() takes a key and a pattern: glob(zone, 'a*')",
    "has": "has() takes one key",
    "key": "key() takes one name in quotes: key('odd-name')",
    "version": "version() takes one key",
}
_CONSTANTS = {"true": "True", "false": "False", "yes": "True", "no": "False"}
_NAMES: dict[type[ast.expr], str] = {
    ast.BoolOp: "a condition",
    ast.Call: "a call",
    ast.Compare: "a condition",
    ast.List: "a list",
    ast.Subscript: "a subscript",
    ast.Tuple: "a list",
    ast.UnaryOp: "a condition",
}


def key_of(tree: ast.expr) -> str | None:
    """Return the key that *tree* names, None if it names none."""
    match tree:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute) if (base := key_of(value)) is not None:
            return f"{base}.{attribute}"
        case ast.Call(func=ast.Name(id="key"), args=[ast.Constant(value=str(name))]):
            return name
        case _:
            return None


def no_condition(tree: ast.expr) -> str:
    """Say why *tree* can't stand where a condition must."""
    match tree:
        case ast.Constant():
            return f"{found(tree)} alone is no condition: compare a key with it"
        case ast.Tuple(elts=[]):
            return "an empty bracket is no condition"
        case ast.Tuple():
            return "a comma joins no conditions: write 'and' or 'or'"
        case ast.Call(func=ast.Name(id="version"), args=[key]):
            return f"a version alone is no condition: write version({key_text(key_of(key) or 'key')}) >= '1.0'"
        case ast.Call():
            return _no_call(tree)
        case _:
            return f"{found(tree)} is no condition"


def no_constant(tree: ast.expr) -> str:
    """Say why *tree* can't be compared with a key."""
    if isinstance(tree, ast.Call) and key_of(tree) is None:
        return _no_call(tree)
    word = key_of(tree)
    if word is None:
        return f"{found(tree)} is no constant: compare a key with a bool, a number or a text"
    if word.lower() in {"null", "nil", "none"}:
        return f"{word} is a key here: to ask whether there is a value write has(key)"
    meant = _CONSTANTS.get(word.lower(), repr(word))
    return f"{word} is a key here, and keys are compared with constants only: did you mean {meant}?"


def no_key(tree: ast.expr) -> str:
    """Say why *tree* can't stand where a key must."""
    if isinstance(tree, ast.Call):
        return _no_call(tree)
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return f"a key has no quotes here: write {key_text(tree.value[:128])}"
    return f"{found(tree)} is no key"


def no_holder(tree: ast.expr) -> str:
    """Say why nothing can be looked for in *tree*."""
    if isinstance(tree, ast.Constant):
        return f"one constant is no list: write ({shown(tree.value)},) with a comma"
    return f"{found(tree)} holds no constants: write a list, or a key that has one"


def found(tree: ast.expr) -> str:
    """Return what *tree* is, in a user's words."""
    return shown(tree.value) if isinstance(tree, ast.Constant) else _NAMES.get(type(tree), type(tree).__name__)


def _no_call(call: ast.Call) -> str:
    name = key_of(call.func)
    if name in {"has", "glob"} and len(call.args) == (1 if name == "has" else 2):
        return f"{name}() is a condition already: compare it with nothing"
    if name == "version" and len(call.args) == 1:
        return "a version is compared with one text, by == != < <= > or >="
    if name in _USES:
        return _USES[name]
    near = difflib.get_close_matches((name or "")[:20].lower(), _USES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_USES)}"
    return f"{name or 'what is called'} is no function of a requirement: {hint}"
