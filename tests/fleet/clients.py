"""Clients that submit mixed placed work at once, each in a process of its own, and wait for what becomes of it."""

import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from tests.fleet.work import do
from workers.celery import app

#: What tasks ask of their hosts; the hosts of ``tests.fleet.placement`` have it in unlike measures.
MIXED: list[dict[str, Any]] = [
    {},
    {"requires": "zone == 'a'"},
    {"requires": {"zone": "b"}},
    {"requires": "zone != 'c' and disk in ('ssd', 'nvme')"},
    {"requires": "not zone == 'a'", "claims": {"slots": 0.5}},
    {"requires": "licences >= 2 or zone == 'c'"},
    {"requires": "1 < gpus <= 4 and fast", "claims": {"gpus": 1}},
    {"claims": {"gpus": 1}},
    {"claims": {"gpus": 2, "slots": 0.5}},
    {"claims": {"licences": 1, "slots": 0}},
    {"requires": "zone in ('a', 'c')", "claims": {"licences": 0.25}},
]


def submit(client: int, count: int, seconds: float) -> None:
    """Submit *count* tasks of *seconds* at most, then wait for all; write both down, one line for each task."""
    chance = random.Random(client)
    sent = []
    for number in range(count):
        asked = chance.choice(MIXED)
        at = time.time()
        result = do.apply_async((f"{client}-{number}", chance.uniform(0, seconds), asked), **asked)
        sent.append((at, result))
    with Path(os.environ["JOURNAL"], f"client-{client}").open("w") as file:
        for at, result in sent:
            host = result.get(timeout=600)
            file.write(
                json.dumps({"id": result.id, "at": at, "host": host, "done": result.date_done.timestamp()}) + "\n"
            )


if __name__ == "__main__":
    clients, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    app.finalize()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=submit, args=(client, count, seconds)) for client in range(clients)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))
