"""Calls and casts of an exposed method beside a bare Celery task, both run by one worker."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from noop import NoopManager, bare
from worker import Worker

from workers.celery import make_app
from workers.config import load_settings

#: Seconds that one wait for an answer may take, the worker's start included.
LIMIT = 120.0
#: Calls before anything is measured.
WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Side:
    """What one side took in one round; times in seconds, CPU times in microseconds per message."""

    p50: float
    p99: float
    per_second: float
    send_cpu_us: float
    worker_cpu_us: float


@dataclass(frozen=True, slots=True)
class Calls:
    """Both sides of one pool, round by round."""

    pool: str
    methods: list[Side]
    tasks: list[Side]

    @property
    def latency_ratio(self) -> float:
        """How many calls in the time of one task, by the medians of the rounds' medians."""
        return self._ratio(lambda side: 1 / side.p50)

    @property
    def throughput_ratio(self) -> float:
        """How many casts in the time of one task, by the medians."""
        return self._ratio(lambda side: side.per_second)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {
            "pool": self.pool,
            "method": _medians(self.methods),
            "task": _medians(self.tasks),
            "latency_ratio": round(self.latency_ratio, 3),
            "throughput_ratio": round(self.throughput_ratio, 3),
            "rounds": [
                {"method": _shape(method), "task": _shape(task)}
                for method, task in zip(self.methods, self.tasks, strict=True)
            ],
        }

    def _ratio(self, of: Callable[[Side], float]) -> float:
        return median(map(of, self.methods)) / median(map(of, self.tasks))


def measure(pool: str, url: str, *, calls: int, casts: int, rounds: int) -> Calls:
    """Run both sides on one worker with one slot, each first in every other round."""
    with tempfile.TemporaryDirectory(prefix="celeriac-benchmark-") as name:
        folder = Path(name)
        settings = {"broker_url": url, "managers": "managers.host:HostManager,noop:NoopManager", "tasks": "noop"}
        app = make_app(load_settings(**settings, dir=folder, host="caller"))
        environment = {
            **{f"CELERIAC_{key.upper()}": value for key, value in settings.items()},
            "CELERIAC_DIR": name,
            "CELERIAC_HOST": "benchmark",
            "CELERIAC_PERIODIC_INTERVAL": "3600",
        }
        with Worker(
            "workers", pool=pool, environment=environment, folder=folder, configured=["worker_disable_prefetch=no"]
        ) as worker:
            for _ in range(WARM_UP):
                NoopManager.noop.set(timeout=LIMIT).call()
                bare.delay().get(timeout=LIMIT)
            methods: list[Side] = []
            tasks: list[Side] = []
            for number in range(rounds):
                sides = [(methods, _call, _cast), (tasks, _get, _delay)]
                ordered = sides if number % 2 == 0 else sides[::-1]
                times = _latencies([wait for _, wait, _ in ordered], calls)
                for (measured, wait, send), taken in zip(ordered, times, strict=True):
                    measured.append(_side(worker, taken, wait, send, casts))
        app.close()
    return Calls(pool, methods, tasks)


def _latencies(waits: list[Callable[[], None]], count: int) -> list[list[float]]:
    """Return the seconds that each took each time, by turns: what disturbs one disturbs the other."""
    times: list[list[float]] = [[] for _ in waits]
    for _ in range(count):
        for taken, wait in zip(times, waits, strict=True):
            began = time.perf_counter()
            wait()
            taken.append(time.perf_counter() - began)
    return times


def _side(worker: Worker, times: list[float], wait: Callable[[], None], send: Callable[[], None], casts: int) -> Side:
    """Send *casts* and wait for the one after them: with one slot, all have run by then."""
    worker_cpu, send_cpu, began = worker.cpu, time.process_time(), time.perf_counter()
    for _ in range(casts):
        send()
    send_cpu = time.process_time() - send_cpu
    wait()
    took = time.perf_counter() - began
    worker_cpu = worker.cpu - worker_cpu
    cuts = quantiles(times, n=100, method="inclusive")
    return Side(cuts[49], cuts[98], casts / took, 1e6 * send_cpu / casts, 1e6 * worker_cpu / casts)


def _call() -> None:
    NoopManager.noop.set(timeout=LIMIT).call()


def _cast() -> None:
    NoopManager.noop.cast()


def _get() -> None:
    bare.delay().get(timeout=LIMIT)


def _delay() -> None:
    bare.apply_async(ignore_result=True)


def _medians(sides: list[Side]) -> dict[str, float]:
    return _shape(Side(*(median(values) for values in zip(*(asdict(side).values() for side in sides), strict=True))))


def _shape(side: Side) -> dict[str, float]:
    return {
        "p50_ms": round(1e3 * side.p50, 3),
        "p99_ms": round(1e3 * side.p99, 3),
        "per_second": round(side.per_second, 1),
        "send_cpu_us": round(side.send_cpu_us, 1),
        "worker_cpu_us": round(side.worker_cpu_us, 1),
    }
