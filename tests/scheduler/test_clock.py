"""The fleet's clock is Redis's, carried on by this process's monotonic one."""

import threading
import time

import pytest

from scheduler.clock import FleetClock


class Times:
    """A machine whose two clocks the test sets."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 5_000.0, 100.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr("scheduler.clock.time.time", lambda: times.wall)
    monkeypatch.setattr("scheduler.clock.time.monotonic", lambda: times.monotonic)
    return times


class Server:
    """A Redis whose clock the test sets; None for one that doesn't answer."""

    def __init__(self) -> None:
        self.now: float | None = 9_000.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        if self.now is None:
            raise ConnectionError("no answer")
        return self.now


def test_before_the_first_reading_it_is_the_wall_clock(machine: Times) -> None:
    clock = FleetClock(Server())
    machine.monotonic += 7

    assert clock.now() == 5_007


def test_after_a_reading_it_runs_on_from_there(machine: Times) -> None:
    clock = FleetClock(Server())
    clock.set(9_000)
    machine.monotonic += 12.5

    assert clock.now() == 9_012.5


def test_a_step_of_the_wall_clock_changes_nothing(machine: Times) -> None:
    clock = FleetClock(Server())
    before = clock.now()
    machine.wall += 3600

    assert clock.now() == before


def test_a_young_reading_is_not_repeated_and_an_old_one_is(machine: Times) -> None:
    server = Server()
    clock = FleetClock(server)

    clock.refresh(10)
    assert (clock.now(), server.asked) == (9_000, 1)
    machine.monotonic += 9.9
    server.now = 8_000
    clock.refresh(10)
    assert (clock.now(), server.asked) == (9_009.9, 1)
    machine.monotonic += 0.2
    clock.refresh(10)
    assert (clock.now(), server.asked) == (8_000, 2)


def test_a_reading_by_a_heartbeat_counts_as_one(machine: Times) -> None:
    server = Server()
    clock = FleetClock(server)
    clock.set(9_000)

    clock.refresh(10)

    assert server.asked == 0


def test_a_server_that_does_not_answer_costs_one_try_per_age_and_the_known_time_goes_on(machine: Times) -> None:
    server = Server()
    clock = FleetClock(server)
    clock.set(9_000)
    server.now = None
    machine.monotonic += 11

    with pytest.raises(ConnectionError):
        clock.refresh(10)
    clock.refresh(10)

    assert server.asked == 1
    assert clock.now() == 9_011


def test_asking_the_time_never_waits_for_a_reading_under_way() -> None:
    asked, answer = threading.Event(), threading.Event()

    def read() -> float:
        asked.set()
        answer.wait(10)
        return 9_000.0

    clock = FleetClock(read)
    reading = threading.Thread(target=clock.refresh, args=(0,))
    reading.start()
    assert asked.wait(10)

    before = time.time()
    assert clock.now() == pytest.approx(before, abs=5)

    answer.set()
    reading.join(10)
    assert clock.now() == pytest.approx(9_000, abs=5)
