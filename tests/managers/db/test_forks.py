"""Forks and open SQLite connections."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from managers import db
from managers.db import api, session
from managers.db.address import parse
from managers.db.forks import ForkGate, gate
from managers.errors import DatabaseError

InFork = Callable[[Callable[[], Any]], Callable[[], Any]]


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        os.sched_yield()


@pytest.fixture
def fleet(sqlite_url: str) -> str:
    db.use(sqlite_url)
    db.upgrade()
    return sqlite_url


def test_what_a_child_commits_survives_its_parents_last_close(fleet: str, in_fork: InFork) -> None:
    api.service_register("volume", "parent", version="1")
    wrote, may_go_on = os.pipe(), os.pipe()

    def child() -> None:
        with session(write=False):  # keeps the log open
            with session() as opened:
                assert opened.connection()
            api.service_register("volume", "before", version="1")
            os.write(wrote[1], b".")
            os.read(may_go_on[0], 1)
            api.service_register("volume", "after", version="1")

    finish = in_fork(child)
    os.read(wrote[0], 1)
    db.close()
    os.write(may_go_on[1], b".")
    finish()
    for end in (*wrote, *may_go_on):
        os.close(end)

    with sqlite3.connect(parse(fleet).database) as outsider:
        hosts = outsider.execute("SELECT host FROM services ORDER BY host").fetchall()
    outsider.close()
    assert hosts == [("after",), ("before",), ("parent",)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the very thing that is tested
def test_a_fork_waits_for_another_threads_transaction(fleet: str, in_fork: InFork) -> None:
    inside = threading.Event()

    def write() -> None:
        with session() as opened:
            opened.connection()
            inside.set()
            until(lambda: gate._forks)

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(20)

    child = in_fork(lambda: api.service_register("volume", "child", version="1").host)

    assert child() == "child"
    writer.join(20)


def test_a_child_forked_inside_a_session_is_refused_the_database(
    fleet: str, in_fork: InFork, caplog: pytest.LogCaptureFixture
) -> None:
    def child() -> str:
        try:
            api.service_get_all()
        except DatabaseError as error:
            return str(error)
        return "used"

    with session() as opened:
        opened.connection()
        answer = in_fork(child)()

    assert "forked while its parent had the database open; fork outside of session()" in answer
    assert "fork with 1 open database connections" in caplog.text
    api.service_register("volume", "parent", version="1")
    assert len(api.service_get_all()) == 1


def test_an_opening_waits_while_a_fork_is_under_way() -> None:
    gate = ForkGate()
    gate.before_fork()
    entered = threading.Event()
    opening = threading.Thread(target=lambda: (gate.enter(), entered.set()))
    opening.start()

    until(lambda: gate._changed._waiters)
    assert not entered.is_set()
    gate.after_fork_in_parent()

    assert entered.wait(20)
    opening.join(20)


def test_a_thread_that_is_inside_may_open_another_while_a_fork_waits_for_it() -> None:
    gate = ForkGate()
    first = gate.enter()
    forking = threading.Thread(target=gate.before_fork)
    forking.start()
    until(lambda: gate._changed._waiters)

    second = gate.enter()
    gate.leave(second)
    gate.leave(first)

    forking.join(20)
    assert not forking.is_alive()


def test_a_fork_gives_up_on_a_connection_that_stays_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("managers.db.forks.PATIENCE", 0.01)
    gate = ForkGate()
    leaker = threading.Thread(target=gate.enter)
    leaker.start()
    leaker.join(20)

    gate.before_fork()
    gate.after_fork_in_child()

    assert "the child can't use the database" in caplog.text
    with pytest.raises(sqlite3.OperationalError, match="was forked"):
        gate.enter()


def test_nothing_is_counted_once_everything_is_closed(fleet: str) -> None:
    for _ in range(3):
        api.service_register("volume", "here", version="1")

    assert not gate._open
