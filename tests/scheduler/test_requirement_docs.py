"""docs/requirements.md says of the requirement language what is so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from managers.reports import MAX_KEY, MAX_LIST
from scheduler import InvalidRequirement, Requirement
from scheduler.operators import MAX_PATTERN, MAX_VERSION, OPERATORS
from scheduler.requirement_parser import MAX_BYTES
from scheduler.requirement_scanner import MAX_BRACKETS, MAX_WORDS
from scheduler.requirement_tree import MAX_CONSTANTS, MAX_DEPTH, MAX_TERMS

PAGE = (Path(__file__).parents[2] / "docs" / "requirements.md").read_text(encoding="utf-8")


def rows(first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with *first*, the head included."""
    table = PAGE[PAGE.index(f"| {first} |") :].split("\n\n", 1)[0]
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")]
    return [lines[0], *lines[2:]]


def test_the_table_of_missing_keys_and_mixed_types_is_true() -> None:
    (_, missing, *values), *lines = rows("expression")
    hosts: list[dict[str, Any]] = [{}, *({"x": json.loads(value.strip("`"))} for value in values)]

    assert missing == "missing"
    assert len(lines) == 30
    for expression, *cells in lines:
        requirement = Requirement.parse(expression.strip("`"))
        assert cells == ["**true**" if requirement.matches(host) else "false" for host in hosts], expression


@pytest.mark.parametrize("block", re.findall(r"^```text\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL))
def test_an_error_of_the_page_reads_as_it_says(block: str) -> None:
    with pytest.raises(InvalidRequirement) as caught:
        Requirement.parse(block.split("\n")[1][2:])

    assert str(caught.value) == block


def test_every_expression_of_the_language_is_read() -> None:
    written = [text for line in rows("written")[1:] for text in re.findall("`([^`]+)`", line[0])]
    good = [text for text in written if re.match(r"[\w(']", text) and text != "( )"]

    assert len(good) >= 14
    for text in good:
        assert str(Requirement.parse(text))


def test_the_limits_are_the_codes() -> None:
    named = [MAX_BYTES, MAX_TERMS, MAX_DEPTH, MAX_LIST, MAX_CONSTANTS, MAX_WORDS, MAX_BRACKETS, MAX_KEY]

    assert [int(cells[0]) for cells in rows("limit")[1:]] == named
    assert MAX_KEY == MAX_PATTERN == MAX_VERSION


def test_the_tree_of_the_page_is_the_trees_and_names_every_operator() -> None:
    expression, tree = re.findall(r'requirement = Requirement.parse\("(.*)"\)\nrequirement.tree  # (.*)\n', PAGE)[0]
    operators = [name for line in rows("operator")[1:] for name in re.findall("`([^`]+)`", line[0])]

    assert Requirement.parse(expression).tree == json.loads(tree)
    assert Requirement.parse(expression).matches({"cpus": 8})
    assert operators == list(OPERATORS)


def test_the_mapping_of_the_page_is_the_expression_beside_it() -> None:
    mapping, expression = re.findall(r"`(\{\"zone.*?\})` is `(.*?)`", PAGE)[0]

    assert Requirement.of(json.loads(mapping)) == Requirement.parse(expression)
