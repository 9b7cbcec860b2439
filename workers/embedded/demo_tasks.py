"""The demo's work: checksum and compress files, on a host that has the memory for it."""

import hashlib
import os
import time
import zlib
from typing import Any

from celery import current_app, shared_task

from scheduler.task import ScheduledTask
from workers.registry import registry_of


@shared_task(name="demo.digest", base=ScheduledTask, claims={"memory_mb": 256})  # type: ignore[untyped-decorator, unused-ignore]
def digest(paths: list[str]) -> dict[str, Any]:
    """Return what became of *paths* and where: per file its SHA-256, its size and its compressed size in bytes.

    A file that can't be read is reported with the reason; it doesn't fail the others.
    """
    started = time.monotonic()
    files, unread = [], []
    for path in paths:
        try:
            with open(path, "rb") as file:  # noqa: PTH123  # a plain open of a plain path
                content = file.read()
        except OSError as error:
            unread.append([path, str(error)])
        else:
            files.append([path, hashlib.sha256(content).hexdigest(), len(content), len(zlib.compress(content))])
    return {
        "host": registry_of(current_app).settings.host,
        "pid": os.getpid(),
        "seconds": time.monotonic() - started,
        "files": files,
        "unread": unread,
    }
