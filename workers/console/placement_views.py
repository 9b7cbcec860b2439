"""What the commands about placement print for people."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from managers.db import PlacementRecord
from scheduler.explain import Explanation
from scheduler.select import FEASIBLE
from workers.console.display import ago, number, plain
from workers.questions import Waiting


def explanation_view(told: Explanation) -> RenderableType:
    """Return how many hosts pass each clause, and what the nearest lack."""
    clauses = _table("clause", "passed")
    for clause, passed in told.clauses:
        _add(clauses, clause, f"{passed}/{told.hosts}")
    parts: list[RenderableType] = [Text(plain(f"{told.verdict}: {told}"))] if told.verdict == FEASIBLE else []
    parts += [clauses] if told.clauses else []
    if told.nearest:
        nearest = _table("nearest", "lacks")
        for host, lacks in told.nearest:
            _add(nearest, host, ", ".join(lacks))
        parts += [Text(), nearest]
    return Group(*parts)


def pending_view(waiting: Iterable[Waiting]) -> RenderableType:
    """Return what waits, a row each."""
    table = _table("task", "id", "service", "since", "verdict", "why")
    for each in waiting:
        task = each.task if each.count == 1 else f"{each.task}, {each.count} hosts"
        why = ", ".join(each.reasons)
        _add(table, task, each.task_id, each.service, ago(each.since_seconds), each.verdict, why)
    return table


def claims_view(entries: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Return what is claimed, a row each."""
    table = _table("host", "service", "task", "id", "state", "since", "claims")
    for entry in entries:
        names = (entry[name] for name in ("host", "service", "task", "task_id"))
        _add(table, *names, entry["state"], ago(entry["since_seconds"]), _amounts(entry["claims"]))
    return table


def history_view(records: Iterable[PlacementRecord]) -> RenderableType:
    """Return what has ended, a row each."""
    table = _table("ended", "task", "id", "host", "outcome", "waited", "ran", "claims", "why")
    for record in records:
        waited = (record.placed_at or record.ended_at) - record.submitted_at
        ran = "" if record.started_at is None else ago((record.ended_at - record.started_at).total_seconds())
        _add(
            table, record.ended_at.isoformat(timespec="seconds"), record.task, record.task_id, record.host or "",
            record.outcome, ago(max(0.0, waited.total_seconds())), ran, _amounts(record.claims), record.reasons or "",
        )  # fmt: skip
    return table


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _add(table: Table, *values: str) -> None:
    table.add_row(*(Text(plain(value)) for value in values))


def _amounts(claims: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(amount)}" for name, amount in claims.items())
