"""What the commands share: errors as one line, ``--json``, and the judgement of how far an answer can be believed."""

from collections.abc import Callable
from typing import Any

import click

from managers.errors import InvalidName, ManagerError
from scheduler.errors import InvalidPlacement, InvalidRequirement, TableUnavailable
from scheduler.hosts import Host, Readiness
from workers.config import FLEET_FILE, Settings, read_fleet_file
from workers.console import display, reading
from workers.console.fleet_checks import has_scheduler
from workers.errors import InvalidSettings

EX_FAILED, EX_USAGE = 1, 2

#: Errors in what the user wrote.
_MISUSES = (InvalidSettings, InvalidRequirement, InvalidPlacement, InvalidName)


class _Failed(click.ClickException):
    """An error of this project as one line."""

    exit_code = EX_FAILED

    def show(self, file: Any = None) -> None:  # noqa: ARG002  # click's signature
        """Say it."""
        complain(self.message)


class _Misused(_Failed):
    """A setting, a requirement or a name that can't be used."""

    exit_code = EX_USAGE


class Commands(click.Group):
    """Turns the errors that this project raises on purpose into one line and an exit status, for every command."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command asked for."""
        try:
            return super().invoke(ctx)
        except ManagerError as error:
            failure = _Misused if isinstance(error, _MISUSES) else _Failed
            raise failure(str(error)) from error


def complain(message: str) -> None:
    """Say on standard error what is wrong; a line each, as the message has them."""
    click.echo("celeriac: " + "\n".join(display.plain(line) for line in message.splitlines()), err=True)


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* the option that every reading command has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, whose keys stay.")(command)


def read(settings: Settings) -> tuple[list[Host], Readiness]:
    """Return the table's rows; say how to get a fleet where no table answers."""
    try:
        with reading.open_table(settings) as table:
            return reading.snapshot(table)
    except TableUnavailable as error:
        named = read_fleet_file(settings.dir).get("settings", {}).get("table_url") == settings.table_address
        hint = f"{settings.dir / FLEET_FILE} names it, and that fleet may be dead: " if named else ""
        raise TableUnavailable(f"{error}; {hint}celeriac up starts a fleet here") from error


def judge(settings: Settings, rows: list[Host], readiness: Readiness, *, fatal: bool = True) -> None:
    """Say why the answer can't be believed in full, if it can't, and end with status 1 if that is *fatal*."""
    if not readiness.ready:
        way_out = "live hosts come by themselves within an interval, celeriac up starts a fleet here"
        complain(f"not ready: {readiness.reason}; {way_out}")
    elif rows and not has_scheduler(rows):
        complain(
            "no scheduler is live: reports wait in the queue 'scheduler' of"
            f" {reading.shown('BROKER_URL', settings.broker_url)}, nothing is placed and the dead are not pruned;"
            " start one: CELERIAC_SERVICES=scheduler celery -A workers worker"
        )
    else:
        return
    if fatal:
        click.get_current_context().exit(EX_FAILED)
