"""GPUs are reported as far as NVML answers, and never at the price of the report."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from managers import gpus as module
from managers.gpus import gpus
from managers.reports import check_capabilities

GB = 2**30


class NVMLError(Exception):
    def __init__(self, value: int = 999) -> None:
        super().__init__(f"NVML says {value}")
        self.value = value


class FakeNvml:
    """Stands in for pynvml: cards are dicts, and an error in place of a value is raised."""

    def __init__(self, *cards: dict[str, Any], init: Exception | None = None, driver: Any = "570.86.10") -> None:
        self.cards = cards
        self.init = init
        self.driver = driver
        self.sessions = 0
        self.pid = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.answer(self.init)
        self.sessions += 1
        self.pid = os.getpid()

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.sessions -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        assert self.pid == os.getpid()
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return self.answer(self.cards[index].get("handle", self.cards[index]))

    def nvmlDeviceGetName(self, card: Any) -> Any:  # noqa: N802
        return self.answer(card["name"])

    def nvmlSystemGetDriverVersion(self) -> Any:  # noqa: N802
        return self.answer(self.driver)

    def nvmlDeviceGetMemoryInfo(self, card: Any) -> Any:  # noqa: N802
        total, free = self.answer(card["memory"])
        return SimpleNamespace(total=total, free=free, used=total - free)

    def nvmlDeviceGetUtilizationRates(self, card: Any) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self.answer(card["load"]), memory=0)

    def answer(self, value: Any) -> Any:
        assert self.sessions or value is self.init, "NVML was asked outside a session"
        if isinstance(value, Exception):
            raise value
        return value


def card(name: Any = "NVIDIA A100", memory: Any = (40 * GB, 30 * GB), load: Any = 50) -> dict[str, Any]:
    return {"name": name, "memory": memory, "load": load}


@pytest.fixture(autouse=True)
def _nothing_warned_of_yet() -> None:
    module._warn_once.cache_clear()


def test_without_the_extra_there_are_no_gpus_and_no_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert gpus(device=tmp_path / "nvidiactl") == {"gpus": 0}
    assert caplog.messages == []


def test_a_driver_without_the_extra_is_warned_of_once_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    device = tmp_path / "nvidiactl"
    device.touch()

    assert gpus(device=device) == gpus(device=device) == {"gpus": 0}
    assert len(caplog.messages) == 1
    assert "celeriac[gpu]" in caplog.text


def test_pynvml_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(card()))

    assert gpus()["gpus"] == 1


def test_without_nvmls_library_there_are_no_gpus_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    pynvml = pytest.importorskip("pynvml")
    error = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    assert gpus(nvml=FakeNvml(init=error)) == {"gpus": 0}
    assert caplog.messages == []


def test_a_failing_start_of_nvml_means_no_gpus_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    nvml = FakeNvml(card(), init=NVMLError(9))

    assert gpus(nvml=nvml) == gpus(nvml=nvml) == {"gpus": 0}
    assert len(caplog.messages) == 1
    assert "NVML says 9" in caplog.text


def test_a_binding_without_the_functions_means_no_gpus_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert gpus(nvml=SimpleNamespace()) == {"gpus": 0}
    assert len(caplog.messages) == 1


def test_a_driver_without_cards_reports_none() -> None:
    assert gpus(nvml=FakeNvml()) == {"gpus": 0}


def test_one_gpu_is_reported_with_all_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    assert gpus(nvml=FakeNvml(card())) == {
        "gpus": 1,
        "gpu.model": "NVIDIA A100",
        "gpu.driver": "570.86.10",
        "gpu.memory_mb": 40 * 1024,
        "gpu.memory_available_mb": 30 * 1024,
        "gpu.load": 50.0,
    }
    assert caplog.messages == []


def test_unlike_gpus_promise_the_smallest_memory_and_offer_the_freest_card() -> None:
    nvml = FakeNvml(
        card("NVIDIA A100", memory=(40 * GB, 1 * GB), load=100),
        card("NVIDIA T4", memory=(16 * GB, 15 * GB), load=0),
        card("NVIDIA A100", memory=(40 * GB, 2 * GB), load=50),
    )

    facts = gpus(nvml=nvml)

    assert facts["gpus"] == 3
    assert facts["gpu.model"] == ["NVIDIA A100", "NVIDIA T4"]
    assert facts["gpu.memory_mb"] == 16 * 1024
    assert facts["gpu.memory_available_mb"] == 15 * 1024
    assert facts["gpu.load"] == 50.0
    check_capabilities("host", facts)


def test_like_gpus_share_one_model() -> None:
    assert gpus(nvml=FakeNvml(card(), card()))["gpu.model"] == "NVIDIA A100"


def test_a_model_in_bytes_becomes_text() -> None:
    assert gpus(nvml=FakeNvml(card(b"Tesla K80"), driver=b"470"))["gpu.model"] == "Tesla K80"


@pytest.mark.parametrize("lost", [{"handle": NVMLError(15)}, card(NVMLError(15))], ids=["handle", "name"])
def test_a_card_that_fell_off_the_bus_is_not_counted_and_warned_of_once(
    lost: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    nvml = FakeNvml(card(), lost, card())

    facts = [gpus(nvml=nvml), gpus(nvml=nvml)]

    assert [(fact["gpus"], fact["gpu.memory_mb"]) for fact in facts] == [(2, 40 * 1024)] * 2
    assert len(caplog.messages) == 1
    assert "gpu 1" in caplog.text


def test_memory_that_one_card_refuses_is_promised_for_none(caplog: pytest.LogCaptureFixture) -> None:
    facts = gpus(nvml=FakeNvml(card(), card(memory=NVMLError(3))))

    assert set(facts) == {"gpus", "gpu.model", "gpu.driver", "gpu.load"}
    assert facts["gpus"] == 2
    assert "gpu.memory_mb: NVML says 3" in caplog.text


def test_load_and_driver_may_be_refused_without_harm_to_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    facts = gpus(nvml=FakeNvml(card(load=NVMLError(3)), driver=NVMLError(4)))

    assert set(facts) == {"gpus", "gpu.model", "gpu.memory_mb", "gpu.memory_available_mb"}
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("cards", [[], [card()], [card(NVMLError(15))], [card(memory=NVMLError(3))]])
def test_nvml_is_shut_down_after_each_reading(cards: list[dict[str, Any]]) -> None:
    nvml = FakeNvml(*cards)

    gpus(nvml=nvml)
    gpus(nvml=nvml)

    assert nvml.sessions == 0


def test_a_failing_shutdown_costs_a_warning_and_no_facts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nvml = FakeNvml(card())
    monkeypatch.setattr(nvml, "nvmlShutdown", lambda: nvml.answer(NVMLError(1)))

    assert gpus(nvml=nvml)["gpus"] == 1
    assert "nvmlShutdown" in caplog.text


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_nvml_itself() -> None:
    nvml = FakeNvml(card())
    gpus(nvml=nvml)

    child = os.fork()
    if child == 0:
        found = 0
        try:
            # The fake refuses to be asked by another process than the one that started it: that reads as no cards.
            found = gpus(nvml=nvml)["gpus"]
        finally:
            os._exit(found)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 1


def test_this_machine_is_read_without_an_error() -> None:
    facts = gpus()

    assert facts["gpus"] >= 0
    check_capabilities("host", facts)
