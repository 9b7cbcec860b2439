"""Periodic tasks on hosts: spaced, remembered, alone, and one per fleet where they say so."""

from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import Ignore

from managers import Manager, RequestContext, current_context, expose, periodic_task
from managers.runs import HostRuns
from tests.workers.network import warnings
from workers.registry import registry_of
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class Chores(Manager[None], service_name="chores"):
    """Writes down which chores it did, and in which contexts."""

    def __init__(self, host: str | None = None, db_driver: str | None = None) -> None:
        super().__init__(host, db_driver)
        self.done: list[str] = []
        self.contexts: list[RequestContext | None] = []
        self.fault: BaseException | None = None

    @periodic_task(spacing=timedelta(minutes=3))
    def dust(self) -> None:
        self.done.append("dust")

    @periodic_task(spacing=0)
    def look(self) -> None:
        self.done.append("look")
        self.contexts.append(current_context())
        if self.fault is not None:
            raise self.fault

    @periodic_task(spacing=3600, run_immediately=True)
    def unpack(self) -> None:
        self.done.append("unpack")

    @periodic_task(spacing=60, enabled=False)
    def never(self) -> None:
        self.done.append("never")

    @periodic_task(spacing=-1)
    def neither(self) -> None:
        self.done.append("neither")

    def count(self, chore: str) -> int:
        return self.done.count(chore)


class Heavy(Manager[None], service_name="heavy"):
    """Has work for the pool."""

    def __init__(self, host: str | None = None, db_driver: str | None = None) -> None:
        super().__init__(host, db_driver)
        self.done: list[RequestContext | None] = []
        self.fault: Exception | None = None

    @expose
    @periodic_task(spacing=60, run_immediately=True, pool=True)
    def lift(self) -> str:
        self.done.append(current_context())
        if self.fault is not None:
            raise self.fault
        return self.host


class Shared(Manager[None], service_name="shared"):
    """Has work that one host does for all."""

    def __init__(self, host: str | None = None, db_driver: str | None = None) -> None:
        super().__init__(host, db_driver)
        self.done: list[float] = []

    @periodic_task(spacing=60, run_immediately=True, scope="fleet")
    def sweep(self) -> None:
        self.done.append(self.schedule.now())


def pooled(cluster: Cluster) -> list[str]:
    """Return the queue of each message with a task of the pool."""
    return [sent.queue for sent in cluster.sent if sent.task == "heavy.periodic_tasks.lift"]


def test_each_task_keeps_its_own_spacing(cluster: Cluster) -> None:
    (manager,) = cluster.start(Chores, hosts=["here"])

    for minute in range(1, 13):
        cluster.advance(60)
        assert manager.count("look") == minute

    assert manager.count("dust") == 3
    assert manager.count("unpack") == 1
    assert (manager.count("never"), manager.count("neither")) == (0, 0)


def test_what_never_ran_waits_for_one_spacing_unless_it_runs_immediately(cluster: Cluster) -> None:
    (manager,) = cluster.start(Chores, hosts=["here"])

    cluster.advance(120)
    assert (manager.count("dust"), manager.count("unpack")) == (0, 1)
    cluster.advance(120)

    assert manager.count("dust") == 1


def test_a_long_silence_is_not_made_up_for(cluster: Cluster) -> None:
    (manager,) = cluster.start(Chores, hosts=["here"])
    cluster.advance(240)
    cluster.fail("here")
    cluster.advance(3600)

    (after,) = cluster.restart("here")
    cluster.advance(60)

    assert manager.count("dust") == 1
    assert isinstance(after, Chores)
    assert after.count("dust") == 1


@pytest.mark.parametrize("end", ["fail", "stop"])
def test_last_runs_survive_a_restart(cluster: Cluster, end: str) -> None:
    cluster.start(Chores, hosts=["here"])
    cluster.advance(120)
    getattr(cluster, end)("here")

    (after,) = cluster.restart("here")
    assert isinstance(after, Chores)
    cluster.advance(60)
    assert (after.count("unpack"), after.count("dust")) == (0, 0)
    cluster.advance(60)

    assert (after.count("unpack"), after.count("dust")) == (0, 1)


def test_each_host_has_last_runs_of_its_own(cluster: Cluster) -> None:
    cluster.start(Chores, hosts=["here"])
    cluster.advance(60)

    (there,) = cluster.start(Chores, hosts=["there"])
    cluster.advance(60)

    assert there.count("unpack") == 1


@pytest.mark.parametrize("fault", [OSError("no broom"), SystemExit(3)])
def test_a_failing_task_is_noted_and_stops_neither_the_others_nor_the_report(
    cluster: Cluster, fault: BaseException
) -> None:
    broken, sound = cluster.start(Chores, hosts=["broken", "sound"])
    broken.fault = fault
    before = cluster.table.host("broken")[0].reported_seconds_ago

    cluster.advance(240)

    assert [(failure.host, failure.doing, failure.error) for failure in cluster.errors] == [
        ("broken", "chores.look", fault)
    ] * 4
    assert broken.done == sound.done
    assert (broken.count("unpack"), broken.count("dust")) == (1, 1)
    after = cluster.table.host("broken")[0]
    assert before is not None
    assert after.reported_seconds_ago is not None
    assert after.reported_seconds_ago < 60
    assert after.state == "up"


def test_the_context_of_the_tick_is_current_inside(cluster: Cluster) -> None:
    (manager,) = cluster.start(Chores, hosts=["here"])

    with RequestContext(user="tester").as_current():
        cluster.advance(120)

    first, second = manager.contexts
    assert first is not None
    assert second is not None
    assert (first.is_admin, first.user) == (True, None)
    assert first.request_id != second.request_id


# Of the pool


def test_a_task_of_the_pool_goes_through_its_own_hosts_queue(cluster: Cluster) -> None:
    here, there = cluster.start(Heavy, hosts=["here", "there"])

    cluster.advance(60)

    assert sorted(pooled(cluster)) == ["heavy.here", "heavy.there"]
    assert (len(here.done), len(there.done)) == (1, 1)
    assert here.done[0] is not None
    assert here.done[0].is_admin
    assert cluster.casts == []


def test_a_task_of_the_pool_that_waited_for_a_period_is_dropped(cluster: Cluster) -> None:
    (before,) = cluster.start(Heavy, hosts=["here"])
    (task,) = before.schedule.tasks
    cluster.fail("here")
    registry = registry_of(cluster.app)
    with registry.acting_as("here"):
        registry.send_periodic_task("heavy", task)
    cluster.advance(61)

    (after,) = cluster.restart("here")

    assert isinstance(after, Heavy)
    assert after.done == []


def test_a_task_of_the_pool_that_expired_while_it_waited_for_a_slot_is_not_run(cluster: Cluster) -> None:
    (heavy,) = cluster.start(Heavy, hosts=["here"])
    (periodic,) = heavy.schedule.tasks
    task = cluster.app.tasks[periodic.celery_name("heavy")]

    task.push_request(id="x", expires=(cluster.app.now() - timedelta(seconds=1)).isoformat())
    try:
        with registry_of(cluster.app).acting_as("here"), pytest.raises(Ignore):
            task.run()
    finally:
        task.pop_request()

    assert heavy.done == []


def test_a_task_of_the_pool_that_still_runs_is_skipped_with_a_warning(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    (manager,) = cluster.start(Heavy, hosts=["here"])
    runs, registry = HostRuns(tmp_path), registry_of(cluster.app)
    monkeypatch.setattr(registry, "alone", runs.alone)

    with registry.alone("heavy", "lift") as is_alone:
        assert is_alone
        cluster.advance(60)
    assert manager.done == []
    assert warnings(caplog) == ["lift of <Heavy heavy on here> still runs since an earlier period; this one is skipped"]

    cluster.advance(60)
    assert len(manager.done) == 1


def test_a_failing_task_of_the_pool_is_an_error_of_its_host(cluster: Cluster) -> None:
    (manager,) = cluster.start(Heavy, hosts=["here"])
    manager.fault = OSError("too heavy")

    cluster.advance(120)

    assert [(failure.host, failure.doing, str(failure.error)) for failure in cluster.errors] == [
        ("here", "heavy.periodic_tasks.lift", "too heavy")
    ] * 2
    assert len(manager.done) == 2


def test_a_task_of_the_pool_that_is_exposed_too_can_be_called(cluster: Cluster) -> None:
    cluster.start(Heavy, hosts=["here"])

    assert Heavy.lift.call() == "here"


# Of the fleet


def test_a_task_of_the_fleet_runs_on_one_host_per_period(cluster: Cluster) -> None:
    managers = cluster.start(Shared, hosts=["a", "b", "c"])

    cluster.advance(600)

    runs = sorted(moment for manager in managers for moment in manager.done)
    assert len(runs) == 10
    assert {int(moment // 60) for moment in runs} == set(range(int(runs[0] // 60), int(runs[0] // 60) + 10))


def test_a_task_of_the_fleet_moves_on_when_its_host_fails(cluster: Cluster) -> None:
    managers = {manager.host: manager for manager in cluster.start(Shared, hosts=["a", "b", "c"])}
    cluster.advance(60)
    (first,) = (host for host, manager in managers.items() if manager.done)

    cluster.fail(first)
    cluster.advance(180)

    others = [manager.done for host, manager in managers.items() if host != first]
    assert len(managers[first].done) == 1
    assert sum(map(len, others)) == 3


def test_the_fleets_last_run_outlives_all_of_its_hosts(cluster: Cluster) -> None:
    (before,) = cluster.start(Shared, hosts=["here"])
    cluster.advance(60)
    cluster.stop("here")

    (after,) = cluster.start(Shared, hosts=["there"])
    assert cluster.table.last_run("shared", "sweep") == before.done[0]
    cluster.advance(20)

    assert after.done == []


def test_the_period_is_taken_before_the_work_so_that_a_failing_host_does_not_give_it_back(cluster: Cluster) -> None:
    managers = cluster.start(Shared, hosts=["a", "b"])
    ran: list[str] = []

    for manager in managers:

        def fail(host: str = manager.host) -> None:
            ran.append(host)
            raise OSError("no broom")

        manager.sweep = fail  # type: ignore[method-assign]

    cluster.advance(60)

    assert len(ran) == 1
    assert [failure.doing for failure in cluster.errors] == ["shared.sweep"]
