"""Placed tasks of the fleet tests, each of which writes down where it ran, what it had asked for, and how it ended."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import current_app, shared_task
from celery.exceptions import Reject

from managers import Manager, expose
from scheduler.task import ScheduledTask
from workers.registry import registry_of


class RenderManager(Manager[None], service_name="render"):
    """A service that only some hosts have."""

    @expose
    def whoami(self) -> str:
        """Return the host's name."""
        return self.host


class Placed(ScheduledTask):
    """A task that is placed whatever its call says: it claims a slot."""

    abstract = True
    claims = {}  # noqa: RUF012  # an option, as users write it


class Refusing(Placed):
    """A task after which something fails that Celery tells a pool without processes nothing of."""

    abstract = True

    def on_success(self, *_: Any) -> None:
        """Refuse the message of a task that is done."""
        raise Reject("as if its result could not be stored", requeue=False)


def work(task: Any, word: str = "", seconds: float = 0.0, asked: dict[str, Any] | None = None, ends: str = "") -> str:
    """Keep a slot for so many seconds, then end in the way that *ends* names; return the host."""
    with noted(task, word, asked):
        time.sleep(seconds)
        while ends == "when told" and not Path(os.environ["JOURNAL"], f"{word}.go").exists():
            time.sleep(0.02)
        if ends == "badly":
            raise KeyError(word)
        if ends == "by retries" and task.request.retries < 2:
            raise task.retry(countdown=0.1)
        died = Path(os.environ["JOURNAL"], f"{word}.died")
        if ends == "by death" or (ends == "by one death" and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return registry_of(current_app).host


do = shared_task(name="work.do", base=Placed, bind=True)(work)
do_late = shared_task(name="work.do_late", base=Placed, bind=True, acks_late=True, reject_on_worker_lost=True)(work)
do_ignored = shared_task(name="work.do_ignored", base=Placed, bind=True, ignore_result=True)(work)
do_softly = shared_task(name="work.do_softly", base=Placed, bind=True, soft_time_limit=1)(work)
do_hurried = shared_task(name="work.do_hurried", base=Placed, bind=True, time_limit=1)(work)
do_refused = shared_task(name="work.do_refused", base=Refusing, bind=True)(work)
plain = shared_task(name="work.plain", bind=True)(work)


@shared_task(name="work.gather", base=Placed)
def gather(hosts: list[str]) -> list[str]:
    """Be the body of a chord."""
    return sorted(hosts)


@contextmanager
def noted(task: Any, word: str, asked: dict[str, Any] | None) -> Iterator[None]:
    """Write down that *task* begins and, unless it is killed, that it ends."""
    host = registry_of(current_app).host
    has = json.loads(os.environ["HAS"])

    def note(what: str) -> None:
        entry = {
            "what": what, "id": task.request.id, "word": word, "host": host, "asked": asked or {}, "has": has,
            "at": time.time(),
        }  # fmt: skip
        with Path(os.environ["JOURNAL"], f"{host}.work").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    note("begin")
    try:
        yield
    finally:
        note("end")
