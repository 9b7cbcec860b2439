"""Presence goes on whatever happens, until it is stopped or another worker has the name."""

import logging
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.errors import TableUnavailable
from workers.presence import Presence


class Heart:
    """A membership whose beats the test answers; the last answer is given for ever."""

    host = "a"

    def __init__(self, *answers: Any) -> None:
        self.identity = SimpleNamespace(heartbeat_interval=0.002)
        self._answers = list(answers)
        self._is_last = False
        self.beats = 0
        self.is_settled = threading.Event()

    def beat(self) -> tuple[float, str]:
        self.beats += 1
        answer = self._answers[0]
        if len(self._answers) > 1:
            self._answers.pop(0)
        elif self._is_last:
            self.is_settled.set()  # the last answer was given before, and heeded
        else:
            self._is_last = True
        if isinstance(answer, Exception):
            raise answer
        return 9_000.0 + self.beats, answer


class Bench:
    """Presence with a heart of the test's."""

    def __init__(self, clock: Any, mailbox: Any, *answers: Any) -> None:
        self.heart, self.clock, self.told = Heart(*answers), clock, mailbox
        self.presence = Presence(
            self.heart,  # type: ignore[arg-type]
            clock,
            on_joined=lambda: self.told.put("joined"),
            on_replaced=lambda: self.told.put("replaced"),
        )


Benches = Callable[..., Bench]


@pytest.fixture
def bench(hand_clock: Any, mailbox: Callable[[], Any]) -> Iterator[Benches]:
    made: list[Bench] = []

    def make(*answers: Any) -> Bench:
        made.append(Bench(hand_clock, mailbox(), *answers))
        return made[-1]

    yield make

    for one in made:
        one.presence.stop()


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_each_beat_sets_the_fleets_clock(bench: Benches) -> None:
    made = bench("ok", "ok", "ok")
    made.presence.start()
    assert made.heart.is_settled.wait(10)

    made.presence.stop()

    assert made.clock.now() == 9_000 + made.heart.beats
    assert made.told.rest() == []


def test_a_host_that_was_forgotten_is_told_so_and_goes_on(bench: Benches, caplog: pytest.LogCaptureFixture) -> None:
    made = bench("ok", "joined", "joined", "ok")
    made.presence.start()

    assert [made.told.get(), made.told.get()] == ["joined", "joined"]
    assert made.heart.is_settled.wait(10)
    assert "the capability table had forgotten a; joined again" in lines(caplog, logging.WARNING)


def test_a_replaced_host_is_told_once_and_beats_no_more(bench: Benches, caplog: pytest.LogCaptureFixture) -> None:
    made = bench("ok", "replaced")
    made.presence.start()

    assert made.told.get() == "replaced"
    made.presence._thread.join(10)

    assert not made.presence._thread.is_alive()
    assert (made.heart.beats, made.told.rest()) == (2, [])
    assert "another worker took the name a" in lines(caplog, logging.CRITICAL)[0]


def test_a_redis_that_is_away_is_logged_once_and_its_return_once(
    bench: Benches, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away = TableUnavailable("the table's Redis does not answer")
    made = bench(away, away, away, "ok", "ok", away, "ok")
    made.presence.start()
    assert made.heart.is_settled.wait(10)
    made.presence.stop()

    assert lines(caplog, logging.ERROR) == ["presence of a can't be told: the table's Redis does not answer"] * 2
    assert lines(caplog, logging.INFO) == ["presence of a is told again"] * 2


def test_an_error_nobody_thought_of_does_not_stop_the_heart(bench: Benches, caplog: pytest.LogCaptureFixture) -> None:
    made = bench(ValueError("what is that"), "ok")
    made.presence.start()

    assert made.heart.is_settled.wait(10)
    assert "what is that" in caplog.text


def test_an_error_of_those_who_are_told_does_not_stop_the_heart(
    bench: Benches, caplog: pytest.LogCaptureFixture
) -> None:
    made = bench("joined", "ok", "ok")

    def fail() -> None:
        raise LookupError("no such function in the db driver")

    made.presence._on_joined = fail
    made.presence.start()

    assert made.heart.is_settled.wait(10)
    assert "no such function" in caplog.text


def test_nothing_is_told_after_a_stop(bench: Benches) -> None:
    made = bench("ok")
    made.presence.start()
    assert made.heart.is_settled.wait(10)
    made.presence.stop()
    beats = made.heart.beats

    assert not made.presence._thread.is_alive()
    assert made.heart.beats == beats


def test_presence_can_be_stopped_by_the_one_it_tells(bench: Benches) -> None:
    made = bench("joined")
    made.presence._on_joined = lambda: (made.presence.stop(), made.told.put("stopped"))  # type: ignore[assignment,func-returns-value]
    made.presence.start()

    assert made.told.get() == "stopped"
    made.presence._thread.join(10)
    assert not made.presence._thread.is_alive()


def test_stopping_without_having_started_and_twice_is_harmless(bench: Benches) -> None:
    made = bench("ok")

    made.presence.stop()
    made.presence.stop()
    made.presence.start()
    made.presence.stop()

    assert made.heart.beats == 0


def test_presence_bears_being_stopped_from_all_sides(bench: Benches, stress: Callable[..., None]) -> None:
    for _ in range(10):
        made = bench("ok", "joined", "ok")
        once = threading.Lock()

        def start(made: Bench = made, once: Any = once) -> None:
            if once.acquire(blocking=False):
                made.presence.start()

        stress(start, made.presence.stop, made.presence.stop, rounds=5)

        made.presence.stop()
        assert not made.presence._thread.is_alive()
