"""What the fleet tests run in their workers: a manager that writes down what it did, and tasks for its pool."""

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import current_app, shared_task

from managers import RequestContext, SchedulerDependentManager
from workers.registry import registry_of


class JournalManager(SchedulerDependentManager[None], service_name="journal"):
    """Writes each of its hooks' calls as a line of JSON to ``$JOURNAL/<host>``."""

    runs = 0

    def init_host(self) -> None:
        if os.environ.get("JOURNAL_FAILS") == self.host:
            raise RuntimeError("the disk is not there")
        time.sleep(float(os.environ.get("JOURNAL_INIT_TAKES", "0")))
        self.write("init_host")

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        started, due = time.time(), self.schedule.now()
        type(self).runs += 1
        time.sleep(float(os.environ.get("JOURNAL_TAKES", "0")))
        if self.last_capabilities is None:
            self.update_service_capabilities({"runs": self.runs})
        super().periodic_tasks(context)
        self.write("periodic_tasks", started=started, due=due, context=None if context is None else context.to_dict())

    def cleanup_host(self) -> None:
        self.write("cleanup_host")

    def write(self, hook: str, **said: Any) -> None:
        line = json.dumps({"hook": hook, "pid": os.getpid(), "at": time.time(), **said})
        with Path(os.environ["JOURNAL"], self.host).open("a") as file:
            file.write(line + "\n")


@shared_task(name="journal.hold")
def hold(seconds: float, path: str = "") -> str:
    """Keep a slot of the pool busy, and say so in *path*."""
    host = registry_of(current_app).settings.host
    for word in ("started", "ended"):
        if path:
            with Path(path).open("a") as file:
                file.write(f"{word} {host} {os.getpid()}\n")
        if word == "started":
            time.sleep(seconds)
    return host


hold_late = shared_task(name="journal.hold_late", acks_late=True)(hold.run)


@shared_task(name="journal.learn")
def learn(capabilities: dict[str, Any]) -> list[Any]:
    """Let the manager of the process that runs this learn something."""
    manager = registry_of(current_app).local("journal")
    manager.update_service_capabilities(capabilities)  # type: ignore[attr-defined]
    return [manager.host, os.getpid()]


@shared_task(name="journal.database")
def database() -> list[Any]:
    """Read the durable registry in the process that runs this."""
    manager = registry_of(current_app).local("journal")
    return [os.getpid(), sorted((record.service, record.host) for record in manager.db.service_get_all())]
