"""Placed work under every pool, and while hosts, schedulers, messages and Redis are lost: none is lost or run twice."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery import chain, chord, group
from celery.exceptions import WorkerLostError

from scheduler.claims import Claims
from scheduler.errors import HostLost
from tests.fleet import work
from tests.fleet.harness import PATIENCE, Harness
from tests.fleet.placement import POOLS, alone, assert_once, hosts_of, placing_fleet, ran, start, wait_until_over

pytestmark = pytest.mark.fleet

BROKERS = os.environ.get("CELERIAC_TEST_PLACEMENT_BROKERS", "rabbitmq").split()

#: Seconds that Redis is away.
OUTAGE = float(os.environ.get("CELERIAC_TEST_PLACEMENT_OUTAGE", "0"))
#: Seconds after which a host that was killed is forgotten, and with it what it held: 6 heartbeats and a tick of 1 s.
LEASE = 7


@pytest.fixture(scope="module", params=BROKERS)
def fleet(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """One host of each pool, which has its pool's name."""
    with placing_fleet(request, request.param, POOLS) as fleet:
        yield fleet


@pytest.fixture
def word(request: pytest.FixtureRequest) -> str:
    """A word that no other test uses."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


@pytest.fixture(autouse=True)
def _every_claim_ends(fleet: Harness) -> Iterator[None]:
    yield
    wait_until_over(fleet)


def go(fleet: Harness, word: str) -> None:
    """End what waits to be told."""
    (fleet.journal / f"{word}.go").touch()


@pytest.mark.parametrize("pool", POOLS)
def test_retries_canvases_and_errors_keep_their_meaning(fleet: Harness, word: str, pool: str) -> None:
    here: dict[str, Any] = {"only": pool}
    retried = work.do.apply_async((f"{word}-retried",), {"ends": "by retries"}, **here)
    failed = work.do.apply_async((f"{word}-failed",), {"ends": "badly"}, **here)
    chained = chain(work.do.si("").set(**here), work.do.s(0.01).set(**here))()
    grouped = group(work.do.si("", 0.01).set(**here) for _ in range(3))()
    chorded = chord([work.do.si("", 0.01).set(**here) for _ in range(3)], work.gather.s().set(**here))()
    work.do_ignored.apply_async((f"{word}-ignored",), **here)

    assert retried.get(timeout=PATIENCE) == pool
    assert hosts_of(fleet, f"{word}-retried") == [pool] * 3
    with pytest.raises(KeyError, match=word):
        failed.get(timeout=PATIENCE)
    assert chained.get(timeout=PATIENCE) == pool
    assert grouped.get(timeout=PATIENCE) == [pool] * 3
    assert chorded.get(timeout=PATIENCE) == [pool] * 3
    fleet.wait(lambda: hosts_of(fleet, f"{word}-ignored") == [pool], PATIENCE, "what nobody asks after runs")


@pytest.mark.parametrize("pool", POOLS)
def test_what_fails_after_the_task_ends_the_claim_too(fleet: Harness, word: str, pool: str) -> None:
    work.do_refused.apply_async((word,), only=pool)

    fleet.wait(lambda: hosts_of(fleet, word) == [pool], PATIENCE, "it runs")
    wait_until_over(fleet)


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_the_hard_time_limit_ends_the_claim(fleet: Harness, word: str, pool: str) -> None:
    with pytest.raises(TimeLimitExceeded):
        work.do_hurried.apply_async((word, 30), only=pool).get(timeout=PATIENCE)


def test_the_soft_time_limit_ends_the_claim(fleet: Harness, word: str) -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        work.do_softly.apply_async((word, 30), only="prefork").get(timeout=PATIENCE)


def test_a_killed_child_loses_what_must_not_run_twice_and_what_may_runs_again(fleet: Harness, word: str) -> None:
    early = work.do.apply_async((f"{word}-early",), {"ends": "by death"}, only="prefork")
    with alone(fleet, "prefork"):  # in any other pool it would kill the host
        late = work.do_late.apply_async((f"{word}-late",), {"ends": "by one death"})
        fleet.wait(lambda: hosts_of(fleet, f"{word}-late"), PATIENCE, "it runs")

    with pytest.raises(WorkerLostError):
        early.get(timeout=PATIENCE)
    late.get(timeout=PATIENCE)
    assert hosts_of(fleet, f"{word}-early") == ["prefork"]
    assert len(hosts_of(fleet, f"{word}-late")) == 2


@pytest.mark.timeout(120)
def test_what_a_killed_host_held_runs_elsewhere_or_is_lost_and_its_late_messages_are_fenced(
    fleet: Harness, word: str
) -> None:
    queued, early, late = f"{word}-queued", f"{word}-early", f"{word}-late"
    with alone(fleet, "prefork"):
        lost = [work.do.apply_async((early,), {"ends": "when told"}) for _ in range(2)]
        again = [work.do_late.apply_async((late,), {"ends": "when told"}) for _ in range(2)]
        fleet.wait(lambda: len(ran(fleet, early, late)) == 4, PATIENCE, "4 run")
        waiting = [work.do.apply_async((queued,), claims={"slots": 0}) for _ in range(20)]
        fleet.wait(lambda: len(Claims(fleet.table).of("prefork")) == 24, PATIENCE, "20 are queued")
    assert ran(fleet, queued) == []
    fenced = fleet.table.counters().get("claims_fenced", 0)

    fleet.process("prefork").kill()

    killed = fleet.table.now()
    fleet.wait(lambda: len(hosts_of(fleet, queued)) == 20, PATIENCE, "what was queued runs")
    took = fleet.table.now() - killed
    assert took < 2 * LEASE, "and starting on a slow machine takes its time"
    for result in lost:
        with pytest.raises(HostLost, match="prefork was not heard of"):
            result.get(timeout=PATIENCE)
    fleet.wait(lambda: len(hosts_of(fleet, late)) == 4, PATIENCE, "what may run twice runs again")
    go(fleet, late)
    assert "prefork" not in {result.get(timeout=PATIENCE) for result in [*waiting, *again]}

    start(fleet, "prefork", POOLS["prefork"])
    fleet.up("prefork")
    fleet.wait(
        lambda: fleet.table.counters().get("claims_fenced", 0) >= fenced + 20, PATIENCE, "its messages are refused"
    )
    fleet.wait(lambda: not fleet.waiting("host.prefork"), PATIENCE, "all of them")
    assert work.do.apply_async((word,), only="prefork").get(timeout=PATIENCE) == "prefork"
    assert_once(ran(fleet, queued), [result.id for result in waiting])
    assert hosts_of(fleet, early) == ["prefork"] * 2
    assert len(hosts_of(fleet, late)) == 4
    assert "is not run here: its claim is gone" in fleet.process("prefork").text


@pytest.mark.timeout(120)
def test_what_a_stopping_host_had_queued_runs_elsewhere_at_once_while_what_runs_ends_there(
    fleet: Harness, word: str
) -> None:
    queued, running = f"{word}-queued", f"{word}-running"
    stopping = fleet.process("threads")
    with alone(fleet, "threads"):
        held = [work.do.apply_async((running,), {"ends": "when told"}) for _ in range(4)]
        fleet.wait(lambda: len(ran(fleet, running)) == 4, PATIENCE, "4 run")
        waiting = [work.do.apply_async((queued,), claims={"slots": 0}) for _ in range(8)]
        fleet.wait(lambda: len(Claims(fleet.table).of("threads")) == 12, PATIENCE, "8 are queued")

    stopping.signal(signal.SIGTERM)

    assert "threads" not in {result.get(timeout=PATIENCE) for result in waiting}
    assert stopping.popen.poll() is None
    assert [claim.state for claim in Claims(fleet.table).of("threads")] == ["running"] * 4
    go(fleet, running)
    assert {result.get(timeout=PATIENCE) for result in held} == {"threads"}
    assert stopping.popen.wait(PATIENCE) == 0
    assert_once(ran(fleet, queued), [result.id for result in waiting])
    assert_once(ran(fleet, running), [result.id for result in held])
    start(fleet, "threads", POOLS["threads"])
    fleet.up("threads")


def purged(fleet: Harness, queue: str) -> int:
    """Lose what lies in *queue*; return how many messages it was."""
    with fleet.app.connection_for_write() as connection:
        count: int = connection.default_channel.queue_purge(queue)
        return count


@pytest.mark.timeout(120)
def test_a_message_lost_on_its_way_to_the_scheduler_or_to_the_host_costs_only_time(fleet: Harness, word: str) -> None:
    fleet.app.control.cancel_consumer("host.prefork", destination=["host@prefork"], reply=True)
    with alone(fleet, "prefork"):
        to_host = work.do.apply_async((f"{word}-to-host",), start_deadline=3)
        fleet.wait(lambda: fleet.waiting("host.prefork") == 1, PATIENCE, "it is on its way")
    assert purged(fleet, "host.prefork") == 1
    fleet.process("scheduler-1").terminate()
    to_scheduler = work.do.apply_async((f"{word}-to-scheduler",))
    assert purged(fleet, "scheduler") >= 1

    fleet.scheduler()

    for lost in (to_host, to_scheduler):
        lost.get(timeout=PATIENCE)
    for name in ("to-host", "to-scheduler"):
        assert len(hosts_of(fleet, f"{word}-{name}")) == 1
    assert fleet.table.counters()["claims_missed"] == 1
    fleet.app.control.add_consumer("host.prefork", destination=["host@prefork"], reply=True)
    fleet.up(*POOLS)


@pytest.mark.timeout(240)
def test_a_killed_scheduler_and_a_restarted_redis_lose_nothing_and_repeat_nothing(fleet: Harness, word: str) -> None:
    running, parked, short = f"{word}-running", f"{word}-parked", f"{word}-short"
    held = [work.do.apply_async((running,), {"ends": "when told"}, only="threads") for _ in range(4)]
    fleet.wait(lambda: len(ran(fleet, running)) == 4, PATIENCE, "4 run")
    waiting = [work.do.apply_async((parked,), only="threads") for _ in range(6)]
    quick = [work.do.apply_async((short, 0.05), start_deadline=3) for _ in range(40)]
    fleet.wait(lambda: ran(fleet, short), PATIENCE, "some are placed, some are not")

    fleet.process("scheduler-1").kill()

    late = [work.do.apply_async((short, 0.05), start_deadline=3) for _ in range(5)]
    assert fleet.server is not None
    fleet.server.stop()
    time.sleep(OUTAGE)
    fleet.server.start()
    fleet.scheduler()
    go(fleet, running)
    fleet.wait(lambda: all(result.state == "SUCCESS" for result in [*held, *waiting, *late]), PATIENCE, "they end")
    wait_until_over(fleet)
    # what ended while Redis was away may have lost its result, as any task of Celery's, but it ran
    assert_once(ran(fleet, running, parked, short), [result.id for result in [*held, *waiting, *quick, *late]])
