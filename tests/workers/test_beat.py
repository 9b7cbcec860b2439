"""Beat ticks each period of the fleet's clock once, whenever it wakes, and any number of beats agree."""

import math
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import PersistentScheduler, ScheduleEntry, Scheduler, Service
from celery.signals import beat_init
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from managers.manager import Manager
from managers.periods import period_number
from workers.beat import LAG, Periods
from workers.registry import registry_of

FLEET = 1_800_000_000.0


class Watched(Manager[None], service_name="watched"):
    """A manager."""


class Other(Manager[None], service_name="other"):
    """Another one."""


class Beat:
    """A beat on a machine whose wall clock is off by *skew* seconds."""

    def __init__(self, app: Celery, interval: float, skew: float) -> None:
        self.app, self.interval, self.skew = app, interval, skew
        self.schedule = Periods(run_every=interval, app=app)
        self.last = self.wall(FLEET)

    def wall(self, fleet: float) -> datetime:
        return datetime.fromtimestamp(fleet + self.skew, UTC)

    def wake(self, fleet: float) -> tuple[int | None, float]:
        """Wake at *fleet* by the fleet's clock; return the number of the tick sent, and how long to sleep."""
        registry = registry_of(self.app)
        registry.clock.now = lambda: fleet  # type: ignore[method-assign]
        registry.clock.refresh = lambda _: None  # type: ignore[method-assign]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("workers.beat.datetime", Wall(self.wall(fleet)))
            is_due, sleep = self.schedule.is_due(self.last)
        if is_due:
            self.last = self.wall(fleet)
        return (period_number(fleet, self.interval) if is_due else None), sleep


def test_a_schedule_assigned_after_adoption_loses_no_tick(make_app: Callable[..., Celery]) -> None:
    app = make_app(Watched)
    app.conf.beat_schedule = {"mine": {"task": "mine.slow", "schedule": 30.0}}
    service = Service(app, scheduler_cls=Scheduler)

    beat_init.send(sender=service)

    assert set(service.scheduler.schedule) >= {
        "mine", "celeriac: watched.periodic_tasks", "celeriac: scheduler.periodic_tasks",
    }  # fmt: skip


class Wall:
    """A machine's wall clock."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self, zone: Any) -> datetime:
        return self.moment.astimezone(zone)


@pytest.fixture
def beat(make_app: Callable[..., Celery]) -> Callable[..., Beat]:
    app = make_app(Watched)

    def make(interval: float = 60.0, skew: float = 0.0) -> Beat:
        return Beat(app, interval, skew)

    return make


def fast(test: Callable[..., None]) -> Callable[..., None]:
    return settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])(test)


def test_a_period_is_due_once_and_the_sleep_ends_just_after_the_next_begins(beat: Callable[..., Beat]) -> None:
    made = beat(60.0)

    assert made.wake(FLEET + 59) == (None, pytest.approx(1 + LAG))
    assert made.wake(FLEET + 60) == (int(FLEET // 60) + 1, pytest.approx(60 + LAG))
    assert made.wake(FLEET + 60.01)[0] is None
    assert made.wake(FLEET + 119.99) == (None, pytest.approx(0.01 + LAG))
    assert made.wake(FLEET + 120.03)[0] == int(FLEET // 60) + 2


@fast
@given(data=st.data(), interval=st.sampled_from([1.0, 5.0, 60.0, 3600.0]))
def test_whenever_beat_wakes_no_period_is_ticked_twice_and_none_skipped_in_which_it_woke(
    beat: Callable[..., Beat], data: st.DataObject, interval: float
) -> None:
    made = beat(interval)
    gaps = data.draw(st.lists(st.integers(1, 1500), min_size=1, max_size=40))
    # never within a microsecond of a boundary: there a tick may be repeated, which does nothing
    made.last = made.wall(FLEET + interval / 2000)
    fleet, woke, ticked = FLEET + interval / 2000, [], []
    for gap in gaps:
        fleet += gap * interval / 1000
        number, _ = made.wake(fleet)
        woke.append(period_number(fleet, interval))
        ticked += [] if number is None else [number]

    first = period_number(FLEET, interval)
    assert ticked == sorted(set(woke) - {first})


@fast
@given(
    late=st.lists(st.floats(0, 0.9), min_size=50, max_size=50),
    interval=st.sampled_from([0.1, 0.25, 1.0, 10.0, 60.0]),
)
def test_a_beat_that_sleeps_as_told_and_wakes_late_ticks_every_period(
    beat: Callable[..., Beat], late: list[float], interval: float
) -> None:
    made = beat(interval)
    fleet, ticked = FLEET, []
    for delay in late:
        number, sleep = made.wake(fleet)
        assert sleep > 0
        ticked += [] if number is None else [number]
        fleet += sleep + delay * max(0.0, interval - 2 * LAG - 0.001)

    assert ticked == list(range(ticked[0], ticked[0] + len(ticked)))
    assert len(ticked) >= 48


@fast
@given(
    skews=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), phases=st.lists(st.floats(0.001, 0.99), max_size=20)
)
def test_two_beats_agree_on_the_numbers_whatever_their_machines_clocks_say(
    beat: Callable[..., Beat], skews: list[float], phases: list[float]
) -> None:
    one, other = (beat(60.0, skew) for skew in skews)

    for period, phase in enumerate(phases, start=1):
        fleet = FLEET + period * 60 + phase * 60
        assert one.wake(fleet)[0] == other.wake(fleet)[0] == period_number(fleet, 60)


def test_a_short_interval_has_a_short_lag(beat: Callable[..., Beat]) -> None:
    assert beat(0.1).wake(FLEET)[1] == pytest.approx(0.11, abs=1e-6)


def test_a_schedule_survives_being_pickled(beat: Callable[..., Beat]) -> None:
    made = beat(60.0)

    copy = pickle.loads(pickle.dumps(made.schedule))

    assert isinstance(copy, Periods)
    assert copy == made.schedule
    copy.app = made.app
    made.schedule = copy
    assert made.wake(FLEET + 60)[0] is not None


def test_an_entry_survives_being_pickled(make_app: Callable[..., Celery]) -> None:
    app = make_app(Watched)
    entry = Scheduler(app, lazy=True).Entry(
        name="tick", app=app, **app.conf.beat_schedule["celeriac: watched.periodic_tasks"]
    )

    copy = pickle.loads(pickle.dumps(entry))

    assert isinstance(copy, ScheduleEntry)
    assert isinstance(copy.schedule, Periods)
    assert (copy.task, copy.schedule.seconds) == ("watched.periodic_tasks", 60)


@pytest.mark.parametrize("kind", ["memory", "shelve"])
def test_a_beat_ticks_every_service_of_the_fleet_and_again_after_a_restart(
    make_app: Callable[..., Celery], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    app = make_app(Watched, Other, periodic_interval=3600)
    registry = registry_of(app)
    wall = datetime.now(UTC).timestamp()
    registry.table._now = lambda: wall
    sent: list[str] = []

    def run(shift: float) -> None:
        """Start a beat when *shift* seconds have passed since its last runs, and let it work off what is due."""
        scheduler: Any = (
            Scheduler(app)
            if kind == "memory"
            else PersistentScheduler(app, schedule_filename=str(tmp_path / "schedule"))
        )
        monkeypatch.setattr(scheduler, "apply_async", lambda entry, **_: sent.append(entry.task))
        for entry in scheduler.schedule.values():
            entry.last_run_at -= timedelta(seconds=shift)
        for _ in range(10):
            scheduler.tick()
        scheduler.close()

    run(shift=0)
    assert sent == []
    run(shift=3600)
    assert sorted(sent) == ["other.periodic_tasks", "scheduler.periodic_tasks", "watched.periodic_tasks"]
    run(shift=0)
    assert len(sent) == 3


def test_the_lag_is_clear_of_the_boundary_for_every_interval() -> None:
    for interval in (0.1, 1, 60, 86400):
        number = math.floor(FLEET / interval)
        assert period_number((number + 1) * interval + min(LAG, interval / 10), interval) == number + 1
