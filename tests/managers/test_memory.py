"""What a host remembers is whole, and the same in each of its processes."""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from managers.manager import SchedulerDependentManager
from managers.memory import HostMemory, Memory, ProcessMemory


class Volumes(SchedulerDependentManager[None], service_name="volume"):
    """A manager."""


@pytest.fixture(params=["process", "host"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Memory:
    return ProcessMemory() if request.param == "process" else HostMemory(tmp_path)


def fork(function: Callable[[], None]) -> int:
    """Run *function* in a forked child; return its pid."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:  # noqa: BLE001  # a child must never return into pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def ended_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_is_remembered_at_first(memory: Memory) -> None:
    assert memory.recall("volume") is None


def test_the_last_word_replaces_the_ones_before(memory: Memory) -> None:
    memory.remember("volume", {"gb": 1, "zone": "a"})
    memory.remember("volume", {"gb": 2})

    assert memory.recall("volume") == {"gb": 2}


def test_none_and_an_empty_dict_are_remembered_as_two_things(memory: Memory) -> None:
    memory.remember("volume", {})
    assert memory.recall("volume") == {}

    memory.remember("volume", None)
    assert memory.recall("volume") is None


def test_services_are_remembered_apart(memory: Memory) -> None:
    memory.remember("a", {"gb": 1})
    memory.remember("a-b", {"gb": 2})

    assert (memory.recall("a"), memory.recall("a-b"), memory.recall("b")) == ({"gb": 1}, {"gb": 2}, None)


def test_any_mapping_can_be_remembered(memory: Memory) -> None:
    memory.remember("volume", MappingProxyType({"gb": 1}))

    assert memory.recall("volume") == {"gb": 1}


def test_a_host_remembers_a_lone_surrogate(tmp_path: Path) -> None:
    HostMemory(tmp_path).remember("volume", {"name": "\udcff"})

    assert HostMemory(tmp_path).recall("volume") == {"name": "\udcff"}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests may have left threads
def test_what_a_forked_child_learns_the_parents_manager_reports(tmp_path: Path) -> None:
    parent, child = Volumes("a"), Volumes("a")
    parent.memory, child.memory = HostMemory(tmp_path), HostMemory(tmp_path)
    parent.update_service_capabilities({"gb": 1})

    pid = fork(lambda: child.update_service_capabilities({"gb": 2}))

    assert ended_well(pid)
    assert parent.last_capabilities == {"gb": 2}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests may have left threads
def test_a_reader_sees_a_whole_document_while_several_processes_write_big_ones(tmp_path: Path) -> None:
    memory = HostMemory(tmp_path)

    def write(writer: int) -> None:
        for turn in range(100):
            memory.remember("volume", {f"key{number}": f"{writer}-{turn}" + "x" * 200 for number in range(250)})

    memory.remember("volume", {"key0": "first"})
    writers = [fork(lambda writer=writer: write(writer)) for writer in range(4)]  # type: ignore[misc]
    reads, running = 0, set(writers)
    while running:
        seen = memory.recall("volume")
        assert seen is not None
        assert len(set(seen.values())) == 1
        assert len(seen) in (1, 250)
        reads += 1
        running -= {pid for pid in list(running) if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)}

    assert all(ended_well(pid) for pid in writers)
    assert reads > 20
    assert [path.name for path in tmp_path.iterdir()] == ["volume.json"]


def test_a_write_that_fails_leaves_the_earlier_document_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = HostMemory(tmp_path)
    memory.remember("volume", {"gb": 1})

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            memory.remember("volume", {"gb": 2})

    assert memory.recall("volume") == {"gb": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["volume.json"]


def test_forgetting_drops_one_service_and_what_a_crash_left_of_it(tmp_path: Path) -> None:
    memory = HostMemory(tmp_path)
    for service in ("volume", "volume-2"):
        memory.remember(service, {"gb": 1})
        (tmp_path / f".{service}.json.abc").write_text('{"gb"')

    memory.forget("volume")
    memory.forget("never-there")

    assert memory.recall("volume") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [".volume-2.json.abc", "volume-2.json"]


def test_an_operator_can_read_what_a_host_remembers(tmp_path: Path) -> None:
    HostMemory(tmp_path).remember("volume", {"gb": 1})

    assert json.loads((tmp_path / "volume.json").read_text()) == {"gb": 1}
