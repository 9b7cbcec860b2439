"""examples/existing_app: a Celery project that gained a manager without changing one of its own lines.

The files of the project itself are all but ADDED.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.connections import connect
from scheduler.hosts import Host
from scheduler.table import Table
from tests.fleet.conftest import free_port
from tests.fleet.harness import PATIENCE, ROOT, Process, Server

PROJECT = ROOT / "examples" / "existing_app"
#: What the project gained.
ADDED = ("shop/fleet.py", "shop/printers.py", "tests/test_printers.py")
#: Python that imports the project, but no copy of Celeriac beside the installed one.
PYTEST = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-W", "error", "-p", "no:cacheprovider"]
PYTEST += ["-p", "no:valkey"]


class Shop:
    """The project's processes on a Redis of their own, until the test ends."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.directory = directory
        self.server = server
        self.processes: list[Process] = []
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",  # the order in which a set is shown
            "SHOP_REDIS": server.url,
            "SHOP_SWEEP": "0.5",
            "CELERIAC_PERIODIC_INTERVAL": "1",
            "CELERIAC_HEARTBEAT_INTERVAL": "0.5",
        }
        self.table = Table(connect(server.url), fleet="fleet", url=server.url)

    def start(self, name: str, module: str, *arguments: str, **environment: str) -> Process:
        process = Process(
            name,
            [sys.executable, "-m", "celery", "-A", module, *arguments, "-l", "INFO"],
            self.directory / f"{len(self.processes)}-{name}.log",
            {**self.environment, **environment},
            folder=self.directory,
        )
        self.processes.append(process)
        return process

    def probe(self, act: str, module: str) -> dict[str, Any]:
        path = self.directory / f"{module}.json"
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "shop_probe.py"), act, module, str(path)],
            env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        known: dict[str, Any] = json.loads(path.read_text())
        return known

    def python(self, code: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE, check=True,
        ).stdout  # fmt: skip

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"{what}\n{self.logs()}"
            time.sleep(0.05)
        return answer

    def logs(self) -> str:
        return "\n".join(f"== {process.name}\n{process.text[-3000:]}" for process in self.processes)

    def row(self) -> Host | None:
        rows = [row for row in self.table.hosts("printer") if row.host == "station-1" and row.capabilities]
        return rows[0] if rows else None

    def end(self) -> None:
        for process in self.processes:
            process.end()
        self.processes = []


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    server = Server(tmp_path, free_port()).start()
    shop = Shop(tmp_path, server)
    yield shop
    shop.end()
    server.stop()


def test_no_file_of_the_project_itself_names_celeriac(tmp_path: Path) -> None:
    own = _without_celeriac(tmp_path)

    assert len(list((own / "shop").glob("*.py"))) == 9
    for path in own.rglob("*.py"):
        assert not any(word in path.read_text() for word in ("celeriac", "managers", "workers", "fleet")), path


@pytest.mark.parametrize("plugins", [(), ("-p", "shop.fleet")], ids=["as it was", "with managers"])
def test_the_projects_own_tests_pass(plugins: tuple[str, ...], tmp_path: Path) -> None:
    project = PROJECT if plugins else _without_celeriac(tmp_path)

    done = subprocess.run(
        [*PYTEST, *plugins, "--rootdir", str(project), str(project / "tests")],
        env={**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.fleet
def test_every_task_is_what_it_was_and_the_manager_works_beside_them(shop: Shop) -> None:
    shop.probe("send", "shop.celery")
    worker = shop.start("plain", "shop", "worker", "-c", "2")
    before = shop.probe("collect", "shop.celery")
    assert worker.terminate() == 0

    after_sent = shop.probe("send", "shop.fleet")
    shop.start("scheduler", "shop.fleet", "worker", "-Q", "scheduler", "-P", "threads", "-c", "1",
               CELERIAC_SERVICES="scheduler", CELERIAC_HOST="scheduler-1")  # fmt: skip
    shop.start("beat", "shop.fleet", "beat", "--pidfile=")
    worker = shop.start("station-1", "shop.fleet", "worker", "-c", "2", CELERIAC_HOST="station-1")
    after = shop.probe("collect", "shop.fleet")

    assert len(before["waiting"]) == 20
    assert after_sent["waiting"] == before["waiting"]
    assert after["results"] == before["results"]
    states = {name: state for name, (_, state, *_) in after["results"].items()}
    assert {name for name, state in states.items() if state != "SUCCESS"} == {"shop.stock.discontinue"}
    assert {queue for _, _, queue, _ in after["results"].values()} == {"shop", "mail", "images"}

    shop.wait(lambda: "shop.reports.sweep" in worker.text.partition("ready.")[2], "the shop's own entry of beat fires")
    shop.wait(lambda: (row := shop.row()) and row.capabilities == {"labels_left": 500}, "the manager ticks and reports")
    said = shop.python(
        "import shop.fleet\n"
        "from shop.printers import PrinterManager as P\n"
        "print(P.print_label.call(7, 'Ann'), '|', P.print_label.on('station-1').call(8, address='Bob'))\n"
        "print(P.print_label.fanout(9, 'Cy').gather())\n"
    )
    assert said.splitlines() == [
        "order 7 printed on station-1 | order 8 printed on station-1",
        "Answers(results={'station-1': 'order 9 printed on station-1'}, errors={}, silent=())",
    ]
    shop.wait(lambda: (row := shop.row()) and row.capabilities == {"labels_left": 497}, "what was printed is reported")
    assert worker.terminate() == 0


def _without_celeriac(directory: Path) -> Path:
    """Return a copy of the project as it was before."""
    copy = directory / "project"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ADDED:
        (copy / name).unlink(missing_ok=True)
    return copy
