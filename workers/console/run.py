"""``celeriac run``: has a task placed by its name, waits, and says where it ran."""

import json
from collections.abc import Mapping
from typing import Any

import click

from scheduler.errors import HostLost, NoValidHost
from workers.config import load_settings
from workers.console import display, reading
from workers.console.arguments import ClaimsType, json_or_text
from workers.console.commands import EX_FAILED, complain, json_option, judge, read
from workers.console.errand import Errand, Outcome


@click.command("run")
@click.argument("task")
@click.argument("arguments", metavar="[ARGS]…", nargs=-1)
@click.option("--requires", metavar="EXPR", help="What the host must be, such as \"gpus >= 1 and zone != 'c'\".")
@click.option("--claims", type=ClaimsType(), help="What it takes of the host; one slot unless this names slots.")
@click.option("--service", metavar="S", help="Whose hosts it is to run on.  [default: what the task says, else host]")
@click.option("--only", metavar="HOST", multiple=True, help="Only this host. Repeatable.")
@click.option("--exclude", metavar="HOST", multiple=True, help="Not this host. Repeatable.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give it up if it has no host by then."
)
@json_option
@click.pass_context
def run(
    ctx: click.Context, task: str, arguments: tuple[str, ...], *, requires: str | None,
    claims: Mapping[str, float] | None, service: str | None, only: tuple[str, ...], exclude: tuple[str, ...],
    timeout: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Have the task named TASK run on a host that can take it, wait, and print where it ran and its result.

    TASK must be a ScheduledTask of the fleet; every task of the modules in CELERIAC_TASKS is one. ARGS are JSON values
    where they can be read as such, else texts; put -- before one that begins with a dash. Where CELERIAC_TASKS can be
    imported here, what the task's code asks of its host counts too. Ctrl-C leaves the task to the fleet.
    """
    settings = load_settings()
    judge(settings, *read(settings), fatal=False)
    said = {
        "requires": requires, "claims": claims, "service": service, "only": only, "exclude": exclude,
        "placement_timeout": timeout,
    }  # fmt: skip
    with reading.open_table(settings) as table:
        errand = Errand(settings, table, task, {name: value for name, value in said.items() if value not in (None, ())})
        for module, error in errand.unread.items():
            complain(f"what {module} asks of hosts is not known here: {error}")
        try:
            errand.send([json_or_text(argument) for argument in arguments])
        except TypeError as error:
            raise click.UsageError(f"{task}: {error}") from error
        try:
            outcome = errand.wait(tell=complain)
        except KeyboardInterrupt:
            complain(f"{task}[{errand.task_id}] is left to the fleet; celeriac pending, claims and history tell of it")
            outcome = errand.look()
    if as_json:
        display.write_json(outcome.to_dict())
    _say(outcome, as_json=as_json)
    ctx.exit(0 if outcome.state == "SUCCESS" else EX_FAILED)


def _say(outcome: Outcome, *, as_json: bool) -> None:
    """Print for people what became of it; of a failure standard error tells in any case."""
    named = f"{outcome.task}[{outcome.task_id}]"
    where = f"{named} ran on {outcome.host}" if outcome.host else f"{named} was not placed"
    waited = f"after waiting {display.ago(outcome.waited_seconds)}"
    if outcome.state == "SUCCESS":
        if not as_json:
            click.echo(f"{where} {waited}")
            click.echo(_shown(outcome.result))
    elif isinstance(outcome.error, NoValidHost | HostLost):
        complain(str(outcome.error))
    elif outcome.error is not None:
        complain(f"{where} {waited} and failed: {type(outcome.error).__name__}: {outcome.error}")
    elif outcome.is_over:
        complain(f"{where} {waited} and kept no result; celeriac history says how it ended")
    elif outcome.reasons:
        complain(f"{named} still waits, and no scheduler gives it up: {', '.join(outcome.reasons)}")


def _shown(result: Any) -> str:
    if isinstance(result, str):
        return "\n".join(display.plain(line) for line in result.splitlines())
    return json.dumps(result, indent=2, ensure_ascii=False, default=repr)
