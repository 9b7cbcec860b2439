"""What the machine under a host can do, measured: the default driver of the host service."""

import importlib.metadata
import logging
import os
import platform
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import psutil

from managers import cgroups
from managers.gpus import gpus
from managers.reports import Value

logger = logging.getLogger(__name__)

#: Returns some of the facts; it may raise, and may return none while it has nothing to say.
Source: TypeAlias = Callable[[], Mapping[str, Value]]

#: Bytes in one of the MB that capabilities count in.
MB = 2**20


class Machine:
    """Reads what its machine has; ``path`` lies on the filesystem whose size counts as the disk.

    ``sources`` replace those of the same name in the constructor, and add others; of two that
    give one key, the later wins.
    """

    def __init__(self, path: str | Path = ".", *, sources: Mapping[str, Source] | None = None) -> None:
        self._path = path
        self._cpu_seconds = (0.0, 0.0)
        self._busy: dict[str, Value] = {}
        self._silent: set[str] = set()
        self._sources: dict[str, Source] = {
            "cpus": _cpus,
            "memory": _memory,
            "disk": self._disk,
            "load": _load,
            "cpu_percent": self._cpu_percent,
            "gpus": gpus,
            "platform": _platform,
            "hostname": _hostname,
            "celery": lambda: {"celery": importlib.metadata.version("celery")},
            "celeriac": _celeriac,
            **(sources or {}),
        }

    def capabilities(self) -> dict[str, Value]:
        """Return what the machine can do now; made to be called once per period, from one thread at a time.

        Totals, to be claimed: ``cpus`` (1.5 where a quota says so), ``memory_mb``, ``disk_mb`` and ``gpus``; no more
        CPUs and memory than this process's affinity and control group let it use. An MB is 2**20 bytes.
        Measurements: ``memory_available_mb``, ``disk_available_mb``, ``load_1m`` and ``cpu_percent``; the last two are
        of the whole machine, its other containers included.
        Facts: ``os``, ``os.release``, ``arch``, ``python``, ``celery``, ``celeriac``, ``hostname``. GPUs: see ``gpus``.

        Never raises: a source that fails is left out, with one warning until it answers again.
        """
        facts: dict[str, Value] = {}
        for name, source in self._sources.items():
            try:
                facts.update(source())
            except Exception as error:  # noqa: BLE001 - one broken source must not silence the others
                if name not in self._silent:
                    logger.warning("%s is left out of the capabilities: %r", name, error, extra={"source": name})
                self._silent.add(name)
            else:
                self._silent.discard(name)
        return facts

    def _disk(self) -> dict[str, Value]:
        disk = psutil.disk_usage(os.fspath(self._path))
        return {"disk_mb": disk.total // MB, "disk_available_mb": disk.free // MB}

    def _cpu_percent(self) -> dict[str, Value]:
        """Return the share of time the CPUs were busy since the last reading, at first since the machine's start.

        Readings closer together than the kernel's clock tick give the same answer.
        psutil's own cpu_percent remembers per thread: a tick in a new thread would read 0.0.
        """
        times = psutil.cpu_times()._asdict()
        # Linux counts a guest's time in user and nice already.
        total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        idle = times["idle"] + times.get("iowait", 0.0)
        last_total, last_idle = self._cpu_seconds
        if total > last_total:
            # iowait may run backwards by a clock tick.
            busy = min(1.0, max(0.0, 1 - (idle - last_idle) / (total - last_total)))
            self._busy = {"cpu_percent": round(100 * busy, 1)}
        self._cpu_seconds = (total, idle)
        return self._busy


def _cpus() -> dict[str, Value]:
    # sched_getaffinity is Linux's; elsewhere nothing narrows the machine down.
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    # Claims are counted in thousandths.
    cpus = round(min(affinity, cgroups.cpu_limit() or affinity), 3)
    return {"cpus": int(cpus) if cpus == int(cpus) else cpus}


def _memory() -> dict[str, Value]:
    memory = psutil.virtual_memory()
    limit, left = cgroups.memory_limit(), cgroups.memory_available()
    total = memory.total if limit is None else min(memory.total, limit)
    available = memory.available if left is None else min(memory.available, left)
    return {"memory_mb": total // MB, "memory_available_mb": available // MB}


def _load() -> dict[str, Value]:
    return {"load_1m": round(os.getloadavg()[0], 2)}


def _platform() -> dict[str, Value]:
    return {
        "os": platform.system(),
        "os.release": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
    }


def _hostname() -> dict[str, Value]:
    return {"hostname": socket.gethostname()}


def _celeriac() -> dict[str, Value]:
    """Return nothing where Celeriac runs from its source tree, not installed."""
    try:
        return {"celeriac": importlib.metadata.version("celeriac")}
    except importlib.metadata.PackageNotFoundError:
        return {}
