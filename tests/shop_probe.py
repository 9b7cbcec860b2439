"""Calls each task of examples/existing_app: ``shop_probe.py send|collect MODULE FILE``.

Run as a program with the shop on its path, once before a worker runs and once while it does. MODULE is where the
application is: ``shop.celery``, or ``shop.fleet``, which has managers.
"""

import importlib
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import redis
from celery.result import AsyncResult

CALLS: dict[str, tuple[Any, ...]] = {
    "shop.orders.price": ("teapot", 2),
    "shop.orders.total": ([1, 2, 3], 4),
    "shop.orders.checkout": ({"teapot": 1, "cup": 4},),
    "shop.orders.confirm": ({"id": 7},),
    "shop.orders.cancel": ({"id": 7}, "broken"),
    "shop.stock.count": ("cup",),
    "shop.stock.reserve": ("teapot", 5),
    "shop.stock.missing": (),
    "shop.stock.import_feed": ("potters",),
    "shop.stock.discontinue": ("spoon",),
    "shop.mail.welcome": ("Ann",),
    "shop.mail.receipt": ("Ann", 5740),
    "shop.mail.reminder": ("Ann", 3),
    "shop.mail.newsletter": ({"ann", "bob"},),
    "shop.images.thumbnail": (1024, 768),
    "shop.images.watermark": ("teapot.png",),
    "shop.images.palette": (["red", "blue", "red"],),
    "shop.reports.week_of": (date(2026, 11, 22),),
    "shop.reports.best_seller": ({"cup": 9, "teapot": 2},),
    "shop.reports.sweep": (),
}


def send(app: Any) -> dict[str, Any]:
    """Send every task while nobody listens; return where each waits, and how it is written."""
    own = {name for name in app.tasks if name.startswith("shop.")}
    assert own == set(CALLS), own ^ set(CALLS)
    ids = {name: app.tasks[name].delay(*args).id for name, args in CALLS.items()}
    client = redis.Redis.from_url(app.conf.broker_url)
    waiting = {}
    for queue in ("shop", "mail", "images", "celery", "host", "printer"):
        for body in client.lrange(queue, 0, -1):
            message = json.loads(body)
            delivery = message["properties"]["delivery_info"]
            waiting[message["headers"]["task"]] = [
                queue, delivery["exchange"], delivery["routing_key"], message["content-type"], *message["headers"],
            ]  # fmt: skip
    return {"ids": ids, "waiting": waiting}


def collect(app: Any, ids: dict[str, str]) -> dict[str, Any]:
    """Return what came of every task."""
    found = {}
    for name, task_id in ids.items():
        result = AsyncResult(task_id, app=app)
        result.get(timeout=30, propagate=False)
        found[name] = [repr(result.result), result.state, result.queue, result.retries]
    return found


def main() -> None:
    """Do what the command line says."""
    act, module, file = sys.argv[1:]
    app = importlib.import_module(module).app
    app.finalize()
    app.loader.import_default_modules()
    path = Path(file)
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= send(app) if act == "send" else {"results": collect(app, known["ids"])}
    path.write_text(json.dumps(known))


if __name__ == "__main__":
    main()
