"""What the fleet tests call: a manager whose exposed methods say who ran them, and one to chain them with."""

import logging
import os
import time
from pathlib import Path
from typing import Any

from celery import current_task, shared_task

from managers import Manager, current_context, expose, periodic_task

logger = logging.getLogger(__name__)


class CallerManager(Manager[None], service_name="caller"):
    """Writes down each call as ``<method> <argument>`` in ``$JOURNAL/<host>.calls``."""

    @expose
    def whoami(self) -> str:
        """Return the host's name."""
        return self.host

    @expose
    def add(self, first: int, second: int = 0) -> int:
        """Return the sum."""
        return first + second

    @expose
    def note(self, word: int | str) -> str:
        """Write *word* down."""
        self.write("note", word)
        return self.host

    @expose
    def fail(self, word: str) -> None:
        """Raise."""
        raise KeyError(word)

    @expose(autoretry_for=(OSError,), retry_kwargs={"max_retries": 2, "countdown": 0.2})
    def flaky(self, word: str) -> list[Any]:
        """Raise twice, then tell how it went."""
        self.write("flaky", word)
        retries: int = current_task.request.retries
        if retries < 2:
            raise OSError(word)
        return [self.host, retries, self.asker()]

    @expose(time_limit=1)
    def hang(self) -> None:
        """Outlast the time limit."""
        time.sleep(30)

    @expose
    def hold(self, seconds: float) -> str:
        """Keep a slot busy."""
        self.write("hold", "started")
        time.sleep(seconds)
        return self.host

    @expose
    def hold_until(self, name: str) -> str:
        """Keep a slot busy until *name* lies in ``$JOURNAL``."""
        self.write("hold_until", name)
        for _ in range(12_000):
            if Path(os.environ["JOURNAL"], name).exists():
                break
            time.sleep(0.01)
        return self.host

    @expose
    def say(self, word: str) -> None:
        """Log *word*."""
        logger.info("somebody said %s", word)

    @expose
    def explain(self, task_id: str) -> None:
        """Write down which task failed, and for whom."""
        context = current_context()
        self.write("explain", f"{task_id} {context and context.user}")

    @expose
    def asker(self) -> list[Any]:
        """Return who asked."""
        context = current_context()
        return [context and context.user, context and context.request_id]

    @expose
    def wait_inside(self) -> str:
        """Try what no task should."""
        return CallerManager.whoami.call()

    @periodic_task(spacing=1)
    def light(self) -> None:
        """Run on each tick, in the main process."""
        self.write("light", f"{self.schedule.now()} {os.getpid()} {time.time()}")

    @periodic_task(spacing=1, pool=True)
    def heavy(self) -> None:
        """Run on each tick, in the pool; once for as many seconds as ``$JOURNAL/heavy`` says."""
        began = time.time()
        order = Path(os.environ["JOURNAL"], "heavy")
        if order.exists():
            seconds = float(order.read_text())
            order.unlink()
            time.sleep(seconds)
        self.write("heavy", f"{began} {os.getpid()} {time.time()}")

    @periodic_task(spacing=1, scope="fleet")
    def alone(self) -> None:
        """Run on each tick of the fleet, on one host."""
        self.write("alone", f"{self.schedule.now()} {os.getpid()}")

    @periodic_task(spacing=3600, run_immediately=True)
    def once(self) -> None:
        """Run once, the first time that the host lives."""
        self.write("once", os.getpid())

    @periodic_task(spacing=1)
    def broken(self) -> None:
        """Fail, and keep nothing else from running."""
        raise RuntimeError("this one always fails")

    def write(self, method: str, word: Any) -> None:
        with Path(os.environ["JOURNAL"], f"{self.host}.calls").open("a") as file:
            file.write(f"{method} {word}\n")


@shared_task(name="caller.plain")
def plain(number: int) -> int:
    """Be an ordinary task in the middle of a chain."""
    return number + 1


@shared_task(name="caller.total")
def total(numbers: list[int]) -> int:
    """Be an ordinary task at the end of a chord."""
    return sum(numbers)
