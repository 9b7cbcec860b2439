"""Ordinary tasks on a cluster: sent, routed, delivered and run as by Celery itself."""

from typing import Any

import pytest
from celery import Celery, shared_task
from celery.exceptions import TimeoutError as ResultTimeout
from celery.signals import before_task_publish
from kombu.exceptions import EncodeError

from managers.host import HostManager
from tests.workers.probes import Other, Probe
from workers.registry import registry_of
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class Places:
    """Tasks that say where they ran, sent any way Celery knows."""

    def __init__(self, cluster: Cluster) -> None:
        self.ran: list[str] = []

        @cluster.app.task(bind=True)
        def note(task: Any, *_: Any) -> str:
            host: str = task.request.hostname.removeprefix("celery@")
            self.ran.append(host)
            return host

        self.note = note


@pytest.fixture
def places(cluster: Cluster) -> Places:
    return Places(cluster)


def test_a_task_on_a_hosts_queue_runs_there_and_finds_that_hosts_manager(cluster: Cluster, places: Places) -> None:
    _, there = cluster.start(Probe, hosts=["here", "there"])

    @cluster.app.task
    def which() -> bool:
        return registry_of(cluster.app).local("probe") is there

    places.note.apply_async(queue="probe.here")
    result = which.apply_async(queue="probe.there")
    cluster.run()

    assert places.ran == ["here"]
    assert result.get() is True


def test_a_task_on_a_services_queue_runs_once_and_the_hosts_take_turns(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here", "there"])

    for _ in range(4):
        places.note.apply_async(queue="probe")
    cluster.run()

    assert places.ran == ["here", "there", "here", "there"]


def test_a_task_without_a_queue_goes_to_the_service_host(cluster: Cluster, places: Places) -> None:
    cluster.start(HostManager, hosts=["here"])

    result = places.note.delay()

    assert result.get() == "here"


def test_a_dead_hosts_tasks_wait_until_it_is_back(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here", "there"])
    cluster.fail("here")

    result = places.note.apply_async(queue="probe.here")
    with pytest.raises(ResultTimeout, match=r"messages wait: probe\.here"):
        result.get()
    cluster.restart("here")

    assert result.get() == "here"


def test_an_expired_task_is_revoked_by_the_clusters_clock(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here"])
    cluster.fail("here")
    late = places.note.apply_async(queue="probe.here", expires=20)
    timely = places.note.apply_async(queue="probe.here", expires=40)

    cluster.advance(30)
    cluster.restart("here")

    assert places.ran == ["here"]
    assert late.state == "REVOKED"
    assert timely.state == "SUCCESS"


def test_a_countdown_is_the_clusters_time(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here"])
    result = places.note.apply_async(queue="probe.here", countdown=100)

    cluster.advance(99)
    assert places.ran == []
    with pytest.raises(ResultTimeout, match="its eta reached"):
        result.get()
    cluster.advance(1)

    assert places.ran == ["here"]


def test_retries_run_after_their_countdown_and_are_counted(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    tries: list[int] = []

    @cluster.app.task(bind=True, default_retry_delay=30, max_retries=2)
    def flaky(self: Any) -> str:
        tries.append(self.request.retries)
        if self.request.retries < 2:
            raise self.retry()
        return "done"

    result = flaky.apply_async(queue="probe")
    cluster.run()
    assert tries == [0]
    cluster.advance(60)

    assert tries == [0, 1, 2]
    assert result.get() == "done"
    assert cluster.errors == []


def test_a_failing_task_gives_its_caller_the_error_and_is_noted(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])

    @cluster.app.task(name="fail")
    def fail() -> None:
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        fail.apply_async(queue="probe").get()

    assert [(failure.host, failure.doing) for failure in cluster.errors] == [("here", "fail")]


def test_a_chain_runs_from_host_to_host(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here", "there"])

    @cluster.app.task
    def add(left: int, right: int) -> int:
        return left + right

    result = (add.s(1, 2).set(queue="probe.here") | add.s(10).set(queue="probe.there")).apply_async()

    assert result.get() == 13
    assert [sent.queue for sent in cluster.sent if sent.task == add.name] == ["probe.here", "probe.there"]


def test_a_task_of_nobodys_is_an_error_of_the_host_that_got_it(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])

    cluster.app.send_task("no.such.task", queue="probe")
    cluster.run()

    (failure,) = cluster.errors
    assert "no task 'no.such.task' is registered" in str(failure.error)


def test_a_task_that_sends_itself_for_ever_is_stopped(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])

    @cluster.app.task
    def again() -> None:
        again.apply_async(queue="probe")

    with pytest.raises(RuntimeError, match="send themselves for ever"):
        again.apply_async(queue="probe")


def test_messages_are_delivered_in_the_order_they_were_sent(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here", "there"])
    ran: list[int] = []

    @cluster.app.task
    def note(number: int) -> None:
        ran.append(number)

    for number in range(6):
        note.apply_async((number,), queue=["probe", "probe.here", "probe.there"][number % 3])
    cluster.run()

    assert ran == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("argument", [{1, 2}, object()])
def test_an_argument_that_can_not_travel_raises_at_the_caller(
    cluster: Cluster, places: Places, argument: object
) -> None:
    cluster.start(Probe, hosts=["here"])
    sent = len(cluster.sent)

    with pytest.raises(EncodeError):
        places.note.apply_async((argument,), queue="probe")

    assert len(cluster.sent) == sent


def test_a_header_that_can_not_travel_raises_at_the_caller(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here"])

    with pytest.raises(TypeError):
        places.note.apply_async(queue="probe", headers={"thing": object()})


def test_arguments_arrive_as_json_makes_them_and_not_as_the_callers_objects(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    got: list[Any] = []

    @cluster.app.task
    def take(*args: Any) -> None:
        got.extend(args)

    mine = {"list": [1]}
    take.apply_async(((1, 2), {1: "one"}, mine), queue="probe")
    mine["list"].append(2)
    cluster.run()

    assert got == [[1, 2], {"1": "one"}, {"list": [1]}]
    got[2]["list"].append(3)
    assert cluster.sent[-1].args == ([1, 2], {"1": "one"}, {"list": [1]})


def test_a_result_that_can_not_travel_is_the_tasks_failure(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])

    @cluster.app.task
    def make() -> set[int]:
        return {1}

    result = make.apply_async(queue="probe")
    cluster.run()

    assert result.state == "FAILURE"


def test_pickled_messages_are_refused_as_by_a_worker(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here"])

    with pytest.raises(Exception, match="untrusted content"):
        places.note.apply_async(queue="probe", serializer="pickle")


def test_routes_decide_as_ever(cluster: Cluster, places: Places) -> None:
    cluster.app.conf.task_routes = {places.note.name: {"queue": "probe.there"}}
    cluster.start(Probe, hosts=["here", "there"])

    places.note.delay()
    cluster.run()

    assert places.ran == ["there"]


def test_signals_fire_and_may_change_a_message(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here"])

    def mark(headers: dict[str, Any], **_: Any) -> None:
        headers["marked"] = "yes"

    before_task_publish.connect(mark)
    try:
        places.note.apply_async(queue="probe")
    finally:
        before_task_publish.disconnect(mark)

    assert cluster.sent[-1].headers["marked"] == "yes"


def test_a_fanout_reaches_each_live_host_once(cluster: Cluster) -> None:
    managers = cluster.start(Probe, hosts=["a", "b", "c", "d"])
    cluster.fail("b")
    cluster.stop("c")

    cluster.app.tasks["probe.periodic_tasks"].delay()
    cluster.advance(30)

    assert [manager.calls.count("periodic_tasks") for manager in managers] == [1, 0, 0, 1]


def test_a_fanout_missed_while_down_is_not_made_up_for(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    cluster.fail("here")
    cluster.app.tasks["probe.periodic_tasks"].delay()

    (manager,) = cluster.restart("here")
    cluster.advance(29)

    assert isinstance(manager, Probe)
    assert manager.calls == ["init_host"]


def test_a_fanout_of_one_service_does_not_reach_another(cluster: Cluster) -> None:
    (probe,) = cluster.start(Probe, hosts=["here"])
    cluster.start(Other, hosts=["here", "there"])

    cluster.app.tasks["other.periodic_tasks"].delay()
    cluster.advance(29)

    assert probe.calls == ["init_host"]


def test_a_fanout_that_its_sender_did_not_declare_is_lost_as_on_redis() -> None:
    with Cluster() as fresh:
        (manager,) = fresh.start(Probe, hosts=["here"])
        fresh.app.send_task(
            "probe.periodic_tasks",
            kwargs={"number": 30_000_000, "interval": 60.0},
            exchange="probe.fanout",
            routing_key="",
            exchange_type="fanout",
        )
        fresh.advance(29)

    assert manager.calls.count("periodic_tasks") == 0


def test_a_shared_task_is_the_clusters_while_a_host_runs_it(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    ran: list[str] = []

    @shared_task(name="tests.kit.inner")
    def inner() -> None:
        ran.append("inner")

    @cluster.app.task
    def outer() -> None:
        inner.apply_async(queue="probe")

    outer.apply_async(queue="probe")
    cluster.run()

    assert ran == ["inner"]
    assert cluster.sent[-1].task == "tests.kit.inner"


def test_the_tasks_of_an_application_that_existed_before_run_on_the_hosts_by_name() -> None:
    theirs = Celery("users", set_as_current=False)

    @theirs.task(bind=True, name="tests.kit.theirs")
    def where(task: Any) -> str:
        host: str = task.request.hostname
        return host

    with Cluster() as cluster:
        cluster.start(Probe, hosts=["here"])

        assert cluster.app.tasks["tests.kit.theirs"].apply_async(queue="probe").get() == "celery@here"
    theirs.close()
