"""The filters and weighers of examples/placing_rules.py, as settings name them."""

from pathlib import Path

import pytest

from scheduler.hosts import Host, Identity, Readiness
from scheduler.requests import Request, check_options
from scheduler.select import Selector
from scheduler.snapshot import Snapshot
from workers.config import load_settings
from workers.placing import selector

EXAMPLES = Path(__file__).parents[2] / "examples"


def host(name: str, **capabilities: float) -> Host:
    identity = Identity("i", "m", 1, 0.0, "0", heartbeat_interval=10.0, interval=60.0)
    return Host("host", name, "up", (), 0.0, 0.0, {"slots": 1, **capabilities}, identity)


def asking(requires: str = "") -> Request:
    checked = check_options({"requires": requires})
    return Request(
        id="1", task_id="t", task="tasks.t", service="host", requires=checked["requires"], claims=checked["claims"]
    )


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Selector:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("CELERIAC_FILTERS", "placing_rules:reserved")
    monkeypatch.setenv("CELERIAC_WEIGHERS", "placing_rules:idle=2,plain=0")
    return selector(load_settings())


def test_a_filter_of_ones_own_counts_beside_the_built_in_ones(chosen: Selector) -> None:
    snapshot = Snapshot([host("kept", reserved=True), host("other")], Readiness(ready=True))

    assert [found.host for found in chosen.select(asking(), snapshot).hosts] == ["other"]
    assert chosen.select(asking(), snapshot).reasons == ["1 reserved"]
    assert [found.host for found in chosen.select(asking("reserved"), snapshot).hosts] == ["kept"]
    assert str(chosen.select(asking("gpus > 0"), snapshot)) == "0/2 hosts: 2 gpus > 0"


def test_a_weigher_of_ones_own_chooses_among_those_that_fit(chosen: Selector) -> None:
    snapshot = Snapshot([host(f"h{load}", load_1m=load) for load in (3, 1, 2)], Readiness(ready=True))

    assert [found.host for found in chosen.select(asking(), snapshot).hosts] == ["h1", "h2", "h3"]


def test_the_multiplier_0_switches_a_weigher_off(chosen: Selector) -> None:
    assert chosen.weighers["plain"][1] == 0.0
    assert Selector().weighers["plain"][1] > 0.0
