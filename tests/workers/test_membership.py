"""One host, one name: the dead are replaced at once, the silent waited for, the living respected."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from scheduler.errors import NameTaken
from scheduler.table import Table
from workers.membership import Membership, _started, is_dead, machine_id

Make = Callable[..., Membership]


@pytest.fixture
def make(table: Table) -> Make:
    """Make a membership of this process, or of another machine's."""

    def build(*services: str, machine: str = "", pid: int = 0, heartbeat: float = 10.0) -> Membership:
        made = Membership(
            table, host="a", services=services or ("volume",), heartbeat_interval=heartbeat, interval=60, version="0.1"
        )
        made.identity = replace(made.identity, machine=machine or made.identity.machine, pid=pid or made.identity.pid)
        return made

    return build


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    return process.pid


@pytest.fixture
def zombie_pid() -> Iterator[int]:
    """A process that was killed and that nobody has reaped."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    yield child
    os.waitpid(child, 0)


def never(seconds: float) -> bool:
    raise AssertionError(f"waited {seconds} s")


class Watch:
    """How a membership waits: by the test's clock, while others go on."""

    def __init__(self, clock: Any, *others: Membership) -> None:
        self.clock, self.others = clock, others
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.waits.append(seconds)
        assert len(self.waits) < 50
        self.clock.advance(seconds)
        for other in self.others:
            other.beat()
        return False


def test_a_free_name_is_taken_without_waiting(make: Make, table: Table) -> None:
    member = make("volume", "network")

    joined = member.join(never)

    assert member.boot == joined.boot > 0
    assert [host.service for host in table.hosts()] == ["network", "volume"]
    assert member.beat()[1] == "ok"


def test_an_identity_says_which_process_on_which_machine_it_is(make: Make) -> None:
    one, other = make().identity, make().identity

    assert one.instance != other.instance
    assert (one.pid, one.machine) == (os.getpid(), machine_id())
    assert not is_dead(one)


def test_the_name_of_a_dead_process_on_this_machine_is_taken_at_once(make: Make, dead_pid: int) -> None:
    make(pid=dead_pid).join(never)

    assert make().join(never).boot > 0


def test_the_name_of_a_killed_process_that_nobody_reaped_is_taken_at_once(make: Make, zombie_pid: int) -> None:
    killed = make(pid=zombie_pid)
    killed.identity = replace(killed.identity, pid_started=_started(psutil.Process(zombie_pid)))
    killed.join(never)

    assert make().join(never).boot > 0


def test_the_name_of_a_process_whose_number_another_has_now_is_taken_at_once(make: Make) -> None:
    late = make()
    late.identity = replace(late.identity, pid_started=late.identity.pid_started - 5)
    late.join(never)

    assert make().join(never).boot > 0


def test_the_names_of_several_dead_processes_are_taken_at_once(make: Make, dead_pid: int) -> None:
    for service in ("volume", "network", "zone"):
        make(service, pid=dead_pid).join(never)
    member = make("volume", "network", "zone")

    member.join(never)

    assert member.beat()[1] == "ok"


def test_a_process_of_the_same_number_on_another_machine_is_not_taken_for_dead(make: Make, dead_pid: int) -> None:
    elsewhere = make(machine="elsewhere", pid=dead_pid)

    assert not is_dead(elsewhere.identity)


def test_a_step_of_the_wall_clock_kills_nobody(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    living = make().identity
    boot = psutil.boot_time()

    # Linux moves the time of its boot when the wall clock is set
    monkeypatch.setattr("psutil.boot_time", lambda: boot + 3600)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 3600)

    assert not is_dead(living)


def test_a_process_that_may_not_be_looked_at_is_not_taken_for_dead(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    living = make().identity

    def refuse(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", refuse)

    assert not is_dead(living)


def test_a_live_holder_is_left_alone_and_named(make: Make, clock: Any) -> None:
    holder = make(machine="elsewhere")
    holder.join(never)
    watch = Watch(clock, holder)

    with pytest.raises(NameTaken) as refused:
        make().join(watch)

    assert f"another live worker is 'volume' on host 'a': pid {holder.identity.pid} on machine elsewhere" in str(
        refused.value
    )
    assert "set CELERIAC_HOST" in str(refused.value)
    assert sum(watch.waits) <= 6
    assert holder.beat()[1] == "ok"


def test_a_live_holder_on_this_machine_is_left_alone_too(make: Make, clock: Any) -> None:
    holder = make()
    holder.join(never)

    with pytest.raises(NameTaken):
        make().join(Watch(clock, holder))


def test_a_silent_holder_elsewhere_is_waited_for_until_it_is_stale(
    make: Make, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    frozen = make(machine="elsewhere")
    frozen.join(never)
    watch = Watch(clock)

    make().join(watch)

    assert 30 <= sum(watch.waits) < 31
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"volume/a is held by pid {os.getpid()} on elsewhere; watching whether it still beats"
    ]


def test_several_silent_holders_are_each_waited_for(make: Make, clock: Any) -> None:
    make("volume", machine="one", heartbeat=2).join(never)
    make("network", machine="other", heartbeat=20).join(never)
    watch = Watch(clock)

    make("volume", "network").join(watch)

    assert 60 <= sum(watch.waits) < 61


def test_a_slow_answer_of_redis_is_not_taken_for_a_heartbeat(
    make: Make, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(machine="elsewhere").join(never)
    member = make()
    delays = iter(range(1, 50))

    def slow(now: Callable[[], float] = clock.__call__) -> float:
        clock.advance(next(delays) * 0.01)
        return now()

    monkeypatch.setattr(member.table, "now", slow)

    assert member.join(Watch(clock)).boot > 0


def test_whoever_is_told_to_give_up_while_waiting_gets_no_name(make: Make, table: Table) -> None:
    holder = make(machine="elsewhere")
    holder.join(never)

    with pytest.raises(NameTaken):
        make().join(lambda _: True)

    assert table.hosts()[0].identity.instance == holder.identity.instance


def test_a_frozen_worker_that_was_replaced_is_told_so_and_leaves_its_successor_alone(
    make: Make, table: Table, clock: Any
) -> None:
    frozen, successor = make(machine="elsewhere"), make()
    frozen.join(never)
    clock.advance(31)
    successor.join(never)

    assert frozen.beat() == (clock.now, "replaced")
    frozen.drain("its worker is stopping")
    frozen.leave()

    assert successor.beat()[1] == "ok"
    assert [host.state for host in table.hosts()] == ["up"]


def test_a_worker_that_redis_forgot_joins_again_with_the_same_boot(make: Make, table: Table, clock: Any) -> None:
    member = make("volume", "network")
    member.join(never)
    boot = member.boot
    table.redis.delete(*table.redis.keys(f"{table._prefix}*"))
    clock.advance(3)

    assert member.beat() == (clock.now, "joined")

    assert [(host.identity.boot, host.state) for host in table.hosts()] == [(boot, "up")] * 2
    assert member.beat()[1] == "ok"


def test_a_worker_that_was_forgotten_and_finds_its_name_in_other_hands_is_replaced(
    make: Make, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, successor = make(), make()
    frozen.join(never)
    table.leave(frozen.identity.instance, frozen.members)
    heartbeat = table.heartbeat

    def beaten_to_it(*args: Any) -> tuple[float, str]:
        answer = heartbeat(*args)
        successor.join(never)
        return answer

    monkeypatch.setattr(table, "heartbeat", beaten_to_it)

    assert frozen.beat()[1] == "replaced"


def test_leaving_frees_the_names_at_once(make: Make, table: Table) -> None:
    first, second = make(), make()
    first.join(never)

    first.leave()

    assert table.hosts() == []
    second.join(never)
    assert second.beat()[1] == "ok"
