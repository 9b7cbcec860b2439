"""Reports that one scheduler process turns into rows, beside no-op tasks that one plain Celery process runs."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import plain
from celery import Celery
from sample import identity_of, name_of, report_of
from worker import Rate, Worker

from managers.reports import send_report
from scheduler.hosts import Joined
from scheduler.table import Table
from workers.celery import make_app
from workers.config import load_settings

#: Seconds that one side of one round may take, start-up included.
LIMIT = 180.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """Both sides of one pool, round by round."""

    pool: str
    reports: list[Rate]
    tasks: list[Rate]

    @property
    def ratio(self) -> float:
        """How many reports in the time of one task, by the medians."""
        return median(rate.per_second for rate in self.reports) / median(rate.per_second for rate in self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {
            "pool": self.pool,
            "reports_per_second": round(median(rate.per_second for rate in self.reports), 1),
            "tasks_per_second": round(median(rate.per_second for rate in self.tasks), 1),
            "ratio": round(self.ratio, 3),
            "report_cpu_us": round(median(rate.cpu_us for rate in self.reports), 1),
            "task_cpu_us": round(median(rate.cpu_us for rate in self.tasks), 1),
            "rounds": [
                {"reports_per_second": round(report.per_second, 1), "tasks_per_second": round(task.per_second, 1)}
                for report, task in zip(self.reports, self.tasks, strict=True)
            ],
        }


class Sides:
    """The two sides, on the Redis at *url*, whose database is theirs to empty."""

    def __init__(self, client: Any, url: str, *, count: int, hosts: int, prefetch: int) -> None:
        self._client = client
        self._url = url
        self._count = count
        self._hosts = min(hosts, count)
        self._prefetch = prefetch

    def measure(self, pool: str, rounds: int) -> Throughput:
        """Measure both sides in turn, each first in every other round."""
        reports: list[Rate] = []
        tasks: list[Rate] = []
        for number in range(rounds):
            sides = [(reports, self.reports), (tasks, self.tasks)]
            for rates, side in sides if number % 2 == 0 else reversed(sides):
                with tempfile.TemporaryDirectory(prefix="celeriac-benchmark-") as folder:
                    self._client.flushdb()
                    rates.append(side(pool, Path(folder)))
        self._client.flushdb()
        return Throughput(pool, reports, tasks)

    def reports(self, pool: str, folder: Path) -> Rate:
        """Return the rate of one scheduler worker; every one must have become a row."""
        table = Table(self._client)
        boots = []
        for number in range(self._hosts):
            joined = table.join(identity_of(number), [f"host/{name_of(number)}"])
            if not isinstance(joined, Joined):
                raise TypeError(f"{name_of(number)} can't join: {joined}")
            boots.append(joined.boot)
        app = make_app(load_settings(dir=folder, broker_url=self._url, host="benchmark"))
        for message in range(self._count):
            sequence, number = divmod(message, self._hosts)
            send_report(app, report_of(number, boot=boots[number], sequence=sequence + 1))
        app.close()
        environment = {
            "CELERIAC_BROKER_URL": self._url,
            "CELERIAC_DIR": str(folder),
            "CELERIAC_HOST": "benchmark-scheduler",
            "CELERIAC_SERVICES": "scheduler",
            "CELERIAC_PERIODIC_INTERVAL": "3600",
        }
        with Worker("workers", pool=pool, environment=environment, folder=folder) as worker:
            rate = worker.rate(lambda: table.counters().get("reports_stored", 0), self._count, limit=LIMIT)
        counted = table.counters()
        counted.pop("reports_stored")
        if any(counted.values()):
            raise RuntimeError(f"not every report became a row: {counted}")
        return rate

    def tasks(self, pool: str, folder: Path) -> Rate:
        """Return the rate of one plain worker."""
        app = Celery("publisher", broker=self._url, set_as_current=False)
        for _ in range(self._count):
            app.send_task("noop", ignore_result=True)
        app.close()
        environment = {plain.BROKER: self._url, plain.PREFETCH: str(self._prefetch)}
        with Worker("plain", pool=pool, environment=environment, folder=folder) as worker:
            return worker.rate(self._tasks_done, self._count, limit=LIMIT)

    def _tasks_done(self) -> int:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.llen(plain.QUEUE)
        pipeline.hlen("unacked")
        waiting, unacknowledged = pipeline.execute()
        return self._count - int(waiting) - int(unacknowledged)
