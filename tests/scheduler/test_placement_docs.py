"""docs/placement.md says of placement what is so."""

import re
from pathlib import Path

from scheduler import filters, pending, placer, select, weighers
from scheduler.claims import FORGIVEN
from scheduler.requests import MOST_HOSTS, OPTIONS, check_options
from scheduler.task import ScheduledTask
from workers.config import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "placement.md").read_text(encoding="utf-8")


def rows(first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with *first*, without the head."""
    table = PAGE[PAGE.index(f"| {first} |") :].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")][2:]


def named(first: str) -> list[str]:
    return [name for cells in rows(first) for name in re.findall("`([a-z_-]+)`", cells[0])]


def test_every_option_is_explained_and_a_task_may_have_it() -> None:
    assert sorted(named("option")) == sorted(OPTIONS)
    assert all(hasattr(ScheduledTask, name) for name in OPTIONS)


def test_the_defaults_of_options_are_the_codes() -> None:
    defaults = {name: cells[1] for cells in rows("option") for name in re.findall("`([a-z_]+)`", cells[0])}
    checked = check_options({})

    assert (checked["strategy"], checked["must_stick"]) == ("spread", False)
    assert (defaults["strategy"], defaults["must_stick"]) == ("`spread`", "`False`")
    assert checked["claims"] == {"slots": 1000}
    assert defaults["claims"] == '`{"slots": 1}`'
    for name in ("start_deadline", "max_attempts"):
        assert defaults[name] == f"`CELERIAC_{name.upper()}`: {Settings.model_fields[name].default:g}"
    assert f"up to {MOST_HOSTS}" in PAGE


def test_the_filters_are_the_codes_in_their_order() -> None:
    assert named("filter") == [found.__name__ for found in filters.BUILT_IN]


def test_the_weighers_are_the_codes_with_their_multipliers() -> None:
    shown = {cells[0].strip("`"): float(cells[1]) for cells in rows("weigher")}

    assert shown == {name: multiplier for name, (_, multiplier) in weighers.BUILT_IN.items()}
    assert (weighers.SCARCE, select.AS_GOOD, FORGIVEN) == (0.5, 0.1, 600.0)


def test_the_verdicts_are_the_codes() -> None:
    assert named("verdict") == [select.FEASIBLE, select.FULL, select.INFEASIBLE, select.NOT_READY]


def test_the_numbers_of_the_text_are_the_codes() -> None:
    assert (pending.ANNOUNCED, placer.SWEEP, placer.CHORES) == (5.0, 30.0, 1.0)
    assert "after 5 s, and at everything every 30 s" in PAGE
    assert select.ALTERNATIVES == 8
    assert "the best eight hosts" in PAGE
