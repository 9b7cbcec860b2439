"""What a scheduler does in threads of their own, so that neither errbacks nor a table that hangs hold up placing."""

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from scheduler.envelope import envelope
from scheduler.errors import TableUnavailable
from scheduler.requests import Request
from scheduler.task import ScheduledTask
from tests.workers.placement import Fleet
from workers import carried, concluding
from workers.carried import Carried, CarriedThread
from workers.concluding import ConcludingThread
from workers.lifecycle import Lifecycle
from workers.placing_thread import PlacingThread
from workers.registry import registry_of

#: Seconds that a test waits for a thread before it fails.
PATIENCE = 30.0


class Turns:
    """Conclusions whose turns a test waits for; the first ones raise *errors*."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.taken = threading.Semaphore(0)

    def turn(self) -> int:
        self.taken.release()
        if self.errors:
            raise self.errors.pop(0)
        return 0


def conclude(turns: Any) -> ConcludingThread:
    thread = ConcludingThread(turns)
    thread.start()
    return thread


def test_ends_are_looked_for_when_the_thread_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concluding, "LOOK", 3600.0)
    turns = Turns()
    thread = conclude(turns)

    thread.wake()

    assert turns.taken.acquire(timeout=PATIENCE)
    thread.stop()


def test_concluding_goes_on_after_any_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(concluding, "LOOK", 0.001)
    turns = Turns(TableUnavailable("away"), TableUnavailable("away"), ValueError("odd"))
    thread = conclude(turns)

    for _ in range(4):
        assert turns.taken.acquire(timeout=PATIENCE)
    thread.stop()

    assert caplog.text.count("the ends of requests wait: away") == 1
    assert "ValueError: odd" in caplog.text


def test_a_stopped_thread_concludes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concluding, "LOOK", 3600.0)
    turns = Turns()
    thread = conclude(turns)

    thread.stop()

    assert not turns.taken.acquire(blocking=False)


class Placer:
    """A placer whose every turn is one of chores."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.chores_at = 0.0
        self.on_notice: Any = None

    def turn(self, *, is_anything_new: bool) -> None:
        self.chores_at += 1.0


def test_placing_wakes_who_concludes_when_time_outs_were_looked_at(make_app: Callable[..., Celery]) -> None:
    woken = threading.Event()
    app = make_app()
    placer: Any = Placer(registry_of(app).table)
    thread = PlacingThread(placer, on_chores=woken.set)
    thread.start()

    placer.on_notice()

    assert woken.wait(PATIENCE)
    thread.stop()
    app.close()


class Hanging:
    """Requests in a table that answers when the test lets it, at first with *errors*."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = threading.Semaphore(0)
        self.answers = threading.Event()

    def submit(self, _: Any, **__: Any) -> str:
        self.asked.release()
        assert self.answers.wait(PATIENCE)
        if self.errors:
            raise self.errors.pop(0)
        return "shape"


def carry(request_id: str) -> Carried:
    request = Request(id=request_id, task_id="t", task="tasks.render", service="host")
    message = envelope([[], {}, {}], headers={"id": "t"}, serializer="json")
    return Carried({"requests": [[request.to_dict(), message]], "rank": 0, "not_before": None, "timeout": None})


def test_what_is_carried_is_taken_in_while_the_table_hangs_and_recorded_when_it_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(carried, "RETRY", 0.001)
    pending: Any = Hanging(TableUnavailable("away"), ValueError("never"))
    shapes: queue.Queue[str] = queue.Queue()
    thread = CarriedThread(pending, shapes.put)
    thread.start()
    first, second = carry("1-1"), carry("1-2")

    thread.take(first)
    assert pending.asked.acquire(timeout=PATIENCE)
    thread.take(second)
    assert (first.is_over, second.is_over) == (False, False)
    pending.answers.set()

    assert shapes.get(timeout=PATIENCE) == "shape"
    thread.stop()
    assert (first.is_over, second.is_over) == (True, True)
    assert "2 announcements wait: away" in caplog.text
    assert "announcement refused: never" in caplog.text


def test_an_errback_that_hangs_does_not_hold_up_what_is_announced_and_placed(make_app: Callable[..., Celery]) -> None:
    app = make_app()
    fleet = Fleet(app)
    fleet.host("a", gpus=1)
    is_told, is_placed, sent = threading.Event(), threading.Event(), threading.Event()

    @app.task(name="tasks.told", shared=False)
    def told(request: Any, error: Any, traceback: Any) -> None:
        is_told.set()
        assert is_placed.wait(PATIENCE)

    @app.task(base=ScheduledTask, name="tasks.render", shared=False, claims={"gpus": 1})
    def render() -> None: ...

    render.apply_async(link_error=told.s())
    (unit,) = fleet.pending.all()
    fleet.pending.fail(unit, "timeout", "no valid host")
    life = Lifecycle(fleet.registry, slots=1, on_replaced=threading.Event().set)
    fleet.registry.placer._dispatch = lambda *_: sent.set()
    life._serve(fleet.registry.local("scheduler"))
    assert is_told.wait(PATIENCE)

    fleet.registry.carried.take(carry("1-1"))

    assert sent.wait(PATIENCE)
    is_placed.set()
    for thread in life._serving:
        thread.stop()
    app.close()
