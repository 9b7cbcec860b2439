"""Hosts of a cluster live, report and die as workers do."""

import pytest

from managers import Manager
from managers.errors import InvalidName
from tests.workers.probes import Driver, Other, Probe, capabilities, reports, states
from workers import UnknownService
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


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

    cluster.fail("doomed")
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

    cluster.fail("here")
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


@pytest.mark.parametrize("end", ["fail", "stop", "nothing"])
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
    assert before.calls.count("cleanup_host") == (0 if end == "fail" else 1)
    cluster.advance(60)
    assert before.calls.count("periodic_tasks") == after.calls.count("periodic_tasks") == 1
    assert capabilities(cluster, "here") == {"probe": {"size": 1}, "other": {"colour": "red"}}


def test_a_late_report_of_an_earlier_life_changes_nothing(cluster: Cluster) -> None:
    cluster.start(Other, hosts=["here"])
    old = {**reports(cluster, "here")[0], "sequence": 99, "services": {"other": {"colour": "blue"}}}
    cluster.fail("here")
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
    cluster.fail("scheduler")
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


@pytest.mark.parametrize("act", ["stop", "fail", "restart"])
def test_an_unknown_host_is_named_with_the_known_ones(cluster: Cluster, act: str) -> None:
    cluster.start(Probe, hosts=["here"])

    with pytest.raises(ValueError, match="no host 'where' was started; there are scheduler, here"):
        getattr(cluster, act)("where")


def test_a_dead_host_can_not_die_again(cluster: Cluster) -> None:
    cluster.start(Probe, hosts=["here"])
    cluster.fail("here")

    with pytest.raises(ValueError, match="'here' is down"):
        cluster.stop("here")


def test_one_name_is_not_taken_for_a_list_of_letters(cluster: Cluster) -> None:
    with pytest.raises(TypeError, match=r"hosts=\['here'\]"):
        cluster.start(Probe, hosts="here")


def test_a_host_whose_name_no_queue_could_have_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InvalidName):
        cluster.start(Probe, hosts=["not a name"])
