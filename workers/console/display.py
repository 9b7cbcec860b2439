"""What the command line prints: tables for people, JSON for programs.

A terminal too narrow for a table gets one block per row; where no terminal is, a row is one line, however long. What
hosts and operators wrote is shown as plain text: no markup of theirs and no control character reaches a terminal.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scheduler.hosts import CLAIMABLE, Host

#: Columns of a line where there is no terminal.
WIDE = 10_000

#: Columns that the reasons of a table need to be readable beside it.
_REASONS = 24

_COLOURS = {
    "up": "green", "stale": "red", "disabled": "yellow", "draining": "cyan",
    "stopped": "dim", "lost": "red", "unknown": "yellow",
    "ok": "green", "warning": "yellow", "failed": "bold red",
}  # fmt: skip

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def write(view: RenderableType) -> None:
    """Print *view* on standard output, as wide as its terminal; a file or a pipe gets whole lines and no padding."""
    if sys.stdout.isatty():
        Console(highlight=False).print(view)
        return
    console = Console(width=None if os.environ.get("COLUMNS") else WIDE, highlight=False)
    with console.capture() as captured:
        console.print(view)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def write_json(value: Any) -> None:
    """Print *value* on standard output."""
    click.echo(json.dumps(value, indent=2))


def plain(value: object) -> str:
    """Return *value* as text that can't steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))


def state_text(state: str) -> Text:
    """Return a state, or a check's status, in its colour."""
    return Text(plain(state), style=_COLOURS.get(state, ""))


def number(value: float) -> str:
    """Return a figure with as many digits as it needs, three of them after the point at most."""
    return str(int(value)) if float(value).is_integer() else f"{value:.3f}".rstrip("0")


def ago(seconds: float | None) -> str:
    """Return an age in one unit."""
    if seconds is None:
        return "never"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    for unit, name, until in ((_MINUTE, "min", _HOUR), (_HOUR, "h", _DAY)):
        if seconds < until:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / _DAY:.0f} d"


class HostsView:
    """The hosts, a row each: a table where it fits, else a block for each."""

    def __init__(self, rows: Iterable[Host]) -> None:
        self.rows = list(rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose by the width there is."""
        has_reasons = any(row.reasons for row in self.rows)
        measured = Measurement.get(console, options.update_width(WIDE), self._table(has_reasons=False))
        fits = measured.maximum + (_REASONS if has_reasons else 0) <= options.max_width
        yield self._table(has_reasons=has_reasons) if fits else self._blocks()

    def _table(self, *, has_reasons: bool) -> Table:
        keys = [key for key in CLAIMABLE if any(key in row.total for row in self.rows)]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for heading in ("service", "host", "state"):
            table.add_column(heading, no_wrap=True)
        for heading in ("seen", *keys):
            table.add_column(heading, no_wrap=True, justify="right")
        if has_reasons:
            table.add_column("why", overflow="fold")
        for row in self.rows:
            why = [Text(plain("; ".join(row.reasons)))] if has_reasons else []
            names = (Text(row.service), Text(row.host), state_text(row.state), Text(ago(row.seen_seconds_ago)))
            table.add_row(*names, *(Text(_amount(row, key)) for key in keys), *why)
        return table

    def _blocks(self) -> Group:
        blocks: list[RenderableType] = []
        for row in self.rows:
            blocks.append(Text.assemble((row.host, "bold"), f" {row.service} ", state_text(row.state)))
            amounts = "".join(f", {key} {_amount(row, key)}" for key in row.total)
            lines = [f"seen {ago(row.seen_seconds_ago)} ago{amounts}", *row.reasons]
            blocks += [Padding(Text(plain(line), overflow="fold"), (0, 0, 0, 2), expand=False) for line in lines]
        return Group(*blocks)


def _amount(row: Host, key: str) -> str:
    return f"{number(row.free.get(key, 0))}/{number(row.total[key])}" if key in row.total else ""


def capabilities_view(aggregate: Mapping[str, Sequence[Any]]) -> RenderableType:
    """Return the fleet's aggregate, a row for each capability."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("capability", overflow="fold")
    table.add_column("min", overflow="fold")
    table.add_column("max", overflow="fold")
    for key, (least, most) in aggregate.items():
        table.add_row(Text(plain(key)), Text(_value(least)), Text(_value(most)))
    return table


def dossier_view(entries: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Return everything known of one host, a block for each service."""
    blocks: list[RenderableType] = []
    for entry in entries:
        heading = (entry["host"], "bold"), f" {entry['service']} ", state_text(entry["state"])
        blocks += [Text.assemble(*heading), Padding(_facts(entry), (0, 0, 0, 2), expand=False), Text()]
    return Group(*blocks[:-1])


def _facts(entry: Mapping[str, Any]) -> Table:
    facts: list[tuple[str, object]] = [("why", reason) for reason in entry["reasons"]]
    if holder := entry["holder"]:
        facts += [
            ("seen", f"{ago(entry['seen_seconds_ago'])} ago, every {number(holder['heartbeat_interval'])} s"),
            ("report", f"{ago(entry['reported_seconds_ago'])} ago, every {number(holder['interval'])} s")
            if entry["reported_seconds_ago"] is not None
            else ("report", "none yet"),
            ("held by", f"pid {holder['pid']} on {holder['machine']}, boot {holder['boot']}"),
            ("version", holder["version"]),
            ("joined", holder["joined_at"]),
        ]
    if record := entry["record"]:
        facts += [
            (name, record[key])
            for name, key in (("started", "started_at"), ("last seen", "last_seen_at"), ("stopped", "stopped_at"))
            if record[key] is not None
        ]
        facts += [("disabled", record["disabled_reason"] or "no reason given")] if record["disabled"] else []
        facts += [("forced down", "by an operator")] if record["forced_down"] else []
    facts += [
        (key, f"{number(entry['free'][key])} free of {number(value)}")
        if key in entry["total"]
        else (key, _value(value))
        for key, value in sorted(entry["capabilities"].items())
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(plain(name)), Text(plain(value)))
    return table


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list):
        return ", ".join(_value(entry) for entry in value)
    return plain(value)


def checks_view(checks: Iterable[Any]) -> RenderableType:
    """Return the doctor's checks: what was found, and below it what to do."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(state_text(check.status), Text(check.name), Text(plain(check.found)))
        if check.advice:
            table.add_row("", "", Text(f"→ {plain(check.advice)}", style="bold"))
    return table
