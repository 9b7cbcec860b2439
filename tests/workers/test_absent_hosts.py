"""A message for a host that would not take it is refused, or expires: it never waits in silence."""

from typing import Any

import pytest

from managers import HostNotUp
from scheduler.errors import TableUnavailable
from tests.workers.network import NetworkManager, last_expires, warnings
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


def test_an_unknown_host_is_refused_with_those_that_are_up(cluster: Cluster, here: NetworkManager) -> None:
    for send in (NetworkManager.attach.on("nowhere").cast, NetworkManager.attach.on("nowhere").call):
        with pytest.raises(HostNotUp) as raised:
            send(port=7)
        assert str(raised.value) == (
            "network.attach was not sent to 'nowhere': the capability table knows no such host."
            " Hosts of 'network' up: here, there"
        )
    assert cluster.casts == []


def test_a_failed_host_is_refused_once_it_is_stale(cluster: Cluster, here: NetworkManager) -> None:
    cluster.fail("there")
    cluster.advance(29)
    NetworkManager.attach.on("there").cast(7)
    cluster.advance(2)

    with pytest.raises(HostNotUp, match=r"'there': it missed 3 heartbeats and is stale.*'network' up: here$"):
        NetworkManager.attach.on("there").cast(7)


def test_a_draining_host_is_refused_with_its_reason(cluster: Cluster, there: NetworkManager) -> None:
    holder = cluster.table.host("there")[0].identity
    cluster.table.drain(holder.instance, ["network/there"], "new disk")

    with pytest.raises(HostNotUp, match=r"'there': it is draining: new disk.*up: here$"):
        NetworkManager.attach.on("there").cast(7)


def test_nobody_up_is_told_so(cluster: Cluster, here: NetworkManager) -> None:
    cluster.stop("here")
    cluster.stop("there")

    with pytest.raises(HostNotUp, match="'network' up: none"):
        NetworkManager.attach.on("here").call(7)


def test_just_after_redis_was_emptied_nobody_is_refused(cluster: Cluster, here: NetworkManager) -> None:
    cluster.table.redis.flushall()

    NetworkManager.attach.on("here").cast(7)
    NetworkManager.attach.on("nowhere").cast(7)

    assert here.driver.ports == {7}
    assert last_expires(cluster) == pytest.approx(3600)


@pytest.fixture
def no_table(cluster: Cluster, here: NetworkManager, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise TableUnavailable("the capability table's Redis does not answer")

    for ask in ("absence", "present"):
        monkeypatch.setattr(cluster.table, ask, fail)


def test_without_the_table_a_message_goes_unseen_with_a_warning_and_expires(
    cluster: Cluster, here: NetworkManager, no_table: None, caplog: pytest.LogCaptureFixture
) -> None:
    NetworkManager.attach.on("here").cast(7)
    assert NetworkManager.attach.on("here").call(8) == "here"
    NetworkManager.attach.on("nowhere").cast(9)

    assert here.driver.ports == {7, 8}
    assert last_expires(cluster) == pytest.approx(3600)
    assert [line.partition(":")[0] for line in warnings(caplog)] == [
        "network.attach goes to here unseen",
        "network.attach goes to here unseen",
        "network.attach goes to nowhere unseen",
    ]
