"""The command ``celeriac``; every command that reads has ``--json``; exit status 0, 1 failed, 2 usage.

Standard output carries the answer, standard error what is wrong with it. An answer that can't be believed in full (the
table is not ready, no scheduler lives) is given all the same, with exit status 1.
"""

import sys
from collections.abc import Iterable
from io import TextIOWrapper

import click

from managers.errors import ManagerError
from managers.version import version
from scheduler.claims import Claims
from scheduler.errors import HostNotFound
from scheduler.hosts import Host, aggregate
from workers.config import load_settings
from workers.console import display, placement_views, reading
from workers.console.checks import FAILED
from workers.console.commands import EX_FAILED, Commands, complain, json_option, judge, read
from workers.console.deciding import disable, drain, enable
from workers.console.doctor import examine
from workers.console.dossier import dossier, held
from workers.console.placement import claims, explain, history, pending
from workers.console.run import run
from workers.embedded.demo import demo
from workers.embedded.up import up
from workers.servers import nearest


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="celeriac")
def main() -> None:
    """Know what every host of a Celery fleet can do."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a label in Greek must not break a terminal in ASCII


_service = click.option("--service", metavar="S", help="Only this service.")


@main.command("hosts")
@_service
@json_option
def hosts(service: str | None, *, as_json: bool) -> None:
    """List every service of every host.

    State, when it was seen, free/total of what tasks can claim.
    """
    settings = load_settings()
    rows, readiness = read(settings)
    asked = [row for row in rows if service in {None, row.service}]
    if as_json:
        display.write_json([row.to_dict() for row in asked])
    elif asked:
        display.write(display.HostsView(asked))
    elif readiness.ready:
        click.echo(_nobody(rows, service))
    judge(settings, rows, readiness)


@main.command("show")
@click.argument("host")
@json_option
def show(host: str, *, as_json: bool) -> None:
    """Show everything known of one host.

    Each service's state and capabilities, who holds it, the durable registry's record, and the open claims.
    """
    settings = load_settings()
    rows, readiness = read(settings)
    with reading.open_table(settings) as table:
        open_claims = held(Claims(table).of(host), table.now())
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
        judge(settings, rows, readiness, fatal=False)
        raise HostNotFound(f"nobody knows a host {host!r}; {nearest(host, names)}")
    if as_json:
        known = {"host": host, "ready": readiness.ready, "database_error": fault, "services": entries}
        display.write_json({**known, "claims": open_claims})
    else:
        display.write(display.dossier_view(entries))
        if open_claims:
            click.echo()
            display.write(placement_views.claims_view(open_claims))
    if not readiness.ready:
        judge(settings, rows, readiness)


@main.command("capabilities")
@_service
@json_option
def capabilities(service: str | None, *, as_json: bool) -> None:
    """List what the fleet can do.

    The least and the most of each capability over all hosts that are up.
    """
    settings = load_settings()
    rows, readiness = read(settings)
    asked = aggregate(row for row in rows if service in {None, row.service})
    if as_json:
        display.write_json({key: list(limits) for key, limits in asked.items()})
    elif asked:
        display.write(display.capabilities_view(asked))
    elif readiness.ready:
        click.echo("no capabilities: no host that is up has reported any; celeriac hosts says why")
    judge(settings, rows, readiness)


@main.command("doctor")
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check the fleet and say what to do.

    Settings, broker, table, database, scheduler, beat, hosts, placement, clock, versions, counters. Exit status 1 if
    one failed.
    """
    checks = examine(load_settings())
    if as_json:
        display.write_json([check.to_dict() for check in checks])
    else:
        display.write(display.checks_view(checks))
    ctx.exit(EX_FAILED if any(check.status == FAILED for check in checks) else 0)


def _nobody(rows: Iterable[Host], service: str | None) -> str:
    services = sorted({row.service for row in rows})
    if service is None or not services:
        return "no hosts: celeriac up starts a fleet here, celery -A workers worker a host of a deployed one"
    return f"no hosts of service {service!r}; {nearest(service, services)}"


for _command in (explain, run, pending, claims, history, disable, enable, drain, up, demo):
    main.add_command(_command)


if __name__ == "__main__":
    main()
