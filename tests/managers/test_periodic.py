"""Due times lie on the spacing's grid: once a period, never twice, never made up, and without drift."""

import statistics
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial, wraps
from typing import Any, Literal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from managers.errors import shown
from managers.manager import Manager
from managers.methods import expose
from managers.periodic import JITTER, Decision, PeriodicTask, decide, jitter_of, periodic_task, periodic_tasks_of
from managers.remote import Remote

START = 1_800_000_000.0
#: Sums of floats near START are off by less, in seconds.
NEARLY = 0.002

SPACINGS = st.integers(1, 20_000) | st.floats(0.5, 20_000).map(lambda seconds: round(seconds, 3))
JITTERS = st.floats(0, 1)
GAPS = st.floats(0.01, 100_000)


def task(
    spacing: float = 60, *, run_immediately: bool = False, scope: Literal["host", "fleet"] = "host"
) -> PeriodicTask:
    return PeriodicTask("measure", float(spacing), run_immediately, pool=False, scope=scope)


def runs_of(due: PeriodicTask, ticks: list[float], *, jitter: float, last_run: float | None = None) -> list[Any]:
    """Return (tick, the last run that it counts as) of each tick at which *due* runs."""
    runs = []
    for now in ticks:
        decision = decide(due, last_run, now=now, jitter=jitter)
        last_run = decision.last_run
        if decision.is_due:
            runs.append((now, last_run))
    return runs


def ticks_after(gaps: list[float], start: float = START) -> list[float]:
    return [start, *(start := start + gap for gap in gaps)]


@given(SPACINGS, JITTERS, st.lists(GAPS, max_size=40))
def test_a_task_never_runs_twice_in_one_period_of_its_grid(spacing: float, jitter: float, gaps: list[float]) -> None:
    runs = runs_of(task(spacing), ticks_after(gaps), jitter=jitter)

    periods = [round((last_run - START) / spacing) for _, last_run in runs]
    assert periods == sorted(set(periods))
    assert all(period >= 1 for period in periods)


@given(SPACINGS, JITTERS, st.integers(1, 10_000), st.floats(0, 0.94))
def test_missed_periods_are_skipped_and_make_one_run(spacing: float, jitter: float, missed: int, late: float) -> None:
    back = START + (missed + late) * spacing

    runs = runs_of(task(spacing), [back, back + 0.01 * spacing], jitter=jitter, last_run=START)

    assert len(runs) == 1
    assert runs[0][1] == pytest.approx(START + missed * spacing, abs=NEARLY)


@given(SPACINGS, JITTERS, st.lists(GAPS, max_size=40))
def test_a_run_comes_at_most_a_twentieth_before_its_time_and_never_later_than_the_next_tick(
    spacing: float, jitter: float, gaps: list[float]
) -> None:
    ticks = ticks_after(gaps)
    runs = runs_of(task(spacing), ticks, jitter=jitter)

    ran = dict(runs)
    for now, grid_time in runs:
        assert grid_time - jitter * JITTER * spacing - NEARLY <= now < grid_time + spacing
    last_run = START
    for now in ticks[1:]:
        if now in ran:
            last_run = ran[now]
        else:  # the next time on the grid is still ahead of this tick
            assert now < last_run + spacing


@given(SPACINGS, st.floats(0.05, 1), JITTERS)
def test_nothing_drifts_over_a_thousand_ticks(spacing: float, share: float, jitter: float) -> None:
    tick = spacing * share
    runs = runs_of(task(spacing), [START + number * tick for number in range(1000)], jitter=jitter)

    assert runs
    for _, last_run in runs:
        periods = round((last_run - START) / spacing)
        assert last_run == pytest.approx(START + periods * spacing, rel=0, abs=1e-6 * max(1, periods))
    periods = [round((last_run - START) / spacing) for _, last_run in runs]
    assert periods == list(range(1, len(periods) + 1))


def test_a_thousand_runs_later_the_grid_is_the_same_to_the_microsecond() -> None:
    first = 1_800_000_007.123456

    runs = runs_of(task(60), [first + 60 * number for number in range(1001)], jitter=0.7)

    assert [round(last_run, 6) for _, last_run in runs] == [round(first + 60 * k, 6) for k in range(1, 1001)]


@given(SPACINGS, JITTERS, st.floats(0, 1e6))
def test_a_task_as_frequent_as_the_ticks_is_due_at_every_tick(interval: float, jitter: float, offset: float) -> None:
    ticks = [(1_000_000 + number) * interval + offset for number in range(200)]

    assert [now for now, _ in runs_of(task(interval), ticks, jitter=jitter)] == ticks[1:]


@given(JITTERS)
def test_a_task_more_frequent_than_the_ticks_is_due_at_every_tick(jitter: float) -> None:
    ticks = [START + 60.0 * number for number in range(200)]

    assert [now for now, _ in runs_of(task(7), ticks, jitter=jitter)] == ticks[1:]


@given(st.none() | st.floats(0, 1e10), st.floats(0, 1e10), JITTERS)
def test_a_spacing_of_zero_means_every_tick(last_run: float | None, now: float, jitter: float) -> None:
    assert decide(task(0), last_run, now=now, jitter=jitter) == Decision(is_due=True, last_run=now)


@given(st.floats(0, 0.0009), JITTERS)
def test_a_spacing_too_short_to_tell_ticks_apart_means_every_tick(spacing: float, jitter: float) -> None:
    assert decide(task(spacing), START, now=START + 1, jitter=jitter) == Decision(is_due=True, last_run=START + 1)


@given(SPACINGS, JITTERS)
def test_a_task_that_never_ran_is_due_at_once_only_if_it_says_so(spacing: float, jitter: float) -> None:
    for run_immediately in (True, False):
        new = task(spacing, run_immediately=run_immediately)
        assert decide(new, None, now=START, jitter=jitter) == Decision(is_due=run_immediately, last_run=START)
        assert not decide(new, START, now=START + 0.9 * spacing, jitter=jitter).is_due
        assert decide(new, START, now=START + spacing, jitter=jitter).is_due


@given(SPACINGS, JITTERS, st.floats(1.06, 1000))
def test_a_clock_set_back_makes_a_task_due_and_starts_its_grid_anew(
    spacing: float, jitter: float, spacings: float
) -> None:
    set_back = START - spacings * spacing - 1

    assert decide(task(spacing), START, now=set_back, jitter=jitter) == Decision(is_due=True, last_run=set_back)


@given(SPACINGS, JITTERS, st.floats(0, 1))
def test_a_clock_set_back_by_less_than_a_spacing_makes_no_run_and_forgets_none(
    spacing: float, jitter: float, spacings: float
) -> None:
    now = START - spacings * spacing
    assume(now < START - NEARLY)

    assert decide(task(spacing), START, now=now, jitter=jitter) == Decision(is_due=False, last_run=START)


@pytest.mark.parametrize(
    ("now", "last", "spacing", "boundary"), [(19, 10, 7, 17), (28, 13, 7, 27), (1841, 781, 88, 1837)]
)
def test_what_counts_as_the_last_run_is_the_origins_nearest_boundary(
    now: float, last: float, spacing: float, boundary: float
) -> None:
    assert decide(task(spacing), last, now=now) == Decision(is_due=True, last_run=boundary)


def test_jitter_brings_a_run_forward_by_its_part_of_a_twentieth() -> None:
    hourly = task(3600)

    assert [decide(hourly, 0.0, now=now, jitter=1.0).is_due for now in (3419.9, 3420)] == [False, True]
    assert [decide(hourly, 0.0, now=now, jitter=0.5).is_due for now in (3509.9, 3510)] == [False, True]
    assert [decide(hourly, 0.0, now=now, jitter=0.0).is_due for now in (3599.9, 3600)] == [False, True]
    assert decide(hourly, 0.0, now=3420, jitter=1.0).last_run == 3600


def test_jitter_is_fixed_for_its_names() -> None:
    assert jitter_of("volume", "measure", "rack1-07") == jitter_of("volume", "measure", "rack1-07")
    assert jitter_of("volume", "measure", "rack1-07") == pytest.approx(0.8033, abs=0.0001)  # in any process
    assert jitter_of("volume", "measure", "a") != jitter_of("volume", "measure", "b")
    assert jitter_of("volume", "measure", "a") != jitter_of("volume", "clean", "a")


def test_jitter_is_even_from_zero_to_one() -> None:
    shares = sorted(jitter_of("volume", "measure", f"host-{number}") for number in range(4000))

    assert shares[0] >= 0
    assert shares[-1] < 1
    assert statistics.mean(shares) == pytest.approx(0.5, abs=0.02)
    assert max(abs(share - number / 4000) for number, share in enumerate(shares)) < 0.03


def marked(**options: Any) -> PeriodicTask | None:
    """Return what a class says of a method with these *options*."""

    class Volumes(Manager[None], service_name="volume"):
        @periodic_task(**options)
        def measure(self) -> None: ...

    return next(periodic_tasks_of(Volumes), None)


def test_a_bare_mark_means_every_minute_on_every_host() -> None:
    class Volumes(Manager[None], service_name="volume"):
        @periodic_task
        def measure(self) -> None: ...

    expected = PeriodicTask("measure", 60.0, run_immediately=False, pool=False, scope="host")
    assert list(periodic_tasks_of(Volumes)) == [expected]
    assert marked() == expected


def test_a_mark_wraps_nothing() -> None:
    def measure(self: Any) -> None: ...

    assert periodic_task(measure) is measure
    assert periodic_task(spacing=5)(measure) is measure


def test_what_the_mark_says_is_kept() -> None:
    assert marked(spacing=timedelta(minutes=2), run_immediately=True, pool=True, scope="fleet") == PeriodicTask(
        "measure", 120.0, run_immediately=True, pool=True, scope="fleet"
    )
    assert marked(spacing=0) == PeriodicTask("measure", 0.0, run_immediately=False, pool=False, scope="host")
    assert marked(spacing=0.5) == PeriodicTask("measure", 0.5, run_immediately=False, pool=False, scope="host")


@pytest.mark.parametrize(
    "options",
    [
        {"spacing": -1}, {"spacing": -0.001}, {"spacing": timedelta(seconds=-1)}, {"enabled": False},
        {"spacing": 0, "enabled": False}, {"spacing": -1, "scope": "fleet"},
    ],
)  # fmt: skip
def test_a_negative_spacing_or_enabled_false_disables_a_task(options: dict[str, Any]) -> None:
    assert marked(**options) is None


@pytest.mark.parametrize(
    "spacing", ["60", None, True, False, float("nan"), float("inf"), -float("inf"), [60], 10**400], ids=shown
)
def test_a_spacing_that_is_no_number_is_refused(spacing: Any) -> None:
    with pytest.raises(ValueError, match=r"spacing is .*; use seconds or a timedelta"):
        periodic_task(spacing=spacing)


def test_a_scope_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="scope is 'rack'; use 'host' or 'fleet'"):
        periodic_task(scope="rack")  # type: ignore[call-overload]


def test_a_fleet_shares_no_spacing_of_zero() -> None:
    for zero in (0, 0.0, -0.0, timedelta()):
        with pytest.raises(ValueError, match="needs a period to share"):
            periodic_task(spacing=zero, scope="fleet")


def with_argument(self: Any, disk: str) -> None: ...
def with_context(self: Any, context: Any) -> None: ...
def with_keyword(self: Any, *, disk: str) -> None: ...
def without_self() -> None: ...


@pytest.mark.parametrize("method", [with_argument, with_context, with_keyword, without_self])
def test_a_method_that_takes_more_than_self_is_refused_when_marked(method: Callable[..., Any]) -> None:
    for mark in (periodic_task, periodic_task(spacing=5)):
        with pytest.raises(TypeError, match=rf"{method.__name__} is periodic and must take nothing but self"):
            mark(method)


def with_default(self: Any, disk: str = "a") -> None: ...
def with_rest(self: Any, *disks: str, **options: Any) -> None: ...


def test_a_method_that_can_do_with_self_alone_is_taken() -> None:
    assert periodic_task(with_default) is with_default
    assert periodic_task(with_rest) is with_rest


async def coroutine(self: Any) -> None: ...
def generator(self: Any) -> Iterator[None]:
    yield


async def stream(self: Any) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("method", [coroutine, generator, stream])
def test_a_method_whose_call_would_do_nothing_is_refused(method: Any) -> None:
    with pytest.raises(TypeError, match=f"{method.__name__} is periodic and must do its work when called"):
        periodic_task(method)


@pytest.mark.parametrize("value", [7, "measure", print, partial(print), staticmethod(print), property(print), Manager])
def test_what_is_no_method_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="@periodic_task marks a method of a manager"):
        periodic_task(value)


class Both(Manager[None], service_name="both"):
    """Methods that beat triggers and that the fleet may call as well."""

    @periodic_task(spacing=5)
    @expose
    def outside(self) -> str:
        return "outside"

    @expose(acks_late=True)
    @periodic_task(spacing=6)
    def inside(self) -> str:
        return "inside"


def test_a_method_can_be_exposed_and_periodic_in_either_order() -> None:
    assert [(task.name, task.spacing) for task in periodic_tasks_of(Both)] == [("inside", 6.0), ("outside", 5.0)]
    assert Both.outside == Remote("both", "outside")
    assert Both.inside == Remote("both", "inside")
    assert (Both("a").outside(), Both("a").inside()) == ("outside", "inside")


def test_an_override_decides_anew_whether_it_is_periodic() -> None:
    class Volumes(Manager[None], service_name="volume"):
        @periodic_task(spacing=5)
        def kept(self) -> None: ...
        @periodic_task(spacing=5)
        def marked_anew(self) -> None: ...
        @periodic_task(spacing=5)
        def unmarked(self) -> None: ...
        @periodic_task(spacing=5)
        def disabled(self) -> None: ...
        @periodic_task(enabled=False)
        def enabled(self) -> None: ...

    class Faster(Volumes):
        @periodic_task(spacing=1)
        def marked_anew(self) -> None: ...
        def unmarked(self) -> None: ...
        @periodic_task(enabled=False)
        def disabled(self) -> None: ...
        @periodic_task(spacing=2)
        def enabled(self) -> None: ...

    assert {task.name: task.spacing for task in periodic_tasks_of(Faster)} == {
        "enabled": 2.0, "kept": 5.0, "marked_anew": 1.0,
    }  # fmt: skip
    assert {task.name for task in periodic_tasks_of(Volumes)} == {"kept", "marked_anew", "unmarked", "disabled"}


def test_a_task_has_the_name_that_its_class_gives_it() -> None:
    def logged(method: Callable[[Any], None]) -> Callable[[Any], None]:
        def wrapper(self: Any) -> None:
            method(self)

        return wrapper

    def logged_well(method: Callable[[Any], None]) -> Callable[[Any], None]:
        @wraps(method)
        def wrapper(self: Any) -> None:
            method(self)

        return wrapper

    class Volumes(Manager[None], service_name="volume"):
        @periodic_task
        @logged
        def measure(self) -> None: ...
        @logged_well
        @periodic_task
        def clean(self) -> None: ...

    assert [task.name for task in periodic_tasks_of(Volumes)] == ["clean", "measure"]


def test_a_task_of_the_pool_is_named_after_its_service_and_method() -> None:
    assert task().celery_name("volume") == "volume.periodic_tasks.measure"


@given(st.sampled_from(["host", "fleet"]), SPACINGS, JITTERS)
@example("fleet", 60, 1.0)
def test_a_decision_depends_on_nothing_but_its_arguments(scope: Any, spacing: float, jitter: float) -> None:
    decisions = {decide(task(spacing, scope=scope), START, now=START + spacing, jitter=jitter) for _ in range(3)}

    assert len(decisions) == 1
