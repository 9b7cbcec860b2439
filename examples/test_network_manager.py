import logging
import time

import pytest
from celery import chain
from network_manager import NetworkManager

from managers import (
    CallRefused,
    CallTimeout,
    ContextFilter,
    DeadlinePassed,
    HostNotUp,
    InvalidArguments,
    RequestContext,
    current_context,
)
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class FakeSwitch:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.ports: set[int] = set()
        self.resets: list[int] = []
        self.tests = 0
        self.faults: list[Exception] = []

    def attach(self, port: int) -> None:
        self.ports.add(port)

    def detach(self, port: int) -> None:
        if self.faults:
            raise self.faults.pop()
        self.ports.discard(port)
        self.resets.append(port)

    def attached(self) -> set[int]:
        return self.ports

    def self_test(self) -> None:
        self.tests += 1


@pytest.fixture
def racks(cluster: Cluster) -> list[NetworkManager]:
    return cluster.start(NetworkManager, hosts=["rack1", "rack2"], driver=FakeSwitch)


def test_the_verbs(racks: list[NetworkManager]) -> None:
    one, two = racks

    # here: the plain method
    assert one.attach(1) == "rack1:1"

    # some host of the service; wait for its answer
    assert NetworkManager.attach.call(2) in {"rack1:2", "rack2:2"}

    # that host
    assert NetworkManager.attach.on("rack2").call(port=3) == "rack2:3"

    # that host, some time; nobody waits
    NetworkManager.attach.on("rack2").cast(port=4)

    # every live host, and what each said
    answers = NetworkManager.attach.fanout(5).gather()
    assert answers.results == {"rack1": "rack1:5", "rack2": "rack2:5"}

    # how to send it comes before the verb
    NetworkManager.attach.on("rack2").set(expires=30, priority=5).cast(6)

    # Celery's own
    result = NetworkManager.attach.on("rack1").delay(7)
    assert result.get() == "rack1:7"
    assert chain(NetworkManager.attach.on("rack1").s(8), NetworkManager.detach.on("rack2").si(3)).delay().get() is None

    assert two.driver.attached() >= {4, 5, 6}


def test_what_a_fanout_brings_back(cluster: Cluster, racks: list[NetworkManager]) -> None:
    racks[0].driver.faults = [ValueError("port 9 is welded")]
    cluster.fail("rack2")

    answers = NetworkManager.detach.fanout(9).gather(timeout=5)

    assert answers.results == {}
    assert [(host, str(error)) for host, error in answers.errors.items()] == [("rack1", "port 9 is welded")]
    assert answers.silent == ("rack2",)


def test_a_call_to_a_host_that_is_not_up_is_refused(cluster: Cluster, racks: list[NetworkManager]) -> None:
    cluster.fail("rack2")
    cluster.advance(30)

    with pytest.raises(HostNotUp, match="missed 3 heartbeats") as refused:
        NetworkManager.attach.on("rack2").cast(7)

    assert "Hosts of 'network' up: rack1" in str(refused.value)
    assert [sent.task for sent in cluster.casts] == []


def test_a_call_that_nobody_answers_gives_up(cluster: Cluster, racks: list[NetworkManager]) -> None:
    cluster.fail("rack2")

    with pytest.raises(CallTimeout):
        NetworkManager.attach.on("rack2").set(timeout=5).call(7)


def test_a_cast_that_is_not_started_in_time_is_dropped(cluster: Cluster, racks: list[NetworkManager]) -> None:
    cluster.fail("rack2")
    result = NetworkManager.attach.on("rack2").set(expires=60).cast(7)

    cluster.advance(120)
    (rack2,) = cluster.restart("rack2")

    assert result.state == "REVOKED"
    assert rack2.driver.attached() == set()


def test_wrong_arguments_fail_at_the_caller(cluster: Cluster, racks: list[NetworkManager]) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'port'"):
        NetworkManager.attach.call()  # type: ignore[call-arg]

    with pytest.raises(InvalidArguments, match="a tuple, which would arrive as a list"):
        NetworkManager.attach.call((1, 2))  # type: ignore[arg-type]

    assert cluster.casts == []


def test_a_task_does_not_wait_for_another(cluster: Cluster, racks: list[NetworkManager]) -> None:
    @cluster.app.task
    def waits() -> str:
        return NetworkManager.attach.call(7)

    with pytest.raises(CallRefused, match="Use cast, or a chain"):
        waits.apply_async(queue="network").get()


def test_a_failed_detach_is_tried_again(cluster: Cluster, racks: list[NetworkManager]) -> None:
    racks[0].attach(7)
    racks[0].driver.faults = [ConnectionError("no answer")]

    NetworkManager.detach.on("rack1").cast(7)
    assert racks[0].driver.attached() == {7}

    cluster.advance(10)
    assert racks[0].driver.attached() == set()


def test_periodic_tasks_come_at_their_own_pace(cluster: Cluster, racks: list[NetworkManager]) -> None:
    one, two = racks

    cluster.advance(60)
    assert cluster.table.aggregate()["network.ports_used"] == (0, 0)
    assert one.driver.resets == two.driver.resets == [1, 2, 3, 4]

    cluster.advance(4 * 3600)
    assert len(one.driver.resets) == len(two.driver.resets) == 4 * 5
    assert one.driver.tests == two.driver.tests == 1


def test_a_fleets_task_runs_on_one_host(
    cluster: Cluster, racks: list[NetworkManager], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "network_manager")

    cluster.advance(6 * 600)

    assert 5 <= sum("today's voice" in record.message for record in caplog.records) <= 6


def test_who_asked_is_known_where_the_method_runs(
    racks: list[NetworkManager], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "network_manager")

    with RequestContext(user="ann", project="web").as_current():
        NetworkManager.attach.on("rack2").cast(7)

    assert [record.message for record in caplog.records] == ["ann attaches port 7"]


def test_a_log_format_can_name_who_asked(racks: list[NetworkManager]) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.addFilter(ContextFilter())
    handler.setFormatter(logging.Formatter("[%(request_id)s %(user)s] %(message)s"))
    logger = logging.getLogger("network_manager")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    with RequestContext(user="ann", request_id="req-1").as_current():
        NetworkManager.attach.cast(7)

    assert lines == ["[req-1 ann] ann attaches port 7"]
    logger.removeHandler(handler)


def test_what_is_too_late_is_not_started(racks: list[NetworkManager]) -> None:
    too_late = RequestContext(user="ann", deadline=time.time() - 60)

    assert current_context() is None
    with too_late.as_current(), pytest.raises(DeadlinePassed):
        NetworkManager.attach.call(7)
