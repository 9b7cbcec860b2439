"""``celeriac up`` and ``celeriac demo`` as a user runs them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fleet.harness import ROOT, Process, is_gone
from workers.config import FLEET_FILE, read_fleet_file

pytestmark = pytest.mark.fleet


class Up:
    """``celeriac up`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".celeriac"
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.processes: list[Process] = []

    def start(self, *options: str) -> Process:
        command = [sys.executable, "-m", "workers.cli", "up", *options]
        log = self.folder / f"up-{time.monotonic_ns()}.log"
        self.processes.append(Process("up", command, log, self.environment, folder=self.folder))
        return self.processes[-1]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "workers.cli", *command], cwd=self.folder, env=self.environment, text=True,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def family(self, up: Process) -> list[int]:
        """Return the pids of everything that the fleet started."""
        return [child.pid for child in psutil.Process(up.pid).children(recursive=True)]


def wait(condition: Callable[[], Any], within: float, what: Callable[[], str]) -> Any:
    deadline = time.monotonic() + within
    while not (answer := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)
    return answer


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    pids = read_fleet_file(up.state)
    for pid in [pids.get("pid"), *pids.get("children", {}).values()]:
        if pid is not None and not is_gone(pid):
            os.kill(pid, signal.SIGKILL)
    for process in up.processes:
        process.end()


def ready(up: Up, *options: str) -> Process:
    process = up.start(*options)
    wait(lambda: "ready:" in process.text or process.popen.poll() is not None, 60, lambda: process.text)
    assert "ready:" in process.text, process.text
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fleet_comes_up_is_found_by_other_commands_and_stops_cleanly(up: Up, number: signal.Signals) -> None:
    process = ready(up, "--hosts", "2", "--labels", "zone=a", "--labels", "zone=b,disk=ssd")
    family = up.family(process)

    said = up.run("hosts", "--json")
    rows = {row["host"]: row for row in json.loads(said.stdout) if row["service"] == "host"}
    doctor = up.run("doctor")
    process.signal(number)

    assert process.popen.wait(40) == 0
    assert {host: row["state"] for host, row in rows.items()} == {"host-1": "up", "host-2": "up"}
    assert (rows["host-1"]["capabilities"]["zone"], rows["host-2"]["capabilities"]["disk"]) == ("a", "ssd")
    assert doctor.returncode == 0, doctor.stdout
    assert len(family) >= 6
    assert [pid for pid in family if not is_gone(pid)] == []
    assert not (up.state / FLEET_FILE).exists()
    after = up.run("hosts")
    assert after.returncode == 1
    assert "Traceback" not in after.stderr


def test_a_second_fleet_in_the_same_directory_is_refused(up: Up) -> None:
    first = ready(up)

    second = up.run("up")

    assert second.returncode == 1
    assert f"pid {first.pid}" in second.stderr
    assert "--dir" in second.stderr
    assert up.run("hosts").returncode == 0
    assert first.terminate() == 0


def test_the_state_file_is_the_owners_alone_and_passwords_stay_out_of_the_logs(up: Up) -> None:
    process = ready(up)
    password = read_fleet_file(up.state)["settings"]["broker_url"].split(":")[2].split("@")[0]

    mode = (up.state / FLEET_FILE).stat().st_mode & 0o777
    config = (up.state / "valkey" / "valkey.conf").stat().st_mode & 0o777
    doctor = up.run("doctor", "--json")
    process.terminate()

    assert (mode, config) == (0o600, 0o600)
    assert len(password) > 20
    assert password not in process.text + doctor.stdout + doctor.stderr
    for log in (up.state / "logs").iterdir():
        assert password not in log.read_text(errors="replace"), log


def test_a_dead_child_is_started_again(up: Up) -> None:
    process = ready(up)
    before = read_fleet_file(up.state)["children"]
    family = up.family(process)

    for name in ("host-1", "beat", "scheduler", "valkey"):
        os.kill(before[name], signal.SIGKILL)

    wait(
        lambda: all(read_fleet_file(up.state)["children"][name] != before[name] for name in before),
        30,
        lambda: process.text,
    )
    wait(lambda: up.run("hosts").returncode == 0, 40, lambda: up.run("hosts").stderr + process.text)
    family += up.family(process)
    assert process.terminate(40) == 0
    assert [pid for pid in family if not is_gone(pid)] == []


def test_killing_the_supervisor_leaves_no_orphan_and_the_directory_can_be_used_again(up: Up) -> None:
    process = ready(up)
    family = up.family(process)

    process.kill()

    wait(lambda: all(is_gone(pid) for pid in family), 30, lambda: f"orphans of {family}")
    again = ready(up)
    assert again.terminate() == 0


def test_a_second_ctrl_c_does_not_wait_for_running_work(up: Up) -> None:
    process = ready(up, "--tasks", "tests.fleet.journal")
    family = up.family(process)
    held = up.folder / "held"
    script = f"from workers.celery import app; app.send_task('journal.hold', (60, {str(held)!r}), queue='host.host-1')"
    subprocess.run([sys.executable, "-c", script], cwd=up.folder, env=up.environment, timeout=30, check=True)
    wait(held.exists, 20, lambda: process.text)

    process.signal(signal.SIGINT)
    wait(lambda: not any("beat" in " ".join(psutil.Process(pid).cmdline()) for pid in family if not is_gone(pid)), 20,
         lambda: "beat is still there")  # fmt: skip
    process.signal(signal.SIGINT)

    assert process.popen.wait(20) == 0
    assert [pid for pid in family if not is_gone(pid)] == []


def test_a_taken_port_is_said_clearly(up: Up) -> None:
    first = ready(up)
    port = read_fleet_file(up.state)["settings"]["broker_url"].rsplit(":", 1)[1].split("/")[0]

    second = up.run("up", "--dir", "other", "--port", port)

    assert second.returncode == 1
    assert f"port {port}" in second.stderr
    first.terminate()


def test_the_demo_digests_every_file_of_a_directory_and_stops(up: Up) -> None:
    files = up.folder / "files"
    (files / "deep").mkdir(parents=True)
    for number in range(30):
        (files / "deep" / f"{number}.txt").write_bytes(os.urandom(1000) * 200)
    (files / "empty").touch()
    up.environment["COLUMNS"] = "120"
    manifest = up.folder / "SHA256SUMS"

    said = up.run("demo", str(files), "--manifest", str(manifest))

    assert said.returncode == 0, said.stderr + said.stdout
    assert "31 files" in said.stdout
    for host in ("cedar", "maple", "rowan"):
        assert host in said.stdout
    assert "The fleet is stopped." in said.stdout
    sums = dict(line.split("  ", 1)[::-1] for line in manifest.read_text().splitlines())
    expected = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files.rglob("*") if path.is_file()}
    assert sums == expected
