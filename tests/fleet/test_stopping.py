"""A stopping host takes nothing new, ends its work in time or hands it back, cleans up once, and leaves nothing."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from celery.exceptions import WorkerLostError

from tests.fleet.conftest import on_broker
from tests.fleet.harness import PATIENCE, Harness, is_gone

pytestmark = pytest.mark.fleet

#: Pool, broker, application: one of each in the suite, any others by this variable.
COMBINATIONS = os.environ.get(
    "CELERIAC_TEST_STOPPING",
    "prefork-redis-workers prefork-rabbitmq-adopted threads-redis-adopted gevent-redis-adopted",
).split()

#: Seconds that a stop may take whose tasks are cut off: their time, the pool's, and some for a slow machine.
IN_TIME = 30


def held(path: Path) -> list[tuple[str, str]]:
    """Return what ``hold`` wrote: a word, and the host it ran on."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(word, host) for word, host, _ in map(str.split, lines)]


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_work_that_outlasts_the_time_runs_elsewhere_or_is_answered_for(
    combination: str, request: pytest.FixtureRequest, start_fleet: Callable[..., Harness], tmp_path: Path
) -> None:
    pool, broker, application = combination.split("-")
    fleet = on_broker(broker, request, start_fleet)
    if application == "adopted":
        # its own worker_soft_shutdown_timeout counts then, and it fetches more than it can run
        fleet.application, seconds = "tests.fleet.adopted", "600"
    else:
        seconds = "1.5"
    hosts = {name: fleet.worker(name, pool=pool, CELERIAC_SHUTDOWN_TIMEOUT=seconds) for name in ("one", "two")}
    fleet.wait(lambda: all(f"host@{name} ready" in host.text for name, host in hosts.items()), PATIENCE, "both consume")
    late, early, never = (tmp_path / name for name in ("late", "early", "never"))
    fleet.app.send_task("journal.hold_late", (600, str(late)), queue="host")
    host = fleet.wait(lambda: held(late), PATIENCE, "it runs")[0][1]
    other = "two" if host == "one" else "one"
    lost = fleet.app.send_task("journal.hold", (600, str(early)), queue=f"host.{host}")
    fleet.wait(lambda: held(early), PATIENCE, "every slot is taken")
    fleet.app.send_task("journal.hold", (0, str(never)), queue=f"host.{host}")
    if application == "adopted":
        fleet.wait(lambda: not fleet.waiting(f"host.{host}"), PATIENCE, "fetched in advance")
    stopping = hosts[host]
    children = stopping.children()

    stopping.signal(signal.SIGTERM)

    fleet.wait(lambda: fleet.rows()[host].state == "draining", PATIENCE, "the table knows")
    fleet.wait(lambda: fleet.waiting(f"host.{host}") == 1, PATIENCE, "what was not begun is in its queue again")
    assert stopping.popen.wait(IN_TIME) == 0
    fleet.wait(lambda: len(held(late)) > 1, PATIENCE, "it runs again")
    with pytest.raises(WorkerLostError, match=f"host {host} was stopped"):
        lost.get(timeout=PATIENCE)
    assert held(late) == [("started", host), ("started", other)]
    assert (held(early), held(never)) == ([("started", host)], [])
    with fleet.app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge(f"host.{host}") == 1  # RabbitMQ outlives this test
    assert host not in fleet.rows()
    assert [entry["pid"] for entry in fleet.written(host, "cleanup_host")] == [stopping.pid]
    assert all(is_gone(pid) for pid in children)


def test_work_goes_on_until_it_ends_or_a_second_sigterm_hurries(fleet: Harness, tmp_path: Path) -> None:
    host = fleet.worker("one")
    late, early = tmp_path / "late", tmp_path / "early"
    short = fleet.app.send_task("journal.hold", (1.5, str(early)), queue="host.one")
    fleet.app.send_task("journal.hold_late", (600, str(late)), queue="host.one")
    fleet.app.send_task("journal.hold", (0,), queue="host.one", countdown=600)
    fleet.wait(
        lambda: held(late) and held(early) and not fleet.waiting("host.one"), PATIENCE, "they run, and one waits"
    )
    children = host.children()

    host.signal(signal.SIGTERM)
    fleet.wait(lambda: fleet.waiting("host.one") == 1, PATIENCE, "what was to run later is in its queue again")
    assert short.get(timeout=PATIENCE) == "one"
    assert host.popen.poll() is None
    assert fleet.rows()["one"].state == "draining"
    assert fleet.written("one", "cleanup_host") == []

    host.signal(signal.SIGTERM)
    assert host.popen.wait(IN_TIME) == 0
    assert fleet.waiting("host.one") == 2
    assert held(late) == [("started", "one")]
    assert fleet.rows() == {}
    assert [entry["pid"] for entry in fleet.written("one", "cleanup_host")] == [host.pid]
    assert all(is_gone(pid) for pid in children)
