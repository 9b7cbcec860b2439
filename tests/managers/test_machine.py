"""The machine reports what it really has, and what it can't read costs no other fact."""

import importlib.metadata
import os
import platform
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NoReturn

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managers import cgroups
from managers.machine import MB, Machine
from managers.reports import check_capabilities

TOTALS = {"cpus", "memory_mb", "disk_mb", "gpus"}
MEASUREMENTS = {"memory_available_mb", "disk_available_mb", "load_1m", "cpu_percent"}
FACTS = {"os", "os.release", "arch", "python", "celery", "hostname"}


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set what the control group allows; without one, it allows everything."""

    def set_limits(*, cpus: float | None = None, memory: int | None = None, available: int | None = None) -> None:
        monkeypatch.setattr(cgroups, "cpu_limit", lambda: cpus)
        monkeypatch.setattr(cgroups, "memory_limit", lambda: memory)
        monkeypatch.setattr(cgroups, "memory_available", lambda: available)

    set_limits()
    return set_limits


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_affinity(count: int) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(count)))

    return set_affinity


@pytest.fixture
def cpu_times(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_times(**times: float) -> None:
        monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(_asdict=lambda: times))

    return set_times


def meminfo(name: str) -> int:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{name}:") * 1024


def fail() -> NoReturn:
    raise OSError("no such luck")


def test_every_fact_is_there_and_within_the_limits_of_a_report() -> None:
    capabilities = Machine().capabilities()

    assert set(capabilities) >= TOTALS | MEASUREMENTS | FACTS
    check_capabilities("host", capabilities)


def test_the_totals_are_those_of_the_true_machine(limits: Callable[..., None]) -> None:
    capabilities = Machine("/").capabilities()

    assert capabilities["cpus"] == len(os.sched_getaffinity(0))
    assert capabilities["memory_mb"] == meminfo("MemTotal") // MB
    assert capabilities["disk_mb"] == shutil.disk_usage("/").total // MB


def test_the_measurements_are_of_the_true_machine(limits: Callable[..., None]) -> None:
    capabilities = Machine("/").capabilities()

    assert capabilities["memory_available_mb"] == pytest.approx(meminfo("MemAvailable") // MB, rel=0.2)
    assert capabilities["disk_available_mb"] == pytest.approx(shutil.disk_usage("/").free // MB, rel=0.2)
    assert capabilities["load_1m"] == pytest.approx(os.getloadavg()[0], abs=1)


def test_the_facts_are_those_of_the_true_machine() -> None:
    capabilities = Machine().capabilities()

    assert {key: capabilities[key] for key in FACTS} == {
        "os": os.uname().sysname,
        "os.release": os.uname().release,
        "arch": os.uname().machine,
        "python": platform.python_version(),
        "celery": importlib.metadata.version("celery"),
        "hostname": socket.gethostname(),
    }


def test_a_true_affinity_is_respected(limits: Callable[..., None]) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert Machine().capabilities()["cpus"] == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("affine", "quota", "cpus"),
    [(8, None, 8), (8, 1.5, 1.5), (8, 2.0, 2), (2, 4.0, 2), (2, 2.5, 2), (4, 1 / 3, 0.333), (4, 0.0001, 0)],
)
def test_cpus_are_the_lesser_of_affinity_and_quota(
    limits: Callable[..., None], affinity: Callable[[int], None], affine: int, quota: float | None, cpus: float
) -> None:
    affinity(affine)
    limits(cpus=quota)

    reported = Machine().capabilities()["cpus"]

    assert (type(reported), reported) == (type(cpus), cpus)


def test_memory_is_no_more_than_the_control_group_allows(limits: Callable[..., None]) -> None:
    limits(memory=512 * MB + 1, available=100 * MB)

    capabilities = Machine().capabilities()

    assert (capabilities["memory_mb"], capabilities["memory_available_mb"]) == (512, 100)


def test_memory_is_no_more_than_the_machine_has(limits: Callable[..., None]) -> None:
    limits(memory=2**52, available=2**52)

    capabilities = Machine().capabilities()

    assert capabilities["memory_mb"] == meminfo("MemTotal") // MB
    assert capabilities["memory_available_mb"] <= capabilities["memory_mb"]


def test_an_exhausted_control_group_has_no_memory_available(limits: Callable[..., None]) -> None:
    limits(memory=512 * MB, available=0)

    assert Machine().capabilities()["memory_available_mb"] == 0


def test_the_disk_is_that_of_the_given_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(
        psutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(total=10 * MB, free=3 * MB)
    )

    capabilities = Machine(tmp_path).capabilities()

    assert asked == [str(tmp_path)]
    assert (capabilities["disk_mb"], capabilities["disk_available_mb"]) == (10, 3)


def test_cpu_percent_is_the_busy_share_since_the_last_reading(cpu_times: Callable[..., None]) -> None:
    machine = Machine()
    cpu_times(user=10.0, idle=90.0, iowait=0.0)
    machine.capabilities()

    cpu_times(user=13.0, idle=96.0, iowait=1.0)

    assert machine.capabilities()["cpu_percent"] == 30.0


def test_cpu_percent_counts_a_guests_time_once(cpu_times: Callable[..., None]) -> None:
    cpu_times(user=50.0, idle=50.0, guest=50.0)

    assert Machine().capabilities()["cpu_percent"] == 50.0


def test_cpu_percent_stays_as_it_was_while_no_time_has_passed(cpu_times: Callable[..., None]) -> None:
    machine = Machine()
    cpu_times(user=10.0, idle=90.0)

    assert [machine.capabilities()["cpu_percent"] for _ in range(2)] == [10.0, 10.0]


def test_cpu_percent_is_left_out_where_the_kernel_counts_no_time(
    cpu_times: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    cpu_times(user=0.0, idle=0.0)

    assert "cpu_percent" not in Machine().capabilities()
    assert caplog.messages == []


def test_cpu_percent_does_not_depend_on_the_thread_that_reads(cpu_times: Callable[..., None]) -> None:
    machine = Machine()
    cpu_times(user=10.0, idle=90.0)
    machine.capabilities()
    cpu_times(user=60.0, idle=140.0)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(machine.capabilities).result()

    assert reading["cpu_percent"] == 50.0


@given(st.lists(st.fixed_dictionaries({"user": st.floats(0, 1e9), "idle": st.floats(0, 1e9)}), min_size=1, max_size=4))
@settings(deadline=None)  # reads files
def test_cpu_percent_lies_between_0_and_100_whatever_the_clocks_do(readings: list[dict[str, float]]) -> None:
    machine = Machine()

    with pytest.MonkeyPatch.context() as patch:
        for times in readings:
            patch.setattr(psutil, "cpu_times", lambda times=times: SimpleNamespace(_asdict=lambda: times))
            assert 0 <= machine.capabilities().get("cpu_percent", 0) <= 100


@pytest.mark.parametrize(
    ("target", "function", "lost"),
    [
        (psutil, "disk_usage", {"disk_mb", "disk_available_mb"}),
        (psutil, "virtual_memory", {"memory_mb", "memory_available_mb"}),
        (psutil, "cpu_times", {"cpu_percent"}),
        (os, "getloadavg", {"load_1m"}),
        (os, "sched_getaffinity", {"cpus"}),
        (socket, "gethostname", {"hostname"}),
    ],
)
def test_a_failing_source_costs_its_own_facts_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, target: ModuleType, function: str, lost: set[str]
) -> None:
    whole = set(Machine().capabilities())
    machine = Machine()
    monkeypatch.setattr(target, function, lambda *_: fail())

    assert set(machine.capabilities()) == set(machine.capabilities()) == whole - lost
    assert len(caplog.messages) == 1
    assert "no such luck" in caplog.text


def test_a_source_that_fails_again_after_it_had_recovered_is_warned_of_again(caplog: pytest.LogCaptureFixture) -> None:
    working = iter([False, False, True, False])
    machine = Machine(sources={"flaky": lambda: {} if next(working) else fail()})

    for _ in range(4):
        machine.capabilities()

    assert len(caplog.messages) == 2


def test_a_missing_path_costs_only_the_disk(tmp_path: Path) -> None:
    capabilities = Machine(tmp_path / "missing").capabilities()

    assert "disk_mb" not in capabilities
    assert "memory_mb" in capabilities


def test_a_source_tree_that_is_not_installed_has_no_version_of_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def version(name: str) -> str:
        if name == "celeriac":
            raise importlib.metadata.PackageNotFoundError(name)
        return "5.7.0"

    monkeypatch.setattr(importlib.metadata, "version", version)

    assert "celeriac" not in Machine().capabilities()
    assert caplog.messages == []


def test_an_installed_celeriac_reports_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", {"celeriac": "0.1.0", "celery": "5.7.0"}.__getitem__)

    assert Machine().capabilities()["celeriac"] == "0.1.0"


def test_sources_can_be_replaced_and_added() -> None:
    machine = Machine(sources={"gpus": lambda: {"gpus": 2}, "fpga": lambda: {"fpgas": 1}})

    capabilities = machine.capabilities()

    assert (capabilities["gpus"], capabilities["fpgas"]) == (2, 1)
