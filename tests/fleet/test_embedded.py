"""``celeriac up`` and ``celeriac demo`` as a user runs them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fleet.harness import PATIENCE, Process, child_environment, is_gone
from workers.config import FLEET_FILE, read_fleet_file

pytestmark = pytest.mark.fleet


class Up:
    """``celeriac up`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".celeriac"
        self.environment = child_environment()
        self.processes: list[Process] = []

    def start(self, *options: str) -> Process:
        command = [sys.executable, "-m", "workers.cli", "up", *options]
        log = self.folder / f"up-{time.monotonic_ns()}.log"
        self.processes.append(Process("up", command, log, self.environment, folder=self.folder))
        return self.processes[-1]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "workers.cli", *command], cwd=self.folder, env=self.environment, text=True,
            capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def run_all(self, *commands: tuple[str, ...]) -> list[subprocess.CompletedProcess[str]]:
        """Run several commands at once."""
        with ThreadPoolExecutor() as at_once:
            return list(at_once.map(lambda command: self.run(*command), commands))

    def family(self, up: Process) -> list[int]:
        """Return the pids of everything that the fleet started."""
        return [child.pid for child in psutil.Process(up.pid).children(recursive=True)]


def wait(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)
    return answer


@contextmanager
def up_in(folder: Path) -> Iterator[Up]:
    up = Up(folder)
    yield up
    pids = read_fleet_file(up.state)
    for pid in [pids.get("pid"), *pids.get("children", {}).values()]:
        if pid is not None and not is_gone(pid):
            os.kill(pid, signal.SIGKILL)
    for process in up.processes:
        process.end()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with up_in(tmp_path) as up:
        yield up


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up_in(tmp_path_factory.mktemp("shared")) as up:
        yield up


@pytest.fixture
def running(shared: Up) -> Up:
    """A fleet of two hosts that the module's tests share; started again where an earlier test has stopped it."""
    if not shared.processes or shared.processes[-1].popen.poll() is not None:
        ready(shared, "--hosts", "2", "--labels", "zone=a", "--labels", "zone=b,disk=ssd")
    return shared


def ready(up: Up, *options: str) -> Process:
    process = up.start(*options)
    wait(lambda: "ready:" in process.text or process.popen.poll() is not None, lambda: process.text)
    assert "ready:" in process.text, process.text
    return process


def assert_stops_cleanly(up: Up, family: list[int], number: signal.Signals) -> None:
    """Tell the fleet to stop; nothing of it may be left."""
    process = up.processes[-1]
    process.signal(number)
    assert process.popen.wait(PATIENCE) == 0
    assert [pid for pid in family if not is_gone(pid)] == []
    assert not (up.state / FLEET_FILE).exists()


def test_a_fleet_comes_up_and_is_found_by_other_commands(running: Up) -> None:
    said, doctor = running.run_all(("hosts", "--json"), ("doctor",))

    rows = {row["host"]: row for row in json.loads(said.stdout) if row["service"] == "host"}
    assert {host: row["state"] for host, row in rows.items()} == {"host-1": "up", "host-2": "up"}
    assert (rows["host-1"]["capabilities"]["zone"], rows["host-2"]["capabilities"]["disk"]) == ("a", "ssd")
    assert doctor.returncode == 0, doctor.stdout


def test_a_second_fleet_in_the_same_directory_is_refused(running: Up) -> None:
    second = running.run("up")

    assert second.returncode == 1
    assert f"pid {running.processes[-1].pid}" in second.stderr
    assert "--dir" in second.stderr
    assert running.run("hosts").returncode == 0


def test_a_taken_port_is_said_clearly(running: Up) -> None:
    port = read_fleet_file(running.state)["settings"]["broker_url"].rsplit(":", 1)[1].split("/")[0]

    second = running.run("up", "--dir", "other", "--port", port)

    assert second.returncode == 1
    assert f"port {port}" in second.stderr


def test_the_state_file_is_the_owners_alone_and_passwords_stay_out_of_the_logs(running: Up) -> None:
    process = running.processes[-1]
    password = read_fleet_file(running.state)["settings"]["broker_url"].split(":")[2].split("@")[0]

    mode = (running.state / FLEET_FILE).stat().st_mode & 0o777
    config = (running.state / "valkey" / "valkey.conf").stat().st_mode & 0o777
    doctor = running.run("doctor", "--json")
    process.terminate()

    assert (mode, config) == (0o600, 0o600)
    assert len(password) > 20
    assert password not in process.text + doctor.stdout + doctor.stderr
    for log in (running.state / "logs").iterdir():
        assert password not in log.read_text(errors="replace"), log


def test_ctrl_c_stops_a_fleet_cleanly_and_commands_say_that_it_is_gone(running: Up) -> None:
    family = running.family(running.processes[-1])
    assert len(family) >= 6

    assert_stops_cleanly(running, family, signal.SIGINT)

    after = running.run("hosts")
    assert after.returncode == 1
    assert "Traceback" not in after.stderr


def test_a_dead_child_is_started_again_and_stops_with_its_fleet_on_sigterm(up: Up) -> None:
    process = ready(up)
    before = read_fleet_file(up.state)["children"]
    family = up.family(process)

    for name in ("host-1", "beat", "scheduler", "valkey"):
        os.kill(before[name], signal.SIGKILL)

    wait(
        lambda: all(read_fleet_file(up.state)["children"][name] != before[name] for name in before),
        lambda: process.text,
    )
    wait(lambda: up.run("hosts").returncode == 0, lambda: up.run("hosts").stderr + process.text)
    assert_stops_cleanly(up, family + up.family(process), signal.SIGTERM)


def test_killing_the_supervisor_leaves_no_orphan_and_the_directory_can_be_used_again(up: Up) -> None:
    process = ready(up)
    family = up.family(process)

    process.kill()

    wait(lambda: all(is_gone(pid) for pid in family), lambda: f"orphans of {family}")
    again = ready(up)
    assert again.terminate() == 0


def test_a_second_ctrl_c_does_not_wait_for_running_work(up: Up) -> None:
    process = ready(up, "--tasks", "tests.fleet.journal")
    family = up.family(process)
    held = up.folder / "held"
    script = f"from workers.celery import app; app.send_task('journal.hold', (600, {str(held)!r}), queue='host.host-1')"
    subprocess.run([sys.executable, "-c", script], cwd=up.folder, env=up.environment, timeout=PATIENCE, check=True)
    wait(held.exists, lambda: process.text)

    process.signal(signal.SIGINT)
    wait(lambda: not any("beat" in " ".join(psutil.Process(pid).cmdline()) for pid in family if not is_gone(pid)),
         lambda: "beat is still there")  # fmt: skip
    process.signal(signal.SIGINT)

    assert process.popen.wait(30) == 0
    assert [pid for pid in family if not is_gone(pid)] == []


def test_the_demo_places_every_part_on_a_host_that_has_what_it_asks_for_says_what_fits_nowhere_and_stops(
    up: Up,
) -> None:
    files = up.folder / "files"
    (files / "deep").mkdir(parents=True)
    for number in range(40):
        (files / "deep" / f"{number}.txt").write_bytes(os.urandom(1000) * 200)
    (files / "empty").touch()
    up.environment["COLUMNS"] = "120"
    manifest = up.folder / "SHA256SUMS"

    said = up.run("demo", str(files), "--manifest", str(manifest))

    assert said.returncode == 0, said.stderr + said.stdout
    asked = {cells[0]: cells[1:] for line in said.stdout.splitlines() if len(cells := cells_of(line)) == 5}
    assert sum(int(ran or 0) for ran in asked["256 MB"][1:]) == 1
    assert asked["zone == 'b', 512 MB"] == ["maple", "", "1", ""]
    assert asked["disk == 'ssd', 1536 MB"] == ["cedar", "1", "", ""]
    assert asked["zone != 'a', 768 MB"] in (["maple, rowan", "", "1", ""], ["maple, rowan", "", "", "1"])
    assert asked["zone == 'b', 8192 MB"] == ["none", "", "", ""]
    for told in ("0/3 hosts: 2 zone == 'b', 1 memory_mb >= 8192 (most free: ", "nearest: maple lacks memory_mb"):
        assert told in said.stdout
    assert "4 parts, 41 files" in said.stdout
    assert "The fleet is stopped." in said.stdout
    sums = dict(line.split("  ", 1)[::-1] for line in manifest.read_text().splitlines())
    expected = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files.rglob("*") if path.is_file()}
    assert sums == expected


def cells_of(line: str) -> list[str]:
    """Return what stands in a line of a table."""
    return [cell.strip() for cell in line.split("│")[1:-1]]
