"""``celeriac up``: the whole fleet on this machine, until Ctrl-C."""

import time
from pathlib import Path

import click

from workers.config import PREFIX, load_settings
from workers.embedded.fleet import LOOK, Fleet, HostPlan
from workers.embedded.interrupts import Interrupts, Stopped


@click.command()
@click.option("--hosts", default=1, show_default=True, type=click.IntRange(1, 64), help="How many hosts to start.")
@click.option("--slots", default=2, show_default=True, type=click.IntRange(1, 64), help="Tasks a host runs at once.")
@click.option("--labels", multiple=True, metavar="k=v,…", help="Labels; give it again for the second host, and so on.")
@click.option("--tasks", multiple=True, metavar="MODULE", help="A module of Celery tasks to import. Repeatable.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port of the embedded Valkey.  [default: any]")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="State directory.  [default: .celeriac]",
)
def up(  # noqa: PLR0917  # click passes them by name
    hosts: int, slots: int, labels: tuple[str, ...], tasks: tuple[str, ...], port: int, directory: Path | None
) -> None:
    """Start a whole fleet here: embedded Valkey, SQLite, scheduler, beat and hosts. Ctrl-C stops it cleanly."""
    environment = {f"{PREFIX}TASKS": ",".join(tasks)} if tasks else {}
    given = [load_settings(labels=each).labels for each in labels]
    given += [load_settings().labels] * (hosts - len(given))
    plans = [HostPlan(f"host-{number + 1}", given[number], slots) for number in range(hosts)]
    interrupts = Interrupts()
    fleet = Fleet(
        directory or load_settings().dir,
        plans,
        port=port,
        environment=environment,
        on_event=lambda event: click.echo(event, err=True),
        hurried=interrupts.hurried,
    )
    with interrupts:
        try:
            with fleet:
                names = ", ".join(plan.name for plan in plans)
                click.echo(f"ready: scheduler, beat, {hosts} hosts ({names}); state in {fleet.directory}; Ctrl-C stops")
                while True:
                    fleet.look()
                    time.sleep(LOOK)
        except Stopped:
            click.echo("stopped")
