"""Periodic tasks on real hosts: in the main process and in the pool, of a host and of the fleet, past a host's end."""

import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

import pytest

from managers.periods import host_offset, period_number
from tests.fleet.conftest import caller_fleet
from tests.fleet.harness import PATIENCE, Harness, Process

pytestmark = pytest.mark.fleet

POOL = os.environ.get("CELERIAC_TEST_POOL", "prefork")
BROKER = os.environ.get("CELERIAC_TEST_BROKER", "redis")

#: Seconds between two ticks; the caller manager's tasks have this spacing too.
INTERVAL = 1.0
#: Ticks in a row to watch.
TICKS = 4


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Hosts a and b, ticked by one beat."""
    with caller_fleet(request, BROKER, "a", "b", interval=INTERVAL) as fleet:
        fleet.beat()
        for host in "ab":
            start(fleet, host)
        fleet.wait(lambda: all(len(fleet.called(host, "heavy")) > 1 for host in "ab"), PATIENCE, "a and b tick")
        yield fleet


def start(fleet: Harness, host: str) -> Process:
    return fleet.worker(host, services="caller", pool=POOL)


def worker(fleet: Harness, host: str) -> Process:
    """Return the newest worker of *host*."""
    return [process for process in fleet.processes if process.name == host][-1]


def times(fleet: Harness, host: str, task: str) -> list[float]:
    """Return for what moment each run of *task* on *host* was; of a heavy one, when it began."""
    return [float(line.split()[0]) for line in fleet.called(host, task)]


def periods(fleet: Harness, host: str, task: str) -> list[int]:
    """Return the period of each run of *task* on *host*."""
    offset = host_offset(host, INTERVAL)
    return [period_number(at - offset + 0.001, INTERVAL) for at in times(fleet, host, task)]


def in_a_row(steps: Iterable[bool]) -> int:
    """Return how many of *steps* in a row are true, at most; a machine that stalls may spoil one now and then."""
    return max((len([*group]) for is_right, group in itertools.groupby(steps) if is_right), default=0)


def gaps(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def pids(fleet: Harness, host: str, task: str) -> set[int]:
    return {int(line.split()[1]) for line in fleet.called(host, task)}


def alone(fleet: Harness) -> list[tuple[float, str]]:
    """Return for what moment each run of the fleet's task was, and on which host."""
    return sorted((at, host) for host in "ab" for at in times(fleet, host, "alone"))


def test_light_tasks_run_in_the_main_process_and_heavy_ones_in_the_pool_once_per_tick(fleet: Harness) -> None:
    def is_steady(host: str, task: str) -> bool:
        return in_a_row(gap == 1 for gap in gaps(periods(fleet, host, task))) >= TICKS

    for host, task in itertools.product("ab", ("light", "heavy")):
        fleet.wait(partial(is_steady, host, task), PATIENCE, f"{task} on {host} runs once per tick")
    for host in "ab":
        assert max(Counter(periods(fleet, host, "light")).values()) == 1
        heavy = periods(fleet, host, "heavy")
        assert len(heavy) <= heavy[-1] - heavy[0] + 2, "one may have begun late"
        main = worker(fleet, host).pid
        assert pids(fleet, host, "light") == {main}
        assert (main in pids(fleet, host, "heavy")) == (POOL != "prefork")


def test_the_fleets_task_runs_on_one_host_per_period(fleet: Harness) -> None:
    def between() -> list[float]:
        return gaps([at for at, _ in alone(fleet)])

    fleet.wait(lambda: in_a_row(gap < 1.6 * INTERVAL for gap in between()) >= TICKS, PATIENCE, "no period is left out")
    assert min(between()) > 0.4 * INTERVAL, "never two in a period"


def test_one_that_fails_stops_nothing(fleet: Harness) -> None:
    for host in "ab":
        fleet.wait(
            lambda host=host: worker(fleet, host).text.count("this one always fails") > TICKS, PATIENCE, "it fails"
        )
        assert f"broken of <CallerManager caller on {host}> failed" in worker(fleet, host).text
    fleet.wait(lambda: fleet.table.present("caller") == {"a": True, "b": True}, PATIENCE, "both are there")


def test_a_heavy_one_that_outlasts_its_spacing_is_skipped_not_doubled_and_logged(fleet: Harness) -> None:
    (fleet.journal / "heavy").write_text("2.5")
    log = fleet.wait(
        lambda: next(
            (text for host in "ab" if "took 2" in (text := worker(fleet, host).text) and "skipped" in text), None
        ),
        PATIENCE,
        "it is logged",
    )  # fmt: skip

    slow = "a" if log == worker(fleet, "a").text else "b"
    assert re.search(rf"heavy of <CallerManager caller on {slow}> took \d+\.\d+ s, longer than its spacing of 1 s", log)
    assert f"heavy of <CallerManager caller on {slow}> still runs since an earlier period; this one is skipped" in log
    began = len(fleet.called(slow, "heavy"))
    fleet.wait(lambda: len(fleet.called(slow, "heavy")) > began + 1, PATIENCE, "it goes on")
    runs = {host: [tuple(map(float, line.split()[::2])) for line in fleet.called(host, "heavy")] for host in "ab"}
    for host in "ab":
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(runs[host])), f"no two at once on {host}"
    begin, end = max(runs[slow], key=lambda run: run[1] - run[0])
    light = [float(line.split()[2]) for line in fleet.called(slow, "light")]
    assert [at for at in light if begin < at < end], "the light ones went on meanwhile"


def test_a_killed_host_leaves_the_fleets_task_to_another_and_knows_its_last_runs_once_restarted(
    fleet: Harness,
) -> None:
    _, host = alone(fleet)[-1]
    (other,) = {"a", "b"} - {host}

    killed = time.time()
    worker(fleet, host).kill()
    began = len(fleet.called(host, "light"))

    taken = fleet.wait(
        lambda: next((at for at, by in alone(fleet) if by == other and at > killed), None),
        PATIENCE,
        f"{other} takes over",
    )
    assert taken - killed < 3 * INTERVAL + 0.5
    start(fleet, host)
    fleet.wait(lambda: len(fleet.called(host, "light")) > began + 1, PATIENCE, f"{host} ticks again")
    assert len(fleet.called(host, "once")) == 1, "an hour has not passed"
    runs = [at for at, _ in alone(fleet)]
    assert len(runs) <= (runs[-1] - runs[0]) / INTERVAL + 2, "one host per period"
