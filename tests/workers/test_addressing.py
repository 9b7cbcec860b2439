"""Where an exposed method's message goes, and through which application."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from managers import NotAdopted
from tests.workers.network import NetworkManager, last_expires
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


@pytest.mark.parametrize(
    "route",
    [
        {"queue": "elsewhere"},
        {"exchange": "elsewhere", "routing_key": "elsewhere"},
        {"exchange": "elsewhere", "exchange_type": "topic", "routing_key": "elsewhere", "queue": "elsewhere"},
    ],
)
def test_no_route_leads_a_method_elsewhere(cluster: Cluster, route: dict[str, str]) -> None:
    cluster.app.conf.task_routes = {"*": route}
    (manager,) = cluster.start(NetworkManager, hosts=["here"])
    manager.faults = [OSError("busy")]

    assert NetworkManager.attach.call(1) == "here"
    NetworkManager.attach.on("here").cast(2)
    NetworkManager.attach.delay(3)
    NetworkManager.attach.on("here").s(4).delay()
    NetworkManager.attach.fanout(5)
    NetworkManager.insist.on("here").cast("again")
    cluster.advance(30)

    assert manager.driver.ports == {1, 2, 3, 4, 5}
    assert manager.calls == ["again", "again"]
    assert {sent.queue or sent.exchange for sent in cluster.casts} == {"network", "network.here", "network.fanout"}


@pytest.mark.parametrize("queue", ["slow", "mine.slow"])
@pytest.mark.parametrize("how", ["apply_async", "s"])
def test_a_queue_of_the_users_own_is_respected(cluster: Cluster, here: NetworkManager, how: str, queue: str) -> None:
    if how == "apply_async":
        NetworkManager.attach.apply_async((7,), queue=queue)
    else:
        NetworkManager.attach.s(7).set(queue=queue).apply_async()

    (sent,) = cluster.casts
    assert (sent.queue, sent.headers["expires"]) == (queue, None)
    assert here.driver.ports == set()


def test_an_exchange_of_the_users_own_is_respected(cluster: Cluster, here: NetworkManager) -> None:
    NetworkManager.attach.apply_async((7,), exchange="users", routing_key="slow", exchange_type="topic")

    (sent,) = cluster.casts
    assert sent.exchange == "users"


def test_the_options_of_set_are_celerys_and_the_last_word_wins(cluster: Cluster, here: NetworkManager) -> None:
    remote = NetworkManager.attach.on("here").set(expires=30, priority=3)

    result = remote.set(expires=40, task_id="mine", headers={"mark": "yes"}).cast(7)

    assert result.id == "mine"
    assert cluster.casts[-1].headers["mark"] == "yes"
    assert last_expires(cluster) == pytest.approx(40)
    remote.cast(8)
    assert last_expires(cluster) == pytest.approx(30)


# Several applications


@pytest.fixture
def second() -> Iterator[Cluster]:
    with Cluster() as second:
        yield second


def test_two_clusters_at_once_do_not_mix_and_are_told_apart_by_their_applications(
    cluster: Cluster, here: NetworkManager, second: Cluster
) -> None:
    (other,) = second.start(NetworkManager, hosts=["here"])

    with pytest.raises(NotAdopted, match=r"2 applications know network\.attach.*say \.using\(app\)"):
        NetworkManager.attach.cast(7)
    NetworkManager.attach.using(second.app).cast(7)
    NetworkManager.attach.on("here").using(cluster.app).cast(8)

    assert (here.driver.ports, other.driver.ports) == ({8}, {7})
    assert [len(one.casts) for one in (cluster, second)] == [1, 1]


def test_on_a_host_the_application_is_its_own(cluster: Cluster, here: NetworkManager, second: Cluster) -> None:
    second.start(NetworkManager, hosts=["here"])
    sent: list[AsyncResult[Any]] = []

    @second.app.task
    def relay() -> None:
        sent.append(NetworkManager.attach.delay(7))

    relay.apply_async(queue="network.here")

    assert sent[0].get() == "here"
    assert cluster.casts == []


def test_an_application_that_does_not_know_the_method_is_refused(cluster: Cluster, here: NetworkManager) -> None:
    stranger = Celery("stranger", set_as_current=False)

    with pytest.raises(NotAdopted):
        NetworkManager.attach.using(stranger).cast(7)
    assert cluster.casts == []


def test_without_any_application_the_caller_is_told_what_to_do() -> None:
    with pytest.raises(NotAdopted, match=r"celeriac_app\(app, managers=\[...\]\)"):
        NetworkManager.attach.cast(7)
