"""``celeriac demo``: a fleet of unlike hosts checksums and compresses a directory, and says what ran where and why."""

import os
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from celery import Task
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from scheduler.hosts import Host
from workers.config import PREFIX, load_settings
from workers.embedded.demo_asks import ASKS, NOWHERE, Ask, Part, ask_table, host_table, strayed
from workers.embedded.fleet import Fleet, HostPlan
from workers.embedded.interrupts import Interrupts, Stopped
from workers.errors import FleetError

#: The fleet: unlike hosts, and not of this machine's size.
HOSTS = (
    HostPlan("cedar", "zone=a,disk=ssd,memory_mb=4096", slots=3),
    HostPlan("maple", "zone=b,memory_mb=2048"),
    HostPlan("rowan", "zone=c,memory_mb=1024", slots=1),
)
#: Bytes of one part, about; and the most files in it.
PART_BYTES = 2 * 2**20
PART_FILES = 200
#: Seconds that a part waits for a host that nobody is.
WAIT = 1.0
#: Seconds without any part done after which the demo gives up.
PATIENCE = 60.0


@click.command()
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--manifest", type=click.Path(dir_okay=False, path_type=Path), help="Write the checksums, as sha256sum reads them."
)
def demo(directory: Path | None, manifest: Path | None) -> None:
    """Checksum and compress every file of DIRECTORY on an embedded fleet of three unlike hosts.

    Without DIRECTORY it takes the standard library of the running Python. Each part claims memory and a slot, some ask
    for a zone or a disk that not every host has, and one asks for what none has. At the end it prints what ran where,
    and why. Everything it starts is stopped again.
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
                _print_summary(console, fleet.rows(), parts, seconds=time.monotonic() - began)
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
    """Cut *paths* into parts and have them placed; and one more, of no files, for which there is no host."""
    # an application that speaks to this fleet, not to a default one
    from workers.celery import make_app  # noqa: PLC0415
    from workers.embedded import demo_tasks  # noqa: F401, PLC0415

    digest = make_app(load_settings(**fleet.settings)).tasks["demo.digest"]
    parts = [_sent(digest, ASKS[number % len(ASKS)], files) for number, files in enumerate(_cut(paths))]
    return [*parts, _sent(digest, NOWHERE, [], placement_timeout=WAIT)]


def _sent(digest: Task[Any, Any], ask: Ask, files: Sequence[str], **options: Any) -> Part:
    asked: dict[str, Any] = {"requires": ask.requires, "claims": {"memory_mb": ask.memory_mb}}
    return Part(ask, digest.apply_async((files,), **asked, **options))


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
    """Show progress and the live host table until every part is done, or known to fit nowhere."""
    progress = Progress(
        TextColumn("[bold]parts"), BarColumn(None), MofNCompleteColumn(), TaskProgressColumn(), TimeElapsedColumn()
    )
    bar = progress.add_task("parts", total=len(parts))
    last_done, looked = time.monotonic(), 0.0
    rows: list[Host] = []
    with Live(console=console, refresh_per_second=8) as live:
        while open_parts := [part for part in parts if part.is_open]:
            for part in open_parts:
                if part.look():
                    progress.advance(bar)
                    last_done = time.monotonic()
            if time.monotonic() - looked > 0.5:
                fleet.look()
                rows, looked = fleet.rows(), time.monotonic()
            if time.monotonic() - last_done > PATIENCE:
                raise FleetError(f"{len(open_parts)} parts are not done and none was for {PATIENCE:g} s")
            live.update(Group(progress, host_table(rows, parts)))
            time.sleep(0.05)
        live.update(Group(progress, host_table(fleet.rows() or rows, parts)))


def _write_manifest(manifest: Path, parts: Sequence[Part]) -> None:
    files = (file for part in parts if part.answer is not None for file in part.answer["files"])
    manifest.write_text("".join(f"{digest}  {path}\n" for path, digest, *_ in sorted(files)), encoding="utf-8")


def _print_summary(console: Console, rows: Sequence[Host], parts: Sequence[Part], *, seconds: float) -> None:
    console.print()
    console.print(ask_table(rows, parts))
    done = [part.answer for part in parts if part.answer is not None]
    files = [file for answer in done for file in answer["files"]]
    unread = [fault for answer in done for fault in answer["unread"]]
    size, packed = sum(file[2] for file in files), sum(file[3] for file in files)
    console.print(
        f"{len(done)} parts, {len(files)} files, {size / 2**20:.1f} MB compressed to {packed / 2**20:.1f} MB"
        f" in {seconds:.1f} s; {len(unread)} files could not be read."
    )
    for path, why in unread[:10]:
        console.print(f"  not read: {path}: {why}", highlight=False)
    for part in parts:
        if part.error is not None:
            console.print(f"1 part asked for {part.ask}, which no host has. Its result is NoValidHost:")
            for line in str(part.error).split("; ")[:3]:  # that it found none, why, and what the nearest lacks
                console.print(f"  {line}", highlight=False)
    if wrong := strayed(rows, parts):
        raise FleetError(f"{len(wrong)} parts ran on a host that has not what they asked for: {', '.join(wrong)}")
    if unplaced := [str(part.ask) for part in parts if part.error is not None and part.ask != NOWHERE]:
        raise FleetError(f"{len(unplaced)} parts found no host: {', '.join(unplaced)}")
