"""What a stopping worker does with its tasks, its pool and its process; tests/fleet/test_stopping.py has real ones."""

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import WorkerLostError
from celery.signals import worker_shutdown, worker_shutting_down
from celery.worker import state
from kombu import Message

from workers import stopping
from workers.config import load_settings
from workers.fanouts import make_own
from workers.stopping import Stopping


class Request:
    """A Celery request that writes down what becomes of it."""

    def __init__(
        self, name: str, story: list[str], *, acknowledged: bool = False, given: bool = True, copy: bool = False
    ) -> None:
        self.id = name
        self.message = Message(body="", headers={"id": "shared"}, properties={}, delivery_info={"routing_key": name})
        if copy:
            make_own(self.message, "network", "one")
        self.acknowledged = acknowledged
        self.time_start = 1.0 if given else None
        self._apply_result = object if given else None
        self.failure: Any = None
        self._story = story
        state.requests[name] = self

    def reject(self, *, requeue: bool) -> None:
        assert requeue
        self._story.append(f"{self.id} requeued")

    def cancel(self, pool: Any, *, emit_retry: bool) -> None:
        assert not emit_retry
        self._story.append(f"{self.id} ended")
        state.task_ready(self)

    def on_failure(self, info: Any) -> None:
        self.failure = info.exception.exc
        self._story.append(f"{self.id} failed")


class Pool:
    """A pool that has stopped when ``stopped`` is set."""

    def __init__(self, *, children: bool) -> None:
        self.uses_semaphore = children
        self.is_green = False
        self.stopped = threading.Event()
        self.info = {"processes": [7]}
        self.killed: list[tuple[int, int]] = []

    def stop(self) -> None:
        self.stopped.wait(30)

    def terminate_job(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))
        self.stopped.set()


class Worker(SimpleNamespace):
    """A worker that may be a signal's sender."""

    __hash__ = object.__hash__


class Bench:
    def __init__(self, *, children: bool = True, soft: float = 0, shutdown_timeout: float = 0.01) -> None:
        self.story: list[str] = []
        self.drained = threading.Semaphore(0)
        self.pool = Pool(children=children)
        consumer = SimpleNamespace(
            hub=None,
            connection=None,
            task_consumer=None,
            task_buckets={},
            call_soon=lambda function: self.story.append("woken"),
            blueprint=SimpleNamespace(restart=lambda _: None),
        )
        self.worker = Worker(
            app=SimpleNamespace(conf=SimpleNamespace(worker_soft_shutdown_timeout=soft)),
            consumer=consumer,
            exitcode=0,
            hostname=f"test@{id(self)}",
            pool=self.pool,
            semaphore=None,
        )
        settings = load_settings(shutdown_timeout=shutdown_timeout)
        lifecycle: Any = SimpleNamespace(
            drain=self.drained.release, host="one", registry=SimpleNamespace(settings=settings)
        )
        self.stopping = Stopping(self.worker, lifecycle)

    def sigterm(self) -> None:
        worker_shutting_down.send(sender=self.worker.hostname, sig="SIGTERM", how="Warm", exitcode=0)


@pytest.fixture(autouse=True)
def _no_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stopping, "LOOK", 0.001)
    monkeypatch.setattr(stopping, "BEGIN", 0.01)
    monkeypatch.setattr(stopping, "GRACE", 0.01)
    yield
    state.reset_state()


@pytest.mark.parametrize(("soft", "ours", "patience"), [(7, 60, 7), (0, 60, 60), (0, 0, 0), (7, 0, 7)])
def test_the_applications_own_time_wins_over_ours(soft: float, ours: float, patience: float) -> None:
    assert Bench(soft=soft, shutdown_timeout=ours).stopping.patience == patience


def test_the_table_hears_of_the_stop_while_the_workers_loop_is_busy() -> None:
    bench = Bench()

    bench.sigterm()

    assert bench.drained.acquire(timeout=10)


def test_what_is_not_acknowledged_is_returned_before_it_is_ended_and_the_rest_fails_for_a_reason() -> None:
    bench = Bench()
    Request("late", bench.story)
    early = Request("early", bench.story, acknowledged=True)

    bench.stopping.close()

    assert bench.story == ["late requeued", "late ended", "early ended", "early failed"]
    assert isinstance(early.failure, WorkerLostError)
    assert "host one was stopped" in str(early.failure)
    assert state.requests == {}


def test_what_no_slot_has_begun_is_returned_at_once_and_never_begins() -> None:
    bench = Bench(shutdown_timeout=0)
    waiting = Request("waiting", bench.story, given=False)
    limited = Request("limited", bench.story, given=False)
    del state.requests["limited"]  # Celery keeps what a rate limit holds apart
    bench.worker.consumer.task_buckets = {"none": None, "some": SimpleNamespace(contents=[(limited, 1)])}

    bench.stopping.close()

    assert bench.story == ["waiting requeued", "limited requeued"]
    assert waiting._already_revoked is limited._already_revoked is True  # type: ignore[attr-defined]


@pytest.mark.parametrize(("given", "verb"), [(False, "begun"), (True, "ended")])
def test_a_hosts_copy_of_a_fanout_that_is_not_done_is_answered_for(
    given: bool,  # noqa: FBT001
    verb: str,
) -> None:
    bench = Bench()
    copy = Request("copy", bench.story, given=given, copy=True)

    bench.stopping.close()

    assert [line for line in bench.story if "requeued" in line] == []
    assert isinstance(copy.failure, WorkerLostError)
    assert str(copy.failure).startswith("its worker on host one was stopped before")
    assert str(copy.failure).endswith(f"had {verb}")
    assert given or copy._already_revoked is True  # type: ignore[attr-defined]
    assert state.requests == {}


@pytest.mark.parametrize("hurry", ["a second SIGTERM", "a cold stop"])
def test_without_a_limit_only_haste_ends_the_wait(hurry: str) -> None:
    bench = Bench(shutdown_timeout=0)
    Request("late", bench.story)
    bench.sigterm()
    closing = threading.Thread(target=bench.stopping.close)
    closing.start()

    closing.join(0.1)
    assert closing.is_alive()
    if hurry == "a cold stop":
        state.should_terminate = 1  # type: ignore[assignment]
    else:
        bench.sigterm()
    closing.join(10)
    state.should_terminate = None

    assert not closing.is_alive()
    assert "late requeued" in bench.story


def test_a_result_that_cannot_be_stored_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    first, second = (Request(name, bench.story, acknowledged=True) for name in ("first", "second"))

    def fail(_: Any) -> None:
        raise OSError("no backend")

    first.on_failure = fail  # type: ignore[method-assign]
    bench.stopping.close()

    assert second.failure
    assert "can't be stored" in caplog.text


def test_a_child_that_does_not_end_is_killed() -> None:
    bench = Bench()

    bench.stopping.join()

    assert bench.pool.killed == [(7, signal.SIGKILL)]


def test_a_thread_that_does_not_end_holds_up_neither_the_stop_nor_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(children=False)
    exits: list[int | str] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: exits.append("what was to be done at exit"))

    bench.stopping.join()
    assert exits == []
    worker_shutdown.send(sender=bench.worker)

    assert exits == ["what was to be done at exit", 0]
    bench.pool.stopped.set()


def test_a_pool_that_ends_by_itself_ends_the_process_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(children=False)
    monkeypatch.setattr(os, "_exit", pytest.fail)
    monkeypatch.setattr(stopping, "GRACE", 10)
    bench.pool.stopped.set()

    bench.stopping.join()
    worker_shutdown.send(sender=bench.worker)
