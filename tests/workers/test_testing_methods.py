"""Exposed methods on a cluster: what is sent is delivered, and can be looked at."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import chord

from managers import DeadlinePassed, Manager, RequestContext, current_context, expose
from tests.workers.network import NetworkManager, Ports
from workers import UnknownService
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class FakeDriver(Ports):
    """A driver of the test's own."""


class Nosy(Manager[None], service_name="nosy"):
    """Writes down in which contexts it is asked for anything."""

    def __init__(self, host: str | None = None, db_driver: str | None = None) -> None:
        super().__init__(host, db_driver)
        self.contexts: list[RequestContext | None] = []

    def init_host(self) -> None:
        self.contexts.append(current_context())

    def cleanup_host(self) -> None:
        self.contexts.append(current_context())

    @expose
    def call_network(self) -> Any:
        return NetworkManager.whoami.set(may_wait=True).call()


def test_attach_goes_to_the_named_host(cluster: Cluster) -> None:
    here, there = cluster.start(NetworkManager, hosts=["here", "there"], driver=FakeDriver)
    NetworkManager.attach.on("there").cast(port=7)
    assert there.driver.ports == {7}
    cluster.advance(60)

    assert here.driver.ports == set()
    assert isinstance(there.driver, FakeDriver)
    assert cluster.errors == []


def test_casts_are_the_messages_of_exposed_methods_each_with_its_host_and_arguments(cluster: Cluster) -> None:
    cluster.start(NetworkManager, hosts=["here", "there"])

    NetworkManager.attach.on("there").cast(port=7)
    NetworkManager.attach.call(8)
    NetworkManager.note.fanout("all")
    NetworkManager.attach.on("here").s(9).apply_async()
    cluster.app.send_task("network.attach", (10,), queue="network.here")
    cluster.advance(120)

    assert [(sent.task, sent.host, sent.args, sent.kwargs) for sent in cluster.casts] == [
        ("network.attach", "there", (), {"port": 7}),
        ("network.attach", None, (8,), {}),
        ("network.note", None, ("all",), {}),
        ("network.attach", "here", (9,), {}),
        ("network.attach", "here", (10,), {}),
    ]
    assert [(sent.queue, sent.exchange) for sent in cluster.casts][:3] == [
        ("network.there", ""), ("network", ""), ("", "network.fanout"),
    ]  # fmt: skip


def test_a_host_whose_name_has_dots_is_named_whole(cluster: Cluster) -> None:
    cluster.start(NetworkManager, hosts=["rack1.example.org"])

    NetworkManager.attach.on("rack1.example.org").cast(7)

    assert [sent.host for sent in cluster.casts] == ["rack1.example.org"]


def test_a_queue_of_the_tests_own_is_no_host(cluster: Cluster) -> None:
    (manager,) = cluster.start(NetworkManager, hosts=["here"])

    NetworkManager.attach.apply_async((7,), queue="mine.slow")

    assert [(sent.queue, sent.host) for sent in cluster.casts] == [("mine.slow", None)]
    assert manager.driver.ports == set()


def test_what_is_sent_while_held_waits_until_the_outermost_block_ends(cluster: Cluster) -> None:
    (manager,) = cluster.start(NetworkManager, hosts=["here"])

    with cluster.hold():
        with cluster.hold():
            NetworkManager.attach.cast(1)
        NetworkManager.attach.cast(2)
        assert manager.driver.ports == set()

    assert manager.driver.ports == {1, 2}


def test_a_cast_held_while_its_host_dies_waits_for_the_host(cluster: Cluster) -> None:
    cluster.start(NetworkManager, hosts=["here"])
    with cluster.hold():
        NetworkManager.attach.on("here").cast(7)
        cluster.fail("here")

    (manager,) = cluster.restart("here")

    assert isinstance(manager, NetworkManager)
    assert manager.driver.ports == {7}


def test_a_fresh_cluster_knows_already_whom_it_does_not_know(cluster: Cluster) -> None:
    assert cluster.table.readiness().ready
    cluster.start(NetworkManager, hosts=["here"])

    assert cluster.table.readiness().ready


def test_several_managers_share_a_host_and_its_queues_stay_apart(cluster: Cluster) -> None:
    (network,) = cluster.start(NetworkManager, hosts=["here"])
    cluster.start(Nosy, hosts=["here"])

    NetworkManager.attach.on("here").cast(7)

    assert Nosy.call_network.on("here").call() is not None
    assert network.driver.ports == {7}
    assert len(network.calls) == 1


def test_a_host_that_does_not_run_the_service_refuses_its_methods(cluster: Cluster) -> None:
    cluster.start(NetworkManager, hosts=["here"])
    cluster.start(Nosy, hosts=["there"])

    result = NetworkManager.attach.apply_async((7,), queue="nosy.there")

    assert isinstance(result.result, UnknownService)
    assert str(result.result) == "host 'there' runs nosy, not 'network'"


def test_a_chord_needs_nobody_to_look_for_its_parts(cluster: Cluster) -> None:
    cluster.start(NetworkManager, hosts=["here"])

    result = chord([NetworkManager.note.s(1), NetworkManager.note.s(2)])(NetworkManager.note.s())

    assert result.get() == ["here", [["here", 1], ["here", 2]]]
    assert [sent.task for sent in cluster.sent if sent.task.startswith("celery.")] == []


def test_a_host_never_works_in_the_context_that_is_the_tests(cluster: Cluster) -> None:
    contexts: list[RequestContext | None] = []

    @cluster.app.task
    def plain() -> None:
        contexts.append(current_context())

    with cluster.hold():
        plain.apply_async(queue="nosy")
        with RequestContext(user="tester").as_current():
            (nosy,) = cluster.start(Nosy, hosts=["here"])
            cluster.run()
            cluster.stop("here")

    assert contexts == [None]
    assert nosy.contexts == [None, None]


def test_a_deadline_of_the_tests_does_not_stop_beat(cluster: Cluster) -> None:
    cluster.start(NetworkManager, hosts=["here"])

    with RequestContext(deadline=cluster.app.now().timestamp() + 10).as_current():
        cluster.advance(180)

    assert len([sent for sent in cluster.sent if sent.task == "network.periodic_tasks"]) == 3
    assert cluster.errors == []
    assert cluster.table.host("here")[0].state == "up"


def test_who_waits_while_messages_are_held_is_told(cluster: Cluster) -> None:
    (manager,) = cluster.start(NetworkManager, hosts=["here"])

    with cluster.hold():
        NetworkManager.attach.cast(1)
        result = NetworkManager.attach.delay(2)
        for wait in (NetworkManager.attach.on("here").call, lambda port: NetworkManager.attach.fanout(port).gather()):
            with pytest.raises(AssertionError, match=r"nobody answers while cluster\.hold\(\)"):
                wait(3)
        with pytest.raises(AssertionError, match="wait for answers after it"):
            result.get()
        assert manager.driver.ports == set()

    assert result.get() == "here"


def test_hosts_work_within_a_hold_when_the_test_says_so(cluster: Cluster) -> None:
    (manager,) = cluster.start(NetworkManager, hosts=["here"])

    with cluster.hold():
        NetworkManager.attach.cast(1)
        cluster.run()
        assert manager.driver.ports == {1}


@pytest.mark.parametrize("year", [2026, 2031])
def test_deadlines_count_from_the_wall_clocks_now(monkeypatch: pytest.MonkeyPatch, year: int) -> None:
    now = datetime(year, 3, 1, 12, 0, 59, tzinfo=UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: now)

    with Cluster() as cluster:
        (manager,) = cluster.start(NetworkManager, hosts=["here"])
        with RequestContext(deadline=now + 30).as_current():
            NetworkManager.attach.on("here").call(7)
            cluster.advance(29)
            NetworkManager.attach.on("here").call(8)
            cluster.advance(1)
            with pytest.raises(DeadlinePassed):
                NetworkManager.attach.on("here").cast(9)

    assert manager.driver.ports == {7, 8}


def test_periods_are_as_far_along_whenever_a_test_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    times = []
    for now in (1_800_000_000.0, 1_900_000_059.9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        with Cluster() as cluster:
            times.append(cluster.table.now())

    assert times[0] == times[1]
