"""What NVML, the library below nvidia-smi, knows of this machine's GPUs; needs the extra ``celeriac[gpu]``."""

import importlib
import logging
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from managers.reports import Scalar, Value

logger = logging.getLogger(__name__)

T = TypeVar("T")
Facts: TypeAlias = dict[str, Value]

#: Bytes in one of the MB that capabilities count in.
MB = 2**20

#: There as soon as NVIDIA's driver is loaded, with or without the extra.
DEVICE = Path("/dev/nvidiactl")

#: NVML's error for a machine without its library: it has no GPU, and nothing is wrong.
LIBRARY_NOT_FOUND = 12


def gpus(*, nvml: Any = None, device: Path = DEVICE) -> Facts:
    """Return the GPUs as capabilities; ``nvml`` stands in for the module ``pynvml``.

    * ``gpus``: cards that answer; 0 without a library, a driver or the extra (warned of where there is a driver).
      All that the driver shows to this container count, whatever CUDA_VISIBLE_DEVICES says.
    * ``gpu.model``: their model; a list, in the order of the cards, where models differ.
    * ``gpu.memory_mb``: the memory of one card; the smallest where they differ, because a claim is for any card,
      so only what holds for every card may be promised.
    * ``gpu.memory_available_mb``: the free memory of the freest card, because a task may pick that one:
      a busy card doesn't hide seven idle ones. A measurement, of one card, already old when it is read.
    * ``gpu.load``: how busy the cards are on average, 0 to 100.
    * ``gpu.driver``: the driver's version, a string.

    Never raises. A fact that NVML refuses for any card is left out; each different error is logged once per process.
    NVML is started and shut down within each call, since its handles don't survive a fork. Where NVIDIA's
    persistence daemon doesn't run, that may take seconds.
    """
    try:
        nvml = nvml or importlib.import_module("pynvml")
    except Exception as error:  # noqa: BLE001 - an import runs code
        if device.exists():
            _warn_once("pynvml", f"{device} is there, but {error}: install celeriac[gpu]")
        return {"gpus": 0}

    try:
        nvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - a binding that fits no library raises what it likes
        if getattr(error, "value", None) != LIBRARY_NOT_FOUND:
            _warn_once("nvmlInit", str(error))
        return {"gpus": 0}

    facts = _facts(nvml)
    _ask("nvmlShutdown", nvml.nvmlShutdown)
    return facts


def _facts(nvml: Any) -> Facts:
    count = _ask("gpus", nvml.nvmlDeviceGetCount) or 0
    found = [_ask(f"gpu {index}", partial(_card, nvml, index)) for index in range(count)]
    cards = [card for card in found if card]
    facts: Facts = {"gpus": len(cards)}
    if not cards:
        return facts

    handles = [handle for handle, _ in cards]
    models: list[Scalar] = list(dict.fromkeys(model for _, model in cards))
    facts["gpu.model"] = models if len(models) > 1 else models[0]
    if driver := _ask("gpu.driver", lambda: _text(nvml.nvmlSystemGetDriverVersion())):
        facts["gpu.driver"] = driver
    if memory := _ask("gpu.memory_mb", lambda: [_memory(nvml, handle) for handle in handles]):
        facts["gpu.memory_mb"] = min(total for total, _ in memory)
        facts["gpu.memory_available_mb"] = max(free for _, free in memory)
    if loads := _ask("gpu.load", lambda: [int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles]):
        facts["gpu.load"] = round(sum(loads) / len(loads), 1)
    return facts


def _card(nvml: Any, index: int) -> tuple[Any, str]:
    """Return handle and model: a card that fell off the bus is still counted by NVML, but has neither."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return handle, _text(nvml.nvmlDeviceGetName(handle))


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return memory.total // MB, memory.free // MB


def _ask(what: str, question: Callable[[], T]) -> T | None:
    try:
        return question()
    except Exception as error:  # noqa: BLE001 - no card's whim may cost the host its report
        _warn_once(what, str(error))
        return None


# Cached, so that a card that fails on every reading is logged on the first one only.
@lru_cache(maxsize=256)
def _warn_once(what: str, error: str) -> None:
    logger.warning("gpus can't be read in full; %s: %s", what, error)


def _text(name: str | bytes) -> str:
    """Return what older bindings give as bytes."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name
