"""The host manager reports what the driver measures, the worker's slots and the operator's labels."""

from typing import Any

import pytest

from managers.errors import InvalidReport
from managers.host import HostManager
from managers.machine import Machine
from managers.manager import SchedulerDependentManager


class Meter:
    """A driver whose every measure differs."""

    def __init__(self) -> None:
        self.measured = 0

    def capabilities(self) -> dict[str, Any]:
        self.measured += 1
        return {"cpus": 8, "load_1m": self.measured, "zone": "unknown"}


class Outbox:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def report(self, manager: SchedulerDependentManager[Any]) -> None:
        self.sent.append(manager.last_capabilities)


@pytest.fixture
def host() -> HostManager:
    return HostManager("a", driver=Meter)


def test_the_service_is_host_and_the_default_driver_measures_this_machine() -> None:
    assert HostManager.service_name == "host"
    assert isinstance(HostManager("a").driver, Machine)


def test_the_first_report_already_says_what_is_here(host: HostManager) -> None:
    host.init_host()

    assert host.last_capabilities == {"cpus": 8, "load_1m": 1, "zone": "unknown"}


def test_every_run_measures_before_it_reports(host: HostManager) -> None:
    outbox = Outbox()
    host.reporter = outbox

    host.periodic_tasks()
    host.periodic_tasks()

    assert [sent["load_1m"] for sent in outbox.sent] == [1, 2]


def test_slots_are_reported_as_soon_as_the_worker_sets_them(host: HostManager) -> None:
    host.measure()
    assert "slots" not in host.last_capabilities  # type: ignore[operator]

    host.slots = 4
    host.measure()
    assert host.last_capabilities["slots"] == 4  # type: ignore[index]


def test_a_label_wins_over_what_was_measured(host: HostManager) -> None:
    host.slots = 4
    host.labels = {"zone": "a", "slots": 2}

    host.measure()

    assert host.last_capabilities == {"cpus": 8, "load_1m": 1, "zone": "a", "slots": 2}


def test_labels_beyond_the_limits_of_a_report_stop_the_host_at_its_start(host: HostManager) -> None:
    host.labels = {f"label{number}": 1 for number in range(254)}

    with pytest.raises(InvalidReport, match="257 keys"):
        host.init_host()


def test_what_the_machine_measures_is_a_valid_report() -> None:
    host = HostManager("a")

    host.init_host()

    assert host.last_capabilities["cpus"] > 0  # type: ignore[index,operator]
