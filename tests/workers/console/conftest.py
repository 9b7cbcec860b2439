"""A fleet of rows for the commands that read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.console.rows import Rows, rows_at


@pytest.fixture
def fleet(valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rows]:
    """A fleet of nobody yet."""
    with rows_at(valkey_url, tmp_path, monkeypatch) as rows:
        yield rows


@pytest.fixture
def well(fleet: Rows) -> Rows:
    """A fleet that is well."""
    fleet.add_scheduler()
    fleet.add("a")
    fleet.register("sched-1", "scheduler")
    fleet.register("a")
    return fleet
