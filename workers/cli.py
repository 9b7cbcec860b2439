"""The command ``celeriac``; every command that reads has ``--json``; exit status 0, 1 failed, 2 usage.

Standard output carries the answer, standard error what is wrong with it. An answer that can't be believed in full (the
table is not ready, no scheduler lives) is given all the same, with exit status 1.
"""

import difflib
import sys
from collections.abc import Callable, Iterable
from io import TextIOWrapper
from typing import Any

import click

from managers.errors import ManagerError
from managers.version import version
from scheduler.errors import HostNotFound, TableUnavailable
from scheduler.hosts import Host, Readiness, aggregate
from workers.config import FLEET_FILE, Settings, load_settings, read_fleet_file
from workers.console import display, reading
from workers.console.checks import FAILED
from workers.console.doctor import examine
from workers.console.dossier import dossier
from workers.console.fleet_checks import has_scheduler
from workers.embedded.demo import demo
from workers.embedded.up import up
from workers.errors import InvalidSettings

EX_FAILED, EX_USAGE = 1, 2


class _Failed(click.ClickException):
    """An error of this project as one line."""

    exit_code = EX_FAILED

    def show(self, file: Any = None) -> None:  # noqa: ARG002  # click's signature
        """Say it."""
        complain(self.message)


class _Misused(_Failed):
    """A setting that can't be used."""

    exit_code = EX_USAGE


class _Commands(click.Group):
    """Turns the errors that this project raises on purpose into one line and an exit status, for every command."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command asked for."""
        try:
            return super().invoke(ctx)
        except ManagerError as error:
            failure = _Misused if isinstance(error, InvalidSettings) else _Failed
            raise failure(str(error)) from error


def complain(message: str) -> None:
    """Say on standard error what is wrong; a line each, as the message has them."""
    click.echo("celeriac: " + "\n".join(display.plain(line) for line in message.splitlines()), err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="celeriac")
def main() -> None:
    """Know what every host of a Celery fleet can do."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a label in Greek must not break a terminal in ASCII


_service = click.option("--service", metavar="S", help="Only this service.")


def _json(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, whose keys stay.")(command)


@main.command("hosts")
@_service
@_json
def hosts(service: str | None, *, as_json: bool) -> None:
    """List every service of every host.

    State, when it was seen, free/total of what tasks can claim.
    """
    settings = load_settings()
    rows, readiness = _read(settings)
    asked = [row for row in rows if service in {None, row.service}]
    if as_json:
        display.write_json([row.to_dict() for row in asked])
    elif asked:
        display.write(display.HostsView(asked))
    elif readiness.ready:
        click.echo(_nobody(rows, service))
    _judge(settings, rows, readiness)


@main.command("show")
@click.argument("host")
@_json
def show(host: str, *, as_json: bool) -> None:
    """Show everything known of one host.

    Each service's state and capabilities, who holds it, and the durable registry's record.
    """
    settings = load_settings()
    rows, readiness = _read(settings)
    fault = None
    records = []
    try:
        records = reading.records(settings)
    except ManagerError as error:
        fault = str(error)
    entries = dossier(
        [row for row in rows if row.host == host], [record for record in records if record.host == host], readiness
    )
    if fault is not None:
        complain(f"the durable registry is left out: {fault}")
    if not entries:
        names = {row.host for row in rows} | {record.host for record in records}
        _judge(settings, rows, readiness, fatal=False)
        raise HostNotFound(f"nobody knows a host {host!r}; {_nearest(host, names)}")
    if as_json:
        display.write_json({"host": host, "ready": readiness.ready, "database_error": fault, "services": entries})
    else:
        display.write(display.dossier_view(entries))
    if not readiness.ready:
        _judge(settings, rows, readiness)


@main.command("capabilities")
@_service
@_json
def capabilities(service: str | None, *, as_json: bool) -> None:
    """List what the fleet can do.

    The least and the most of each capability over all hosts that are up.
    """
    settings = load_settings()
    rows, readiness = _read(settings)
    asked = aggregate(row for row in rows if service in {None, row.service})
    if as_json:
        display.write_json({key: list(limits) for key, limits in asked.items()})
    elif asked:
        display.write(display.capabilities_view(asked))
    elif readiness.ready:
        click.echo("no capabilities: no host that is up has reported any; celeriac hosts says why")
    _judge(settings, rows, readiness)


@main.command("doctor")
@_json
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check the fleet and say what to do.

    Settings, broker, table, database, scheduler, beat, hosts, clock, versions, counters. Exit status 1 if one failed.
    """
    checks = examine(load_settings())
    if as_json:
        display.write_json([check.to_dict() for check in checks])
    else:
        display.write(display.checks_view(checks))
    ctx.exit(EX_FAILED if any(check.status == FAILED for check in checks) else 0)


def _read(settings: Settings) -> tuple[list[Host], Readiness]:
    """Return the table's rows; say how to get a fleet where no table answers."""
    try:
        with reading.open_table(settings) as table:
            return reading.snapshot(table)
    except TableUnavailable as error:
        named = read_fleet_file(settings.dir).get("settings", {}).get("table_url") == settings.table_address
        hint = f"{settings.dir / FLEET_FILE} names it, and that fleet may be dead: " if named else ""
        raise TableUnavailable(f"{error}; {hint}celeriac up starts a fleet here") from error


def _judge(settings: Settings, rows: list[Host], readiness: Readiness, *, fatal: bool = True) -> None:
    """Say why the answer can't be believed in full, if it can't, and end with status 1 if that is *fatal*."""
    if not readiness.ready:
        way_out = "live hosts come by themselves within an interval, celeriac up starts a fleet here"
        complain(f"not ready: {readiness.reason}; {way_out}")
    elif rows and not has_scheduler(rows):
        complain(
            "no scheduler is live: reports wait in the queue 'scheduler' of"
            f" {reading.shown('BROKER_URL', settings.broker_url)}, and the dead are not pruned;"
            " start one: CELERIAC_SERVICES=scheduler celery -A workers worker"
        )
    else:
        return
    if fatal:
        click.get_current_context().exit(EX_FAILED)


def _nobody(rows: Iterable[Host], service: str | None) -> str:
    services = sorted({row.service for row in rows})
    if service is None or not services:
        return "no hosts: celeriac up starts a fleet here, celery -A workers worker a host of a deployed one"
    return f"no hosts of service {service!r}; {_nearest(service, services)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(names[:20]) or 'none at all'}{' and more' if len(names) > 20 else ''}"


main.add_command(up)
main.add_command(demo)


if __name__ == "__main__":
    main()
