import gc
import json
import socket
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, _state, shared_task
from celery.exceptions import TimeoutError as ResultTimeout
from celery.signals import before_task_publish, worker_process_init
from kombu.exceptions import EncodeError

from managers import Manager, RequestContext, SchedulerDependentManager
from managers.db import engine
from managers.errors import InvalidName
from managers.host import HostManager
from workers import UnknownService
from workers.registry import registry_of
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class Probe(SchedulerDependentManager[Any], service_name="probe"):
    """Writes down what is asked of it, and reports what a test puts into ``facts``."""

    def __init__(self, host: str | None = None, db_driver: str | None = None, *, driver: Any = None) -> None:
        super().__init__(host, db_driver, driver=driver)
        self.calls: list[str] = []
        self.contexts: list[RequestContext | None] = []
        self.facts: Any = {"size": 1}
        self.fault: Exception | None = None

    def init_host(self) -> None:
        self.calls.append("init_host")

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        self.calls.append("periodic_tasks")
        self.contexts.append(context)
        if self.fault is not None:
            raise self.fault
        if self.facts != self.last_capabilities:
            self.update_service_capabilities(self.facts)
        super().periodic_tasks(context)

    def cleanup_host(self) -> None:
        self.calls.append("cleanup_host")


class Other(SchedulerDependentManager[None], service_name="other"):
    def init_host(self) -> None:
        self.update_service_capabilities({"colour": "red"})


class Driver:
    """Nothing but an instance of its own."""


def capabilities(cluster: Cluster, host: str) -> dict[str, Any]:
    return {row.service: dict(row.capabilities) for row in cluster.table.host(host)}


def reports(cluster: Cluster, host: str) -> list[dict[str, Any]]:
    sent = [message.args[0] for message in cluster.sent if message.task == "scheduler.update_service_capabilities"]
    return [report for report in sent if report["host"] == host]


def states(cluster: Cluster) -> dict[str, str]:
    return {row.host: row.state for row in cluster.hosts("probe")}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody opens a connection")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)


def test_a_cluster_needs_no_server(no_network: None, cluster: Cluster) -> None:
    @cluster.app.task
    def double(value: int) -> int:
        return 2 * value

    cluster.start(Probe, hosts=["here", "there"])
    cluster.advance(120)

    assert double.apply_async((4,), queue="probe", countdown=5).id
    cluster.advance(5)
    assert double.apply_async((4,), queue="probe").get() == 8
    assert states(cluster) == {"here": "up", "there": "up"}
    assert cluster.errors == []


def test_every_host_of_every_service_ticks_once_per_period_by_its_real_number(cluster: Cluster) -> None:
    managers = cluster.start(Probe, hosts=["a", "b", "c"])

    for _ in range(5):
        cluster.advance(60)

    assert [manager.calls for manager in managers] == [["init_host", *5 * ["periodic_tasks"]]] * 3
    ticks = [sent for sent in cluster.sent if sent.task == "probe.periodic_tasks"]
    assert [sent.exchange for sent in ticks] == ["probe.fanout"] * 5
    numbers = [sent.kwargs["number"] for sent in ticks]
    assert numbers == [numbers[0] + step for step in range(5)]
    assert numbers[-1] == int(cluster.table.now() // 60)


def test_time_passes_in_any_portions(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])

    for _ in range(240):
        cluster.advance(0.5)

    assert manager.calls.count("periodic_tasks") == 2


def test_ticks_come_as_often_as_the_cluster_was_made_to() -> None:
    with Cluster(periodic_interval=0.1, heartbeat_interval=1) as cluster:
        (manager,) = cluster.start(Probe, hosts=["here"])

        cluster.advance(1)

        assert manager.calls.count("periodic_tasks") == 10


def test_a_tick_sent_twice_runs_once(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    cluster.advance(60)

    cluster.app.tasks["probe.periodic_tasks"].delay()
    cluster.run()

    assert manager.calls.count("periodic_tasks") == 1


def test_a_tick_carries_an_admin_context(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    cluster.advance(60)

    (context,) = manager.contexts

    assert context is not None
    assert context.is_admin


def test_hosts_have_a_name_and_a_driver_of_their_own(cluster: Cluster) -> None:
    here, there = cluster.start(Probe, hosts=["here", "there"], driver=Driver)

    assert (here.host, there.host) == ("here", "there")
    assert isinstance(here.driver, Driver)
    assert here.driver is not there.driver


def test_what_init_host_learns_is_in_the_table_when_start_returns(cluster: Cluster) -> None:
    cluster.start(Other, hosts=["here"])

    assert capabilities(cluster, "here") == {"other": {"colour": "red"}}
    assert cluster.hosts("other")[0].state == "up"


def test_a_host_reports_all_its_services_in_one_message(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    cluster.start(Other, hosts=["here"])
    before = len(reports(cluster, "here"))

    cluster.advance(60)

    (report,) = reports(cluster, "here")[before:]
    assert report["services"] == {"probe": {"size": 1}, "other": {"colour": "red"}}
    assert capabilities(cluster, "here") == report["services"]


def test_a_second_manager_on_a_host_leaves_the_first_alone(cluster: Cluster) -> None:
    (first,) = cluster.start(Probe, hosts=["here"])
    cluster.start(Other, hosts=["here"])

    assert first.calls == ["init_host"]
    assert len({row.identity.boot for row in cluster.table.host("here")}) == 1


def test_a_report_is_sent_again_every_period_until_another_replaces_it(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    cluster.advance(180)
    manager.facts = {"weight": 2}
    cluster.advance(120)

    told = [report["services"]["probe"] for report in reports(cluster, "here")]

    assert told == [None, *3 * [{"size": 1}], *2 * [{"weight": 2}]]
    assert [report["sequence"] for report in reports(cluster, "here")] == [1, 2, 3, 4, 5, 6]
    assert capabilities(cluster, "here") == {"probe": {"weight": 2}}


def test_an_empty_report_retracts_what_was_said_before(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    cluster.advance(60)
    manager.facts = {}

    cluster.advance(60)

    assert reports(cluster, "here")[-1]["services"] == {"probe": {}}
    assert capabilities(cluster, "here") == {"probe": {}}


def test_none_says_that_the_host_is_alive_and_nothing_else(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    manager.facts = None

    cluster.advance(300)

    assert {report["services"]["probe"] for report in reports(cluster, "here")} == {None}
    assert capabilities(cluster, "here") == {"probe": {}}
    assert states(cluster) == {"here": "up"}


def test_a_raising_manager_stops_neither_the_others_nor_the_report(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = cluster.start(Probe, hosts=["broken", "sound"])
    cluster.start(Other, hosts=["broken"])
    cluster.advance(60)
    broken.fault = OSError("no disk")

    cluster.advance(120)

    assert broken.calls.count("periodic_tasks") == sound.calls.count("periodic_tasks") == 3
    assert [(failure.host, failure.doing, str(failure.error)) for failure in cluster.errors] == [
        ("broken", "probe.periodic_tasks", "no disk")
    ] * 2
    assert "no disk" in caplog.text
    assert reports(cluster, "broken")[-1]["services"] == {"probe": {"size": 1}, "other": {"colour": "red"}}


def test_a_capability_that_no_table_would_take_is_an_error_of_its_manager(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    manager.facts = {"size": {1, 2}}

    cluster.advance(60)

    (failure,) = cluster.errors
    assert "probe.size" in str(failure.error)


def test_a_refused_report_reaches_the_scheduler_and_not_the_table(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.start(Other, hosts=["here"])

    cluster.app.send_task(
        "scheduler.update_service_capabilities", ({"host": "here", "boot": "soon"},), queue="scheduler"
    )
    cluster.run()

    assert "report from 'here' refused" in caplog.text
    assert cluster.table.counters()["reports_refused"] == 1
    assert capabilities(cluster, "here") == {"other": {"colour": "red"}}


def test_a_killed_host_is_stale_after_three_heartbeats_and_pruned_later(cluster: Cluster) -> None:
    doomed, _ = cluster.start(Probe, hosts=["doomed", "other"])
    cluster.advance(60)

    cluster.kill("doomed")
    assert states(cluster) == {"doomed": "up", "other": "up"}
    cluster.advance(30)
    assert states(cluster) == {"doomed": "stale", "other": "up"}
    cluster.advance(90)

    assert states(cluster) == {"other": "up"}
    assert cluster.table.counters()["hosts_pruned"] == 1
    assert "cleanup_host" not in doomed.calls


def test_a_killed_host_does_nothing_more(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    sent = len(reports(cluster, "here"))
    cluster.advance(30.1)  # the tick has been sent, and the host waits for its offset

    cluster.kill("here")
    cluster.advance(300)

    assert manager.calls == ["init_host"]
    assert len(reports(cluster, "here")) == sent


def test_a_stopped_host_is_gone_at_once_and_cleaned_up_once() -> None:
    with Cluster() as cluster:
        here, there = cluster.start(Probe, hosts=["here", "there"])

        cluster.stop("here")

        assert states(cluster) == {"there": "up"}
        assert here.calls == ["init_host", "cleanup_host"]
    assert here.calls == ["init_host", "cleanup_host"]
    assert there.calls == ["init_host", "cleanup_host"]


def test_a_failing_cleanup_is_noted_and_the_others_are_cleaned_up() -> None:
    class Stubborn(Manager[None], service_name="stubborn"):
        def cleanup_host(self) -> None:
            raise OSError("busy")

    with Cluster() as cluster:
        (probe,) = cluster.start(Probe, hosts=["here"])
        cluster.start(Stubborn, hosts=["here"])

    assert [(failure.doing, str(failure.error)) for failure in cluster.errors] == [("stubborn.cleanup_host", "busy")]
    assert probe.calls[-1] == "cleanup_host"


def test_the_manager_that_started_last_is_cleaned_up_first(cluster: Cluster) -> None:
    ended: list[str] = []

    class First(Manager[None], service_name="first"):
        def cleanup_host(self) -> None:
            ended.append("first")

    class Second(Manager[None], service_name="second"):
        def cleanup_host(self) -> None:
            ended.append("second")

    for manager in (First, Second):
        cluster.start(manager, hosts=["here"])

    cluster.stop("here")

    assert ended == ["second", "first"]


@pytest.mark.parametrize("end", ["kill", "stop", "nothing"])
def test_a_restarted_host_is_up_at_once_with_a_new_boot_and_new_managers(cluster: Cluster, end: str) -> None:
    (before,) = cluster.start(Probe, hosts=["here"], driver=Driver)
    cluster.start(Other, hosts=["here"])
    cluster.advance(60)
    boot = cluster.table.host("here")[0].identity.boot
    if end != "nothing":
        getattr(cluster, end)("here")

    after, other = cluster.restart("here")

    assert {row.state for row in cluster.table.host("here")} == {"up"}
    assert {row.identity.boot for row in cluster.table.host("here")} != {boot}
    assert cluster.table.host("here")[0].identity.boot > boot
    assert isinstance(after, Probe)
    assert isinstance(other, Other)
    assert after is not before
    assert after.driver is not before.driver
    assert before.calls.count("cleanup_host") == (0 if end == "kill" else 1)
    cluster.advance(60)
    assert before.calls.count("periodic_tasks") == after.calls.count("periodic_tasks") == 1
    assert capabilities(cluster, "here") == {"probe": {"size": 1}, "other": {"colour": "red"}}


def test_a_late_report_of_an_earlier_life_changes_nothing(cluster: Cluster) -> None:
    cluster.start(Other, hosts=["here"])
    old = {**reports(cluster, "here")[0], "sequence": 99, "services": {"other": {"colour": "blue"}}}
    cluster.kill("here")
    cluster.restart("here")

    cluster.app.send_task("scheduler.update_service_capabilities", (old,), queue="scheduler")
    cluster.run()

    assert capabilities(cluster, "here") == {"other": {"colour": "red"}}


def test_an_emptied_table_is_whole_again_after_a_heartbeat(cluster: Cluster) -> None:
    cluster.start(Other, hosts=["here", "there"])

    cluster.table.redis.flushall()
    assert cluster.hosts() == []
    cluster.advance(10)

    assert capabilities(cluster, "here") == capabilities(cluster, "there") == {"other": {"colour": "red"}}
    assert "others have until 10 s" in cluster.table.readiness().reason
    cluster.advance(10)
    assert cluster.table.readiness().ready


def test_without_a_scheduler_reports_wait_and_are_taken_in_when_it_is_back(cluster: Cluster) -> None:
    cluster.kill("scheduler")
    cluster.start(Other, hosts=["here"])
    assert capabilities(cluster, "here") == {"other": {}}

    cluster.restart("scheduler")

    assert capabilities(cluster, "here") == {"other": {"colour": "red"}}


def test_a_failing_init_host_reaches_the_test_and_leaves_no_host_behind(cluster: Cluster) -> None:
    class Unable(Manager[None], service_name="unable"):
        def init_host(self) -> None:
            raise OSError("no such device")

    with pytest.raises(OSError, match="no such device"):
        cluster.start(Unable, hosts=["here"])

    assert cluster.hosts("unable") == []
    (probe,) = cluster.start(Probe, hosts=["here"])
    assert probe.host == "here"


def test_one_host_runs_a_service_once(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])

    with pytest.raises(ValueError, match="'here' runs 'probe' already"):
        cluster.start(Probe, hosts=["here"])


def test_two_managers_of_one_service_are_refused(cluster: Cluster) -> None:
    class Impostor(Manager[None], service_name="probe"):
        pass

    cluster.start(Probe, hosts=["here"])

    with pytest.raises(UnknownService, match="both claim the service 'probe'"):
        cluster.start(Impostor, hosts=["there"])


@pytest.mark.parametrize("act", ["stop", "kill", "restart"])
def test_an_unknown_host_is_named_with_the_known_ones(cluster: Cluster, act: str) -> None:
    cluster.start(Probe, hosts=["here"])

    with pytest.raises(ValueError, match="no host 'where' was started; there are scheduler, here"):
        getattr(cluster, act)("where")


def test_a_dead_host_can_not_die_again(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    cluster.kill("here")

    with pytest.raises(ValueError, match="'here' is down"):
        cluster.stop("here")


def test_one_name_is_not_taken_for_a_list_of_letters(cluster: Cluster) -> None:
    with pytest.raises(TypeError, match=r"hosts=\['here'\]"):
        cluster.start(Probe, hosts="here")


def test_a_host_whose_name_no_queue_could_have_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InvalidName):
        cluster.start(Probe, hosts=["not a name"])


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
    cluster.kill("here")

    result = places.note.apply_async(queue="probe.here")
    with pytest.raises(ResultTimeout, match=r"messages wait: probe\.here"):
        result.get()
    cluster.restart("here")

    assert result.get() == "here"


def test_an_expired_task_is_revoked_by_the_clusters_clock(cluster: Cluster, places: Places) -> None:
    cluster.start(Probe, hosts=["here"])
    cluster.kill("here")
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

    again.apply_async(queue="probe")

    with pytest.raises(RuntimeError, match="send themselves for ever"):
        cluster.run()


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
    cluster.kill("b")
    cluster.stop("c")

    cluster.app.tasks["probe.periodic_tasks"].delay()
    cluster.advance(30)

    assert [manager.calls.count("periodic_tasks") for manager in managers] == [1, 0, 0, 1]


def test_a_fanout_missed_while_down_is_not_made_up_for(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    cluster.kill("here")
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


def test_two_clusters_do_not_mix(cluster: Cluster) -> None:
    with Cluster() as other:
        (mine,) = cluster.start(Probe, hosts=["here"])
        (theirs,) = other.start(Probe, hosts=["here"])
        other.start(Other, hosts=["there"])
        theirs.facts = {"size": 2}

        other.advance(120)

        assert mine.calls == ["init_host"]
        assert theirs.calls.count("periodic_tasks") == 2
        assert capabilities(cluster, "here") == {"probe": {}}
        assert capabilities(other, "here") == {"probe": {"size": 2}}
        assert cluster.hosts("other") == []
        assert "other.periodic_tasks" not in cluster.app.tasks
        assert cluster.table.now() < other.table.now()


def test_the_errors_of_two_clusters_do_not_mix(cluster: Cluster) -> None:
    with Cluster() as other:
        other.start(Probe, hosts=["here"])

        @other.app.task
        def fail() -> None:
            raise ValueError

        assert fail.name not in cluster.app.tasks
        fail.apply_async(queue="probe")
        other.run()

        assert len(other.errors) == 1
        assert cluster.errors == []


@pytest.fixture
def users_app() -> Iterator[Celery]:
    app = Celery("users", set_as_current=False)
    before = _state._tls.current_app  # type: ignore[attr-defined]
    app.set_current()
    yield app
    _state._set_current_app(before)  # type: ignore[attr-defined]
    app.close()


def test_a_cluster_leaves_the_process_as_it_was(users_app: Celery, tmp_path: Any) -> None:
    engine.use(f"sqlite:///{tmp_path}/users.db")
    named, receivers = engine._process.named, list(worker_process_init.receivers)
    try:
        with Cluster() as cluster:
            cluster.start(Probe, hosts=["here"])
            cluster.advance(60)
            assert _state.get_current_app() is users_app
            app = weakref.ref(cluster.app)
            assert engine._process.named == named

        assert worker_process_init.receivers == receivers
        del cluster
        gc.collect()
        assert app() is None
        assert list(tmp_path.iterdir()) == []
    finally:
        engine.use(None)


def test_neither_the_environment_nor_a_running_fleet_is_a_clusters_business(
    monkeypatch: pytest.MonkeyPatch, state_dir: Any
) -> None:
    monkeypatch.setenv("CELERIAC_TABLE_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CELERIAC_SERVICES", "nonsense")
    monkeypatch.setenv("CELERIAC_PERIODIC_INTERVAL", "1")
    (state_dir / ".celeriac").mkdir()
    (state_dir / ".celeriac" / "fleet.json").write_text(json.dumps({"settings": {"managers": "no.such:Manager"}}))

    with Cluster() as cluster:
        (manager,) = cluster.start(Probe, hosts=["here"])
        cluster.advance(60)

    assert manager.calls.count("periodic_tasks") == 1
    assert [path.name for path in (state_dir / ".celeriac").iterdir()] == ["fleet.json"]


@pytest.mark.parametrize("missing", ["fakeredis", "lupa"])
def test_a_missing_redis_in_memory_is_told_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ModuleNotFoundError, match=rf"(?s){missing}.*celeriac\[testing\]"):
        Cluster()
