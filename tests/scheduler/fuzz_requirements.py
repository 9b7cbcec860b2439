"""Throws random and hostile texts and trees at the requirement language, and says what became of them.

    python tests/scheduler/fuzz_requirements.py --count 1000000

Each must end in a requirement that is read again as itself and can be asked of anything, or in InvalidRequirement;
within 100 ms of processor time, in bounded memory, and without a warning.
"""

import gc
import json
import random
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[2]))

from scheduler import InvalidRequirement, Requirement

#: Seconds of processor time that one input may take.
LONGEST = 0.1
#: Megabytes that the process may grow by.
GROWTH = 200

SEEDS = (
    "gpu.model in ('A100', 'H100') and zone != 'c'",
    "2 <= cpus < 64 or not has(memory_mb)",
    "'avx2' in cpu.flags and 'sse' not in cpu.flags",
    "version(sw.cuda) >= '12.2' and '13' > version(sw.cuda)",
    "glob(key('odd-name:x'), 'A*[!b]?') or ssd",
    "not (a == 1 or not (b == -2.5e3 and c in [True, 1, 'x']))",
    "zone not in (\"a\\\\b\", '\\u00e9', '日本')",
)
SOUP = r"""
and or not in is lambda if else for None True False has version glob key async await yield import a b gpu.model
( ) [ ] { } , . ; : := = == != < <= > >= <> + - * ** / // % @ & && | || ^ ~ ! # \ $ ? ` ' " ''' \"\"\"
0 1 -1 007 1_0 0x1f 1j 1.5 1e999 -0.0 9007199254740993 99999999999999999999999 NaN inf ... b'x' f'{a}' r'\d' u''
'a' 'A*' '12.2' '\x00' '\ud800' '\N{DASH}' '\d'
"""
WORDS = (*SOUP.split(), *"\0\ud800\ufeff\u202eé日 \n\t\r\f\v\xa0\u2028")
OPERATORS = "== != < in not_in contains exists version glob = and"
DEEP = (
    "(",
    "[",
    "{",
    "not ",
    "-",
    "a.",
    "has(",
    "key(",
    "a[",
    "a in (",
    "a == ",
    "a and ",
    "(a or b) and (",
    "1,",
    "f'{",
    "\\",
    "'",
)
HOSTS: tuple[dict[str, Any], ...] = (
    {},
    dict.fromkeys(("a", "gpu.model", "zone", "cpus", "ssd", "cpu.flags", "sw.cuda", "odd-name:x"), "12.2"),
    {"a": 1, "zone": True, "cpus": 2.5, "cpu.flags": ["sse", 1, True], "sw.cuda": [], "b": float("nan"), "c": None},
)


def keyword_soup(chance: random.Random) -> str:
    """Return words of Python in any order."""
    return chance.choice(("", " ")).join(chance.choices(WORDS, k=chance.randint(1, 20)))


def random_text(chance: random.Random) -> str:
    """Return any characters, surrogates too."""
    highest = chance.choice((0x7F, 0xFF, 0xFFFF, 0x10FFFF))
    return "".join(chr(chance.randint(0, highest)) for _ in range(chance.randint(0, 60)))


def mutated(chance: random.Random) -> str:
    """Return a good expression with a few wounds."""
    text = chance.choice(SEEDS)
    for _ in range(chance.randint(0, 4)):
        at, length = chance.randint(0, len(text)), chance.randint(0, 5)
        graft = chance.choice((chance.choice(WORDS), chr(chance.randint(1, 0x2FFF)), chance.choice(SEEDS), ""))
        text = text[:at] + graft + text[at + length :]
    return text


def nested(chance: random.Random) -> str:
    """Return what repeats itself, mostly a little and at times up to the limits."""
    often = chance.randint(1, 40) if chance.random() < 0.99 else chance.randint(1, 40000)
    opening = "".join(chance.choices(DEEP, k=chance.randint(1, 3)))
    closing = "".join({"(": ")", "[": "]", "{": "}"}[letter] for letter in reversed(opening) if letter in "([{")
    return (opening * often + chance.choice(("a", "1", "", "a ==", "'x'")) + closing * often)[:70000]


def good(chance: random.Random, levels: int = 3) -> str:
    """Return an expression that is mostly right."""
    if levels and chance.random() < 0.6:
        inner = [good(chance, levels - 1) for _ in range(chance.randint(1, 4))]
        return chance.choice(("({})", "not ({})", "{}")).format(chance.choice((" and ", " or ")).join(inner))
    key = chance.choice(("a", "gpu.model", "zone", "key('odd-name:x')", "key('not')", "cpu.flags"))
    constant = chance.choice(("1", "-2.5", "'x'", "True", "'12.2'", "1e10", "0.1", "'é\\n'", "9007199254740992"))
    return chance.choice(
        (
            f"{key} {chance.choice(('==', '!=', '<', '<=', '>', '>='))} {constant}",
            f"{constant} <= {key} < {constant}",
            f"{key} {chance.choice(('in', 'not in'))} ({constant}, 'y', 2, {constant})",
            f"{constant} {chance.choice(('in', 'not in'))} {key}",
            f"has({key})",
            f"version({key}) < '{chance.randint(0, 20)}.{chance.randint(0, 9)}'",
            f"glob({key}, 'x*[{chance.choice('!^a]-[')}b]?')",
            key,
        )
    )


def tree(chance: random.Random, levels: int = 5) -> Any:
    """Return a JSON value that is a tree, or nearly one."""
    if chance.random() < 0.1:
        return chance.choice((None, {}, [], 1, "a", {"all": []}, {"a": 1}, {1: 2}, {"a": {"==": 1, "!=": 2}}))
    if levels and chance.random() < 0.6:
        name = chance.choice(("all", "any", "not"))
        inner = [tree(chance, levels - 1) for _ in range(chance.randint(1, 3))]
        return {name: inner[0] if name == "not" else inner}
    value = chance.choice(
        (1, 1.0, -0.0, True, "x", "12.2", None, [1, "1", True], [], [">=", "12.2"], [[]], 1e300, 2**60)
    )
    name = chance.choice((*OPERATORS.split(), ""))
    return {chance.choice(("a", "zone", "key('all')", "key('a')", "all", "é", "")): {name: value}}


TEXTS: tuple[Callable[[random.Random], str], ...] = (keyword_soup, random_text, mutated, nested, good)


def outcome(made: Callable[[], Requirement]) -> str:
    """Return what became of one input."""
    try:
        requirement = made()
    except InvalidRequirement as refusal:
        str(refusal).encode()  # can be printed
        return "refused"
    for again in (Requirement.parse(str(requirement)), Requirement.from_tree(json.loads(json.dumps(requirement.tree)))):
        if again != requirement or again.shape != requirement.shape:
            raise AssertionError(f"{requirement!r} came back as {again!r}")
    for host in HOSTS:
        if type(requirement.matches(host)) is not bool:
            raise AssertionError(f"{requirement!r} answers no bool")
    return "read"


@click.command()
@click.option("--count", default=10_000, help="How many inputs.")
@click.option("--seed", default=0, help="Where chance begins.")
def main(count: int, seed: int) -> None:
    """Read COUNT inputs and print what became of them."""
    warnings.simplefilter("error")
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    slowest, culprit = 0.0, ""
    begun, memory = time.monotonic(), _megabytes()
    for number in range(count):
        kind = (*TEXTS, tree)[number % (len(TEXTS) + 1)]
        given = kind(chance)
        read = Requirement.from_tree if kind is tree else Requirement.parse
        gc.disable()  # a full collection is nobody's input
        started = time.process_time()
        try:
            became = outcome(lambda given=given, read=read: read(given))  # type: ignore[misc]
        except BaseException:
            click.echo(f"seed {seed}, input {number}: {ascii(given)[:2000]}", err=True)
            raise
        took = time.process_time() - started
        gc.enable()
        counts[f"{kind.__name__} {became}"] += 1
        if took > slowest:
            slowest, culprit = took, ascii(given)[:80]
    grown = _megabytes() - memory
    for name, times in sorted(counts.items()):
        click.echo(f"{name:22} {times:8}")
    click.echo(f"{count} inputs in {time.monotonic() - begun:.0f} s; grew by {grown:.0f} MB")
    click.echo(f"slowest {slowest * 1000:.1f} ms: {culprit}")
    if slowest > LONGEST or grown > GROWTH:
        raise click.ClickException(f"the limits are {LONGEST} s and {GROWTH} MB")


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
