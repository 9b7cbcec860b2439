"""The commands that ask about placement: what fits where, what waits, what is held, what has been."""

from collections.abc import Mapping
from dataclasses import asdict

import click

from scheduler.select import FEASIBLE, NOT_READY
from workers import questions
from workers.config import load_settings
from workers.console import display, placement_views
from workers.console.arguments import ClaimsType, SinceType
from workers.console.commands import EX_FAILED, complain, json_option, judge, read
from workers.console.dossier import dated, held
from workers.console.reading import open_table


@click.command("explain")
@click.option("--service", default="host", show_default=True, metavar="S", help="Whose hosts it is to run on.")
@click.option("--requires", metavar="EXPR", help="What the host must be, such as \"gpus >= 1 and zone != 'c'\".")
@click.option("--claims", type=ClaimsType(), help="What it takes of the host; one slot unless this names slots.")
@click.option("--only", metavar="HOST", multiple=True, help="Only this host. Repeatable.")
@click.option("--exclude", metavar="HOST", multiple=True, help="Not this host. Repeatable.")
@click.option("--count", default=1, show_default=True, metavar="N", help="Hosts that it needs at once.")
@json_option
@click.pass_context
def explain(
    ctx: click.Context, *, service: str, requires: str | None, claims: Mapping[str, float] | None,
    only: tuple[str, ...], exclude: tuple[str, ...], count: int, as_json: bool,
) -> None:  # fmt: skip
    """Say where a task would fit now, and why not elsewhere. Nothing is placed.

    Counts the hosts that pass each clause and names what the nearest lack. Exit status 1 if it would have to wait:
    full (it fits when claims end), infeasible (no host that is up will do) or not-ready (the table can't tell).
    """
    settings = load_settings()
    rows, readiness = read(settings)
    told = questions.explain(
        requires, claims=claims, service=service, only=only, exclude=exclude, count=count, fleet=settings
    )
    if as_json:
        display.write_json(told.to_dict())
    else:
        display.write(placement_views.explanation_view(told))
    if told.verdict not in {FEASIBLE, NOT_READY}:
        complain(f"{told.verdict}: {told}")
    judge(settings, rows, readiness)
    ctx.exit(0 if told.verdict == FEASIBLE else EX_FAILED)


@click.command("pending")
@click.option(
    "--limit", default=1000, show_default=True, type=click.IntRange(min=1), metavar="N", help="The first N in line."
)
@json_option
def pending(limit: int, *, as_json: bool) -> None:
    """List what waits for a host, in its order, and why."""
    settings = load_settings()
    rows, readiness = read(settings)
    waiting = questions.pending(limit=limit, fleet=settings)
    if as_json:
        display.write_json([each.to_dict() for each in waiting])
    elif waiting:
        display.write(placement_views.pending_view(waiting))
    else:
        click.echo("nothing waits for a host")
    judge(settings, rows, readiness)


@click.command("claims")
@click.option("--host", metavar="HOST", help="Only of this host.")
@json_option
def claims(host: str | None, *, as_json: bool) -> None:
    """List what is claimed: by which task, of which host, how much, since when.

    A claim is placed until its host has begun the task, then running.
    """
    settings = load_settings()
    rows, readiness = read(settings)
    found = questions.claims(host, fleet=settings)
    with open_table(settings) as table:
        entries = held(found, table.now())
    if as_json:
        display.write_json(entries)
    elif entries:
        display.write(placement_views.claims_view(entries))
    else:
        click.echo(f"nothing is claimed{'' if host is None else f' of {host}'}")
    judge(settings, rows, readiness)


@click.command("history")
@click.option("--task", metavar="NAME", help="Only of this task.")
@click.option("--host", metavar="HOST", help="Only on this host.")
@click.option("--outcome", metavar="WORD", help="Only what ended so: done, failed, retried, lost, missed, unplaced, …")
@click.option("--since", type=SinceType(), help="Only what ended since: 90s, 30m, 2h, 7d ago, or a moment in ISO form.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), metavar="N", help="The newest N.")
@json_option
def history(
    task: str | None, host: str | None, outcome: str | None, since: float | None, limit: int, *, as_json: bool
) -> None:
    """List the attempts that ended, the last first: what was placed where, when, and how it ended.

    From the database, into which a scheduler writes them a moment after they end.
    """
    found = questions.history(task=task, host=host, outcome=outcome, since=since, limit=limit, fleet=load_settings())
    if as_json:
        display.write_json([dated(asdict(record)) for record in found])
    elif found:
        display.write(placement_views.history_view(found))
    else:
        click.echo("nothing of that kind has ended")
