"""Reads a requirement's words before Python's parser sees them, and refuses all that belongs to no requirement.

So the parser gets only what can't hurt it: no escapes that it warns of, no numbers that it can't hold, few brackets,
no operators of which its own messages would tell a user little.
"""

import keyword
import re
from typing import NoReturn

from managers.errors import shown
from managers.reports import MAX_KEY, MAX_NUMBER
from scheduler.requirement_text import BARE_KEY, refusal
from scheduler.requirement_tree import MAX_NESTING

#: Keys, constants, operators, commas and brackets: no more time is spent on a text.
MAX_WORDS = 16_000
#: Brackets inside each other, those of a call and a list included.
MAX_BRACKETS = 32

_WORD = re.compile(
    rf"""[ \t\n\r\f]*(?:
        (?P<comma>,)
      | (?P<number>\.?[0-9](?:[eE][+-][0-9]|[A-Za-z0-9_.])*)
      | (?P<text>'[^'\\\n\r]*(?:\\[^\n\r][^'\\\n\r]*)*'|"[^"\\\n\r]*(?:\\[^\n\r][^"\\\n\r]*)*")
      | (?P<name>{BARE_KEY.pattern})
      | (?P<operator>[=!<>]=|<(?!>)|>)
      | (?P<open>[(\[])
      | (?P<close>[)\]])
      | (?P<minus>-)
      | (?P<end>\Z)
      | (?P<other>&&|\|\||<>|:=|\*\*|.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(r"""\\(?:[\\'"nrt]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|(.))""")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
_IN = re.compile(r"[ \t\n\r\f]+in\b")
_KEY_LETTERS = re.compile(r"[A-Za-z0-9_.:-]{0,100}")
_ARITHMETIC = "arithmetic is no part of a requirement"
_INSTEAD = {
    "=": "'=' compares nothing: write '=='",
    "&": "'&' is no part of a requirement: write 'and'",
    "&&": "'&&' is no part of a requirement: write 'and'",
    "|": "'|' is no part of a requirement: write 'or'",
    "||": "'||' is no part of a requirement: write 'or'",
    "!": "'!' is no part of a requirement: write 'not'",
    "~": "'~' is no part of a requirement: write 'not', or glob(key, pattern)",
    "<>": "'<>' is no part of a requirement: write '!='",
    ":=": "':=' names nothing here: write '=='",
    "≤": "'≤' is no part of a requirement: write '<='",
    "≥": "'≥' is no part of a requirement: write '>='",
    "≠": "'≠' is no part of a requirement: write '!='",
    "{": "'{' opens no list here: write (1, 2)",
    "#": "'#' is no part of a requirement: comments go elsewhere",
    "'": "this quote is never closed on its line",
    '"': "this quote is never closed on its line",
    **dict.fromkeys(("+", "*", "/", "%", "@", "^", "**"), _ARITHMETIC),
    **dict.fromkeys("\u2018\u2019\u201c\u201d`", "this quote is none of Python's: write ' or \""),
}
_WORDS = {
    "None": "None is no value of a key: to ask whether there is one write has(key)",
    "is": "'is' is no part of a requirement: write '=='",
}


def check_words(text: str) -> None:
    """Raise InvalidRequirement unless *text* is made of words that a requirement may have."""
    if found := _UNREADABLE.search(text):
        raise refusal(text, found.start(), f"{shown(found[0])} can't be part of a text")
    _Scanner(text).run()


class _Scanner:
    """Goes through a text from left to right, and knows the word before and the brackets that are open."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._word = ""
        self._at = 0
        self._is_value = False
        self._nots = 0
        self._open: list[tuple[str, int]] = []

    def run(self) -> None:
        readers = {
            "number": self._number,
            "text": self._quoted,
            "name": self._name,
            "open": self._bracket,
            "close": self._closing,
            "minus": self._minus,
            "end": self._end,
            "other": self._other,
        }
        for count, found in enumerate(_WORD.finditer(self._text), start=1):
            kind = found.lastgroup or ""
            word = found[kind]
            if count > MAX_WORDS and kind != "end":
                self._refuse(found.start(kind), f"this is word {MAX_WORDS + 1}; the limit is {MAX_WORDS}")
            self._is_value = readers[kind](word, found.start(kind)) if kind in readers else False
            self._word, self._at = word, found.start(kind)

    def _number(self, word: str, at: int) -> bool:
        self._check_value_may_stand(word, at)
        if not _NUMBER.fullmatch(word):
            self._refuse(at, f"{shown(word)} is no number: a text or a version goes in quotes, {shown(word)}")
        if float(word) > MAX_NUMBER:
            self._refuse(at, f"{word[:20]} is too large a number: they are finite and within ±2^53")
        return True

    def _quoted(self, word: str, at: int) -> bool:
        self._check_value_may_stand(word, at)
        for found in _ESCAPE.finditer(word):
            if found[1]:
                self._refuse(at + found.start(), f"{shown(found[0])} is no escape: for a backslash write two")
        return True

    def _name(self, word: str, at: int) -> bool:
        if word in {"and", "or", "in", "not"}:
            if word == "not" and self._is_value and not _IN.match(self._text, at + len(word)):
                self._refuse(at, f"'not' follows {shown(self._word)}: write 'and not', 'or not' or 'not in'")
            self._nots = self._nots + 1 if word == "not" else 0
            if self._nots > MAX_NESTING:
                self._refuse(at, f"this is 'not' {self._nots} of a row; the limit is {MAX_NESTING}")
            return False
        self._nots = 0
        reserved = next((part for part in word.split(".") if keyword.iskeyword(part)), None)
        if reserved and word not in {"True", "False"}:
            self._refuse(
                at,
                _WORDS.get(
                    word, f"{reserved!r} is no part of a requirement; a key of that name is written key({word!r})"
                ),
            )
        self._check_value_may_stand(word, at)
        if len(word) > MAX_KEY:
            self._refuse(at, f"the key has {len(word)} letters; the limit is {MAX_KEY}")
        return True

    def _bracket(self, word: str, at: int) -> bool:
        self._nots = 0
        self._open.append((word, at))
        if len(self._open) > MAX_BRACKETS:
            self._refuse(at, f"{len(self._open)} brackets are open here; the limit is {MAX_BRACKETS}")
        return False

    def _closing(self, word: str, at: int) -> bool:
        if not self._open or self._open.pop()[0] + word not in {"()", "[]"}:
            self._refuse(at, f"{word!r} closes no bracket")
        return True

    def _minus(self, _: str, at: int) -> bool:
        if self._is_value:
            rest = _KEY_LETTERS.match(self._text, at + 1)
            key = f"{self._word}-{rest[0] if rest else ''}"
            name = f": for a key of that name write key({key!r})" if self._word[0].isalpha() else ""
            self._refuse(at, f"{_ARITHMETIC}{name}")
        if not re.match(r"\.?[0-9]", self._text[at + 1 : at + 3]):
            self._refuse(at, "'-' may stand only before a number")
        return False

    def _end(self, _: str, __: int) -> bool:
        if self._open:
            bracket, opened = self._open[-1]
            self._refuse(opened, f"{bracket!r} is never closed")
        return True

    def _other(self, word: str, at: int) -> NoReturn:
        if word == "." and self._is_value:
            self._refuse(at, "'.' may stand only within a key such as gpu.model, and without blanks")
        self._refuse(at, _INSTEAD.get(word, f"{word!r} can't be part of a requirement outside quotes"))

    def _check_value_may_stand(self, word: str, at: int) -> None:
        if not self._is_value:
            return
        for near, place in ((word, at), (self._word, self._at)):
            if near.lower() in {"and", "or", "in", "not"}:
                self._refuse(place, f"{near!r} is no operator: write {near.lower()!r}")
        if word[0] in "'\"":
            if self._word[0] in "'\"":
                self._refuse(at, "two texts side by side: put a comma between them, and use no triple quotes")
            if self._text[at - 1] not in " \t\n\r\f":
                self._refuse(self._at, f"{self._word!r} before a quote is no part of a requirement")
        self._refuse(at, f"{shown(word)} follows {shown(self._word)} without an operator between them")

    def _refuse(self, at: int, said: str) -> NoReturn:
        raise refusal(self._text, at, said)
