"""``celeriac demo``: a fleet of unlike hosts checksums and compresses a directory, and says where each part ran."""

import os
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from celery.result import AsyncResult
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from managers.routing import host_queue, service_queue
from scheduler.hosts import Host
from workers.config import PREFIX, load_settings
from workers.embedded.fleet import Fleet, HostPlan
from workers.embedded.interrupts import Interrupts, Stopped
from workers.errors import FleetError

#: The fleet: unlike hosts.
HOSTS = (
    HostPlan("cedar", "zone=a,disk=ssd"),
    HostPlan("maple", "zone=a,disk=hdd"),
    HostPlan("rowan", "zone=b,disk=ssd", slots=1),
)
#: Bytes of one part, about; and the most files in it.
PART_BYTES = 2 * 2**20
PART_FILES = 200
#: Of how many parts one is sent to a named host; the others go to any.
NAMED = 3
#: Seconds without any part done after which the demo gives up.
PATIENCE = 60.0


@dataclass(slots=True)
class Part:
    """Some files, sent to one named host, or to any (None)."""

    host: str | None
    result: AsyncResult[Any]
    answer: dict[str, Any] | None = None


@click.command()
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--manifest", type=click.Path(dir_okay=False, path_type=Path), help="Write the checksums, as sha256sum reads them."
)
def demo(directory: Path | None, manifest: Path | None) -> None:
    """Checksum and compress every file of DIRECTORY on an embedded fleet of three hosts.

    Without DIRECTORY it takes the standard library of the running Python. Some parts go to named hosts, the others to
    any; at the end it prints where each ran. Everything it starts is stopped again.
    """
    console = Console()
    paths = list(_files(directory or Path(sysconfig.get_paths()["stdlib"]), standard_library=directory is None))
    if not paths:
        raise FleetError(f"{directory} holds no files; name a directory that does")
    interrupts = Interrupts()
    with interrupts, tempfile.TemporaryDirectory(prefix="celeriac-demo-") as state:
        try:
            console.print(f"Starting a fleet of {len(HOSTS)} hosts, a scheduler and a beat …")
            started = time.monotonic()
            with Fleet(
                Path(state),
                HOSTS,
                environment={
                    f"{PREFIX}TASKS": "workers.embedded.demo_tasks",
                    f"{PREFIX}PERIODIC_INTERVAL": "1",
                    f"{PREFIX}HEARTBEAT_INTERVAL": "1",
                },
                on_event=console.print,
                hurried=interrupts.hurried,
            ) as fleet:
                console.print(f"Up after {time.monotonic() - started:.1f} s.")
                parts = _send(fleet, paths)
                began = time.monotonic()
                _watch(console, fleet, parts)
                _print_summary(console, parts, seconds=time.monotonic() - began)
                if manifest is not None:
                    _write_manifest(manifest, parts)
        except Stopped:
            raise click.Abort from None
    console.print("The fleet is stopped.")


def _files(directory: Path, *, standard_library: bool) -> Iterator[tuple[str, int]]:
    """Yield each regular file below *directory* with its size, in a fixed order; links are not followed."""
    for folder, folders, files in os.walk(directory):
        folders.sort()
        if standard_library:  # what is installed beside it is not of it
            folders[:] = [name for name in folders if name not in {"site-packages", "dist-packages", "__pycache__"}]
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield str(path.absolute()), path.stat().st_size


def _send(fleet: Fleet, paths: Sequence[tuple[str, int]]) -> list[Part]:
    """Cut *paths* into parts and send them: every third to a named host in turn, the others to any."""
    from workers.celery import make_app  # noqa: PLC0415  # an application that speaks to this fleet, not to a default one

    app = make_app(load_settings(**fleet.settings))
    parts: list[Part] = []
    for number, files in enumerate(_cut(paths)):
        host = HOSTS[number // NAMED % len(HOSTS)].name if number % NAMED == 0 else None
        queue: Any = service_queue("host") if host is None else host_queue("host", host)
        parts.append(Part(host, app.send_task("demo.digest", (files,), queue=queue)))
    return parts


def _cut(paths: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for path, length in paths:
        part.append(path)
        size += length
        if size >= PART_BYTES or len(part) >= PART_FILES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _watch(console: Console, fleet: Fleet, parts: Sequence[Part]) -> None:
    """Show progress and the live host table until every part is done."""
    progress = Progress(
        TextColumn("[bold]parts"), BarColumn(None), MofNCompleteColumn(), TaskProgressColumn(), TimeElapsedColumn()
    )
    bar = progress.add_task("parts", total=len(parts))
    last_done, looked = time.monotonic(), 0.0
    rows: list[Host] = []
    with Live(console=console, refresh_per_second=8) as live:
        while open_parts := [part for part in parts if part.answer is None]:
            for part in open_parts:
                if part.result.ready():
                    part.answer = part.result.get()
                    progress.advance(bar)
                    last_done = time.monotonic()
            if time.monotonic() - looked > 0.5:
                fleet.look()
                rows, looked = fleet.rows(), time.monotonic()
            if time.monotonic() - last_done > PATIENCE:
                raise FleetError(f"{len(open_parts)} parts are not done and none was for {PATIENCE:g} s")
            live.update(Group(progress, _host_table(rows, parts)))
            time.sleep(0.05)


def _write_manifest(manifest: Path, parts: Sequence[Part]) -> None:
    files = (file for part in parts if part.answer is not None for file in part.answer["files"])
    manifest.write_text("".join(f"{digest}  {path}\n" for path, digest, *_ in sorted(files)), encoding="utf-8")


def _host_table(rows: Sequence[Host], parts: Sequence[Part]) -> Table:
    table = Table(title="hosts, as the capability table knows them")
    for column in ("host", "state", "seen", "zone", "disk"):
        table.add_column(column)
    for column in ("slots", "load", "parts done"):
        table.add_column(column, justify="right")
    ran = Counter(part.answer["host"] for part in parts if part.answer is not None)
    for row in rows:
        if row.service == "host":
            said = [str(row.capabilities.get(key, "")) for key in ("zone", "disk", "slots", "load_1m")]
            table.add_row(row.host, row.state, f"{row.seen_seconds_ago:.1f} s ago", *said, str(ran[row.host]))
    return table


def _print_summary(console: Console, parts: Sequence[Part], *, seconds: float) -> None:
    table = Table(title="where each part ran")
    for column in ("host", "sent by name", "sent to any", "files", "MB read", "MB packed", "busy"):
        table.add_column(column, justify="left" if column == "host" else "right")
    done = [(part, part.answer) for part in parts if part.answer is not None]
    strayed = [part.host for part, answer in done if part.host not in {None, answer["host"]}]
    for host in sorted({answer["host"] for _, answer in done}):
        here = [(part, answer) for part, answer in done if answer["host"] == host]
        files = [file for _, answer in here for file in answer["files"]]
        table.add_row(
            host,
            str(sum(part.host is not None for part, _ in here)),
            str(sum(part.host is None for part, _ in here)),
            str(len(files)),
            f"{sum(file[2] for file in files) / 2**20:.1f}",
            f"{sum(file[3] for file in files) / 2**20:.1f}",
            f"{sum(answer['seconds'] for _, answer in here):.1f} s",
        )
    console.print()
    console.print(table)
    files = [file for _, answer in done for file in answer["files"]]
    unread = [fault for _, answer in done for fault in answer["unread"]]
    size, packed = sum(file[2] for file in files), sum(file[3] for file in files)
    console.print(
        f"{len(done)} parts, {len(files)} files, {size / 2**20:.1f} MB compressed to {packed / 2**20:.1f} MB"
        f" in {seconds:.1f} s; {len(unread)} files could not be read."
    )
    for path, why in unread[:10]:
        console.print(f"  not read: {path}: {why}", highlight=False)
    if strayed:
        raise FleetError(f"{len(strayed)} parts ran on another host than the one they were sent to: {strayed}")
