"""Fanouts to six hosts while one of them is frozen and thawed, and another killed and restarted."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from managers.answers import Answers
from tests.fleet.caller import CallerManager
from tests.fleet.conftest import caller_fleet
from tests.fleet.harness import PATIENCE, Harness

pytestmark = pytest.mark.fleet

#: How many fanouts are sent; `make calls` says 1000, the suite is content with fewer.
FANOUTS = int(os.environ.get("CELERIAC_TEST_FANOUTS", "200"))
COMBINATIONS = [("threads", "redis")]
if os.environ.get("CELERIAC_TEST_CALLS") == "all":
    COMBINATIONS += [("threads", "rabbitmq"), ("prefork", "redis"), ("prefork", "rabbitmq")]

LIVE = ("one", "two", "three", "four")
HOSTS = (*LIVE, "frozen", "killed")

#: Seconds that sending takes, so that what happens to the hosts happens meanwhile.
SENDING = 2.0 + FANOUTS / 75
#: Seconds for everything, starting excepted: nothing may hang.
ALL = 120.0


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def fleet(request: pytest.FixtureRequest) -> Iterator[Harness]:
    pool, broker = request.param
    with caller_fleet(request, broker, *HOSTS) as fleet:
        fleet.pool = pool
        for host in HOSTS:
            start(fleet, host)
        fleet.wait(lambda: present(fleet) == dict.fromkeys(HOSTS, True), PATIENCE, "six hosts are live")
        fleet.wait(lambda: not gather().silent, PATIENCE, "six hosts answer")
        yield fleet


def start(fleet: Harness, host: str) -> None:
    fleet.worker(host, services="caller", pool=fleet.pool, slots=1)


def present(fleet: Harness) -> dict[str, bool] | None:
    return fleet.table.present("caller")


def gather(timeout: float = 1.0) -> Answers[str]:
    return CallerManager.whoami.set(timeout=timeout).fanout().gather()


def gather_from_the_live(fleet: Harness) -> Answers[str]:
    """Wait for the answers of the live hosts, then a moment for those of any others."""
    sent = CallerManager.whoami.fanout()
    results = sent.results
    assert results
    fleet.wait(lambda: all(results[host].ready() for host in LIVE), PATIENCE, "the live ones answer")
    return sent.gather(timeout=0.5)


def send(part: int, parts: int) -> None:
    """Send the *part*-th of so many parts of the numbers, evenly over its time."""
    numbers = range(FANOUTS * part // parts, FANOUTS * (part + 1) // parts)
    began = time.monotonic()
    for count, number in enumerate(numbers):
        time.sleep(max(0.0, began + count * SENDING / FANOUTS - time.monotonic()))
        CallerManager.note.fanout(number)


@pytest.mark.timeout(240)
def test_live_hosts_get_each_fanout_once_and_gather_names_the_silent(
    fleet: Harness, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    frozen, killed = (process for process in fleet.processes if process.name in {"frozen", "killed"})

    send(0, 4)
    frozen.signal(signal.SIGSTOP)
    killed.kill()
    both_silent = gather_from_the_live(fleet)
    send(1, 4)
    start(fleet, "killed")
    send(2, 4)
    one_silent = gather_from_the_live(fleet)
    frozen.signal(signal.SIGCONT)
    fleet.wait(lambda: "ready." in fleet.processes[-1].text, PATIENCE, "the killed one is back")
    send(3, 4)
    fleet.wait(
        lambda: all(len(fleet.called(host, "note")) >= FANOUTS for host in LIVE),
        ALL - (time.monotonic() - began),
        "the live ones have run all",
    )
    fleet.wait(lambda: not gather().silent, ALL - (time.monotonic() - began), "everybody answers again")
    last = CallerManager.note.set(timeout=PATIENCE).fanout(FANOUTS).gather()

    took = time.monotonic() - began
    notes = {host: Counter(map(int, fleet.called(host, "note"))) for host in HOSTS}
    lost = {host: sorted({*range(FANOUTS + 1)} - {*numbers}) for host, numbers in notes.items()}
    record_property("took", f"{FANOUTS} fanouts in {took:.1f} s")
    record_property("lost", lost)
    record_property("silent", [both_silent.silent, one_silent.silent])
    assert both_silent.silent == ("frozen", "killed")
    assert set(both_silent.results) == set(LIVE)
    assert "frozen" in one_silent.silent
    assert set(one_silent.silent) <= {"frozen", "killed"}, "the killed one may be starting"
    assert {host: host for host in HOSTS} == last.results
    assert (last.errors, last.silent) == ({}, ())
    for host in LIVE:
        assert notes[host] == Counter(range(FANOUTS + 1)), f"{host} ran each once"
    # RabbitMQ soon lets go of a connection that is silent, and of what waited for it: it may miss some
    assert set(notes["frozen"].values()) == set(notes["killed"].values()) == {1}, "nobody ran one twice"
    assert FANOUTS // 4 < len(notes["killed"]) < FANOUTS, "what was sent while it was down is not for it"
    assert took < ALL


def test_a_prefork_host_that_starts_amid_fanouts_on_rabbitmq_keeps_its_slot(request: pytest.FixtureRequest) -> None:
    with caller_fleet(request, "rabbitmq", "one") as fleet:
        worker = fleet.worker("one", services="caller", slots=1)

        def is_ready() -> bool:
            CallerManager.note.set(ignore_result=True).fanout(0)
            return "ready." in worker.text

        fleet.wait(is_ready, PATIENCE, "it is ready")

        assert CallerManager.whoami.on("one").set(timeout=PATIENCE).call() == "one"
