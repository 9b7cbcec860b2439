"""Periodic tasks on real hosts: in the main process and in the pool, of a host and of the fleet, past a host's end."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from managers.periods import host_offset, period_number
from tests.fleet.conftest import caller_fleet
from tests.fleet.harness import Harness, Process

pytestmark = pytest.mark.fleet

POOL = os.environ.get("CELERIAC_TEST_POOL", "prefork")
BROKER = os.environ.get("CELERIAC_TEST_BROKER", "redis")

#: Seconds between two ticks; the caller manager's tasks have this spacing too.
INTERVAL = 1.0
#: Ticks to watch.
TICKS = 4


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Hosts a and b, ticked by one beat."""
    with caller_fleet(request, BROKER, "a", "b", interval=INTERVAL) as fleet:
        fleet.beat()
        for host in "ab":
            start(fleet, host)
        fleet.wait(lambda: all(len(fleet.called(host, "heavy")) > 1 for host in "ab"), 30, "a and b tick")
        yield fleet


def start(fleet: Harness, host: str) -> Process:
    return fleet.worker(host, services="caller", pool=POOL)


def worker(fleet: Harness, host: str) -> Process:
    """Return the newest worker of *host*."""
    return [process for process in fleet.processes if process.name == host][-1]


def times(fleet: Harness, host: str, task: str) -> list[float]:
    """Return when each run of *task* on *host* began."""
    return [float(line.split()[0]) for line in fleet.called(host, task)]


def pids(fleet: Harness, host: str, task: str) -> set[int]:
    return {int(line.split()[1]) for line in fleet.called(host, task)}


def alone(fleet: Harness) -> list[tuple[float, str]]:
    """Return when each run of the fleet's task began, and on which host."""
    return sorted((at, host) for host in "ab" for at in times(fleet, host, "alone"))


def watch(fleet: Harness) -> tuple[int, int]:
    """Let some ticks pass; return the first period and that after the last."""
    first = period_number(time.time(), INTERVAL) + 1
    fleet.wait(lambda: time.time() > (first + TICKS + 0.8) * INTERVAL, TICKS + 5, "some ticks")
    return first, first + TICKS


def test_light_tasks_run_in_the_main_process_and_heavy_ones_in_the_pool_once_per_tick(fleet: Harness) -> None:
    first, end = watch(fleet)

    for host in "ab":
        for task in ("light", "heavy"):
            offset = host_offset(host, INTERVAL)
            ran = Counter(period_number(at - offset, INTERVAL) for at in times(fleet, host, task))
            assert [ran[period] for period in range(first, end)] == [1] * TICKS, f"{task} on {host}"
        main = worker(fleet, host).pid
        assert pids(fleet, host, "light") == {main}
        assert (main in pids(fleet, host, "heavy")) == (POOL != "prefork")


def test_the_fleets_task_runs_on_one_host_per_period(fleet: Harness) -> None:
    runs = [at for at, _ in alone(fleet)]

    gaps = [later - earlier for earlier, later in itertools.pairwise(runs)]
    assert len(runs) > TICKS
    assert min(gaps) > 0.4 * INTERVAL, "never two in a period"
    assert max(gaps) < 1.6 * INTERVAL, "no period is left out"


def test_one_that_fails_stops_nothing(fleet: Harness) -> None:
    for host in "ab":
        assert worker(fleet, host).text.count("this one always fails") > TICKS
        assert f"broken of <CallerManager caller on {host}> failed" in worker(fleet, host).text
    assert fleet.table.present("caller") == {"a": True, "b": True}


def test_a_heavy_one_that_outlasts_its_spacing_is_skipped_not_doubled_and_logged(fleet: Harness) -> None:
    before = len(fleet.called("a", "light")), len(fleet.called("b", "light"))

    (fleet.journal / "heavy").write_text("2.5")
    log = fleet.wait(
        lambda: next(
            (text for host in "ab" if "longer than its spacing" in (text := worker(fleet, host).text)), None
        ),
        10,
        "it is logged",
    )  # fmt: skip

    slow = "a" if log == worker(fleet, "a").text else "b"
    assert f"heavy of <CallerManager caller on {slow}> took 2.5" in log
    assert f"heavy of <CallerManager caller on {slow}> still runs since an earlier period; this one is skipped" in log
    began = len(fleet.called(slow, "heavy"))
    fleet.wait(lambda: len(fleet.called(slow, "heavy")) > began + 1, 10, "it goes on")
    for host in "ab":
        runs = [(float(line.split()[0]), float(line.split()[2])) for line in fleet.called(host, "heavy")]
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(runs)), f"no two at once on {host}"
    after = len(fleet.called("a", "light")), len(fleet.called("b", "light"))
    assert min(now - then for now, then in zip(after, before, strict=True)) >= 3, "the light ones went on meanwhile"


def test_a_killed_host_leaves_the_fleets_task_to_another_and_knows_its_last_runs_once_restarted(
    fleet: Harness,
) -> None:
    _, host = alone(fleet)[-1]
    (other,) = {"a", "b"} - {host}

    killed = time.time()
    worker(fleet, host).kill()
    began = len(fleet.called(host, "light"))

    taken = fleet.wait(
        lambda: next((at for at, by in alone(fleet) if by == other and at > killed), None), 10, f"{other} takes over"
    )
    assert taken - killed < 2 * INTERVAL + 0.5
    start(fleet, host)
    fleet.wait(lambda: len(fleet.called(host, "light")) > began + 1, 20, f"{host} ticks again")
    assert len(fleet.called(host, "once")) == 1, "an hour has not passed"
    runs = [at for at, _ in alone(fleet)]
    assert len(runs) <= (runs[-1] - runs[0]) / INTERVAL + 2, "one host per period"
