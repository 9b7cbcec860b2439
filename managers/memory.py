"""What a host remembers between two periodic runs, whichever of its processes learnt it.

One JSON file per service in a directory that the worker's main process makes before its pool: a pool child writes, the
main process reads at the next tick. Writes replace the file whole, so a reader sees the old or the new, never half; the
last writer wins, as the last caller of ``update_service_capabilities`` did within one process.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Protocol

from managers.reports import Capabilities


class Memory(Protocol):
    """Where the managers of one host keep what they last learnt."""

    def remember(self, service: str, capabilities: Capabilities | None) -> None:
        """Replace what is known of *service*."""

    def recall(self, service: str) -> Capabilities | None:
        """Return what was last remembered of *service*, None if nothing was."""


class ProcessMemory:
    """The memory of managers that live in one process: the object itself is kept, as in the origin."""

    def __init__(self) -> None:
        self._known: dict[str, Capabilities | None] = {}

    def remember(self, service: str, capabilities: Capabilities | None) -> None:
        """Replace what is known of *service*."""
        self._known[service] = capabilities

    def recall(self, service: str) -> Capabilities | None:
        """Return what was last remembered of *service*."""
        return self._known.get(service)


class HostMemory:
    """The memory of a host whose pool has processes of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def remember(self, service: str, capabilities: Capabilities | None) -> None:
        """Replace what is known of *service*, for every process of this host."""
        replace_file(self._path(service), json.dumps(None if capabilities is None else dict(capabilities)))

    def recall(self, service: str) -> Capabilities | None:
        """Return what any process of this host last remembered of *service*."""
        try:
            text = self._path(service).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        remembered: Capabilities | None = json.loads(text)
        return remembered

    def forget(self, service: str) -> None:
        """Drop what an earlier life of this host remembered of *service*, half-written files of a crash included."""
        for path in (self._path(service), *self._directory.glob(f".{service}.json.*")):
            path.unlink(missing_ok=True)

    def _path(self, service: str) -> Path:
        return self._directory / f"{service}.json"


def replace_file(path: Path, text: str) -> None:
    """Write *text* to *path* so that a reader sees what was there before or all of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        written.replace(path)
    except OSError:
        written.unlink()
        raise
