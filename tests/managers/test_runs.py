"""Last runs outlive the worker, and what runs alone runs alone on its host."""

import json
import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from managers.runs import HostRuns, ProcessRuns, Runs

FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests may have left threads


@pytest.fixture(params=["process", "host"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Runs:
    return ProcessRuns() if request.param == "process" else HostRuns(tmp_path)


class Child:
    """A forked child that runs *function*, given a word to the test and one from it."""

    def __init__(self, function: Callable[[Callable[[], None], Callable[[], None]], None]) -> None:
        says, self._hears = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(says[0])
                os.close(self._hears[1])
                function(lambda: self._say(says[1]), lambda: self._wait(self._hears[0]))
                status = 0
            except BaseException:  # noqa: BLE001  # a child must never return into pytest
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(says[1])
        os.close(self._hears[0])
        self._wait(says[0])

    def go_on(self) -> None:
        self._say(self._hears[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def ended_well(self) -> bool:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0

    @staticmethod
    def _say(pipe: int) -> None:
        os.write(pipe, b".")

    @staticmethod
    def _wait(pipe: int) -> None:
        assert os.read(pipe, 1) == b"."


def test_a_task_that_never_ran_has_no_last_run(runs: Runs) -> None:
    assert runs.last_run("volume", "measure") is None


def test_a_last_run_is_kept_per_service_and_task(runs: Runs) -> None:
    assert runs.advance("volume", "measure", None, 1.5)
    assert runs.advance("volume", "clean", None, 2.5)
    assert runs.advance("volume-2", "measure", None, 3.5)
    assert runs.advance("volume", "measure", 1.5, 4.5)

    known = [("volume", "measure"), ("volume", "clean"), ("volume-2", "measure"), ("volume-2", "clean")]
    assert [runs.last_run(*names) for names in known] == [4.5, 2.5, 3.5, None]


def test_a_process_that_was_not_first_advances_nothing() -> None:
    runs = ProcessRuns()
    runs.advance("volume", "measure", None, 1.5)

    assert not runs.advance("volume", "measure", None, 2.5)
    assert not runs.advance("volume", "measure", 1.0, 2.5)
    assert runs.last_run("volume", "measure") == 1.5


def test_last_runs_survive_the_worker(tmp_path: Path) -> None:
    HostRuns(tmp_path).advance("volume", "measure", None, 1_800_000_000.123456)

    assert HostRuns(tmp_path).last_run("volume", "measure") == 1_800_000_000.123456


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1e10), min_size=1))
def test_last_runs_come_back_to_the_bit(tmp_path: Path, known: dict[str, float]) -> None:
    for task, at in known.items():
        HostRuns(tmp_path).advance("volume", task, None, at)

    assert {task: HostRuns(tmp_path).last_run("volume", task) for task in known} == known


def test_an_operator_can_read_the_last_runs(tmp_path: Path) -> None:
    HostRuns(tmp_path).advance("volume", "measure", None, 1.5)

    assert json.loads((tmp_path / "volume.runs").read_text()) == {"measure": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["volume.runs"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"\0" * 64, b"\xff\xfe", b'{"measure": 1', b"[1]", b"7", b"null", b'"measure"', b'{"measure": "soon"}',
        b'{"measure": null}', b'{"measure": [1]}', b'{"measure": NaN}', b'{"measure": -1e999}',
        b'{"measure": Infinity}',
        b'{"measure": -Infinity}', b'{"measure": 1' + b"0" * 400 + b"}", b"[" * 100_000,
    ],
    ids=lambda garbage: ascii(garbage[:20]),
)  # fmt: skip
def test_garbage_counts_as_no_last_run_and_is_said_and_replaced(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    runs = HostRuns(tmp_path)
    (tmp_path / "volume.runs").write_bytes(garbage)

    assert runs.last_run("volume", "measure") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("the last runs of volume can't be read and count as none: ")

    assert runs.advance("volume", "measure", None, 1.5)
    assert HostRuns(tmp_path).last_run("volume", "measure") == 1.5


def test_what_is_alone_is_told_so(tmp_path: Path) -> None:
    runs = HostRuns(tmp_path)

    for _ in range(2):  # and again once the first is through
        with runs.alone("volume", "measure") as is_alone:
            assert is_alone


def test_other_tasks_and_services_do_not_stand_in_the_way(tmp_path: Path) -> None:
    runs = HostRuns(tmp_path)

    with runs.alone("volume", "measure"), runs.alone("volume", "clean") as clean, runs.alone("tape", "measure") as tape:
        assert (clean, tape) == (True, True)


def test_another_host_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    with (
        HostRuns(tmp_path / "a").alone("volume", "measure"),
        HostRuns(tmp_path / "b").alone("volume", "measure") as is_alone,
    ):
        assert is_alone


def test_another_thread_is_not_alone(tmp_path: Path) -> None:
    told: list[bool] = []

    def ask() -> None:
        with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
            told.append(is_alone)

    with HostRuns(tmp_path).alone("volume", "measure"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(10)
    ask()

    assert told == [False, True]


def test_one_that_is_not_alone_leaves_the_other_its_block(tmp_path: Path) -> None:
    runs = HostRuns(tmp_path)

    with runs.alone("volume", "measure"):
        for _ in range(2):
            with runs.alone("volume", "measure") as is_alone:
                assert not is_alone


def test_a_block_that_fails_is_left(tmp_path: Path) -> None:
    runs = HostRuns(tmp_path)

    with pytest.raises(ZeroDivisionError), runs.alone("volume", "measure"):
        _ = 1 / 0

    with runs.alone("volume", "measure") as is_alone:
        assert is_alone


@FORKS
def test_another_process_is_alone_only_when_the_first_is_through(tmp_path: Path) -> None:
    def hold(say: Callable[[], None], wait: Callable[[], None]) -> None:
        with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
            assert is_alone
            say()
            wait()

    child = Child(hold)
    with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
        assert not is_alone
    child.go_on()

    assert child.ended_well()
    with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
        assert is_alone


@FORKS
def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    def hold(say: Callable[[], None], wait: Callable[[], None]) -> None:
        with HostRuns(tmp_path).alone("volume", "measure"):
            say()
            wait()

    child = Child(hold)
    with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
        assert not is_alone
    child.kill()

    with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
        assert is_alone


@FORKS
def test_a_process_forked_within_the_block_and_left_behind_holds_nothing(tmp_path: Path) -> None:
    def linger(say: Callable[[], None], wait: Callable[[], None]) -> None:
        say()
        wait()

    with HostRuns(tmp_path).alone("volume", "measure"):
        child = Child(linger)

    with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
        assert is_alone
    child.go_on()
    assert child.ended_well()


@FORKS
def test_a_process_forked_within_the_block_lets_nobody_in(tmp_path: Path) -> None:
    def end(say: Callable[[], None], wait: Callable[[], None]) -> None:
        say()

    with HostRuns(tmp_path).alone("volume", "measure"):
        assert Child(end).ended_well()
        with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
            assert not is_alone


@FORKS
def test_a_process_forked_within_the_block_that_leaves_it_too_lets_nobody_in(tmp_path: Path) -> None:
    with ExitStack() as block:
        block.enter_context(HostRuns(tmp_path).alone("volume", "measure"))

        def leave(say: Callable[[], None], wait: Callable[[], None]) -> None:
            block.close()
            say()

        assert Child(leave).ended_well()
        with HostRuns(tmp_path).alone("volume", "measure") as is_alone:
            assert not is_alone


def test_a_write_that_fails_leaves_the_earlier_last_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = HostRuns(tmp_path)
    runs.advance("volume", "measure", None, 1.5)

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            runs.advance("volume", "measure", 1.5, 2.5)

    assert HostRuns(tmp_path).last_run("volume", "measure") == 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["volume.runs"]
