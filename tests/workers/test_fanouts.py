"""A fanout runs once on every live host, each under an id of its own, and gather says who answered what."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery.signals import task_prerun
from kombu import Message

from managers import CallRefused, RemoteTraceback
from scheduler.errors import TableUnavailable
from tests.workers.network import NetworkManager, last_expires, warnings
from workers.fanouts import is_copy, make_own, own_id
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


@pytest.fixture
def three(cluster: Cluster) -> list[NetworkManager]:
    return cluster.start(NetworkManager, hosts=["a", "b", "c"])


@pytest.fixture
def ran() -> Iterator[dict[str, dict[str, Any]]]:
    """By host, the request that it ran last."""
    requests: dict[str, dict[str, Any]] = {}

    def note(task: Any, **_: Any) -> None:
        requests[task.request.hostname.removeprefix("celery@")] = dict(task.request.__dict__)

    task_prerun.connect(note)
    yield requests
    task_prerun.disconnect(note)


def test_each_live_host_runs_it_once_and_gather_has_their_answers(
    cluster: Cluster, three: list[NetworkManager]
) -> None:
    answers = NetworkManager.note.fanout("all").gather()

    assert answers.results == {"a": ["a", "all"], "b": ["b", "all"], "c": ["c", "all"]}
    assert dict(answers) == answers.results
    assert (answers.errors, answers.silent) == ({}, ())
    assert [manager.calls for manager in three] == [[["all"]]] * 3
    (sent,) = cluster.casts
    assert (sent.exchange, sent.queue) == ("network.fanout", "")


def test_each_copy_has_an_id_of_its_own_and_the_same_root(
    cluster: Cluster, three: list[NetworkManager], ran: dict[str, dict[str, Any]]
) -> None:
    ran.clear()
    fanout = NetworkManager.note.set(task_id="shared").fanout("all")

    assert {host: request["id"] for host, request in ran.items()} == {host: own_id("shared", host) for host in "abc"}
    assert {host: result.id for host, result in (fanout.results or {}).items()} == {
        host: own_id("shared", host) for host in "abc"
    }
    for host, request in ran.items():
        assert request["correlation_id"] == request["id"]
        assert request["root_id"] == "shared"
        assert (request["delivery_info"]["exchange"], request["delivery_info"]["routing_key"]) == (
            "",
            f"network.{host}",
        )


def test_two_fanouts_share_no_id(three: list[NetworkManager]) -> None:
    first, second = NetworkManager.note.fanout(1), NetworkManager.note.fanout(2)

    assert not set(map(str, (first.results or {}).values())) & set(map(str, (second.results or {}).values()))
    assert dict(second.gather()) == {"a": ["a", 2], "b": ["b", 2], "c": ["c", 2]}
    assert dict(first.gather()) == {"a": ["a", 1], "b": ["b", 1], "c": ["c", 1]}


def test_a_host_whose_method_failed_is_told_apart_with_its_traceback(three: list[NetworkManager]) -> None:
    three[1].faults = [ValueError("no route")]

    answers = NetworkManager.insist.fanout().gather()

    assert answers.results == {"a": "a", "c": "c"}
    assert answers.silent == ()
    (error,) = answers.errors.values()
    assert str(error) == "no route"
    assert isinstance(error.__cause__, RemoteTraceback)


def test_who_died_unnoticed_and_who_is_absent_are_silent(cluster: Cluster, three: list[NetworkManager]) -> None:
    cluster.fail("b")
    cluster.advance(31)
    cluster.fail("c")

    answers = NetworkManager.note.fanout("all").gather()

    assert dict(answers) == {"a": ["a", "all"]}
    assert answers.silent == ("b", "c")


def test_a_draining_host_is_not_waited_for_and_heard_if_it_answers(
    cluster: Cluster, three: list[NetworkManager]
) -> None:
    cluster.table.drain(cluster.table.host("b")[0].identity.instance, ["network/b"], "new disk")

    fanout = NetworkManager.note.fanout("all")

    assert fanout._absent == ("b",)
    assert sorted(fanout.gather().results) == ["a", "b", "c"]


def test_who_left_is_not_expected(cluster: Cluster, three: list[NetworkManager]) -> None:
    cluster.stop("b")

    answers = NetworkManager.note.fanout("all").gather()

    assert sorted(answers.results) == ["a", "c"]
    assert answers.silent == ()


def test_a_host_that_comes_back_does_not_make_up_for_a_fanout(cluster: Cluster, three: list[NetworkManager]) -> None:
    cluster.fail("b")
    fanout = NetworkManager.note.fanout("all")

    (manager,) = cluster.restart("b")

    assert isinstance(manager, NetworkManager)
    assert manager.calls == []
    assert fanout.gather().silent == ("b",)


def test_a_retry_of_one_hosts_copy_goes_to_that_host_alone(cluster: Cluster, three: list[NetworkManager]) -> None:
    three[1].faults = [OSError("busy"), OSError("busy")]

    fanout = NetworkManager.insist.fanout("all")
    assert fanout.gather().silent == ("b",)
    cluster.advance(60)

    assert [manager.calls for manager in three] == [["all"], ["all"] * 3, ["all"]]
    assert [sent.host for sent in cluster.casts] == [None, "b", "b"]
    assert dict(fanout.gather()) == {"a": "a", "b": "b", "c": "c"}


def test_gather_is_refused_where_results_are_ignored_and_the_table_is_not_asked(
    cluster: Cluster, three: list[NetworkManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.table, "present", None)

    fanout = NetworkManager.note.set(ignore_result=True).fanout("all")

    with pytest.raises(CallRefused, match="its results are ignored"):
        fanout.gather()
    assert [manager.calls for manager in three] == [[["all"]]] * 3


def test_results_that_are_ignored_are_not_stored(cluster: Cluster, three: list[NetworkManager]) -> None:
    before = dict(cluster.app.results)

    NetworkManager.note.set(ignore_result=True).fanout("all")
    assert cluster.app.results == before

    NetworkManager.note.fanout("all")
    assert len(cluster.app.results) == len(before) + 3


def test_gather_is_refused_where_nobody_can_say_who_should_answer(
    cluster: Cluster,
    three: list[NetworkManager],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster.table.redis.flushall()
    emptied = NetworkManager.note.fanout(1)

    def fail(*_: Any) -> Any:
        raise TableUnavailable("no answer")

    monkeypatch.setattr(cluster.table, "present", fail)
    unreachable = NetworkManager.note.fanout(2)

    for fanout, why in ((emptied, "younger than one heartbeat"), (unreachable, "out of reach: no answer")):
        with pytest.raises(CallRefused, match=f"was sent to every host .* not known: the capability table was {why}"):
            fanout.gather()
    assert [manager.calls for manager in three] == [[[1], [2]]] * 3
    assert warnings(caplog) == ["network.note goes to every host, but who that is can't be told: no answer"]


def test_a_service_without_hosts_has_nobody_to_answer(cluster: Cluster, three: list[NetworkManager]) -> None:
    for host in ("a", "b", "c"):
        cluster.stop(host)

    answers = NetworkManager.note.fanout("all").gather()

    assert (answers.results, answers.errors, answers.silent) == ({}, {}, ())


def test_a_fanout_names_no_host(cluster: Cluster, three: list[NetworkManager]) -> None:
    with pytest.raises(ValueError, match=r"leave out \.on\('a'\) to reach every host"):
        NetworkManager.note.on("a").fanout("all")
    assert cluster.casts == []


def test_a_copy_that_waited_too_long_is_dropped(cluster: Cluster, three: list[NetworkManager]) -> None:
    with cluster.hold():
        fanout = NetworkManager.note.set(expires=30).fanout("late")
        assert last_expires(cluster) == pytest.approx(30)
        cluster._timeline._now += 31

    assert [manager.calls for manager in three] == [[]] * 3
    assert {result.state for result in (fanout.results or {}).values()} == {"REVOKED"}


def test_an_own_id_is_a_uuid_that_sender_and_host_work_out_alike() -> None:
    ids = {own_id(fanout, host) for fanout in ("one", "two") for host in ("a", "b")}

    assert len(ids) == 4
    assert ids == {own_id(fanout, host) for fanout in ("one", "two") for host in ("a", "b")}
    assert {str(uuid.UUID(one)) for one in ids} == ids


def test_a_message_that_is_made_a_hosts_own_keeps_all_but_its_id_and_its_way() -> None:
    message = Message(
        body=b"[]",  # type: ignore[arg-type]  # bytes are what brokers give it
        headers={"id": "shared", "root_id": "shared", "task": "network.note", "mark": 1},
        properties={"correlation_id": "shared", "priority": 3},
        delivery_info={"exchange": "network.fanout", "routing_key": "", "redelivered": False},
    )

    make_own(message, "network", "rack1.7")

    mine = own_id("shared", "rack1.7")
    assert message.headers == {"id": mine, "root_id": "shared", "task": "network.note", "mark": 1}
    assert message.properties == {"correlation_id": mine, "priority": 3}
    assert message.delivery_info.items() >= {"exchange": "", "routing_key": "network.rack1.7"}.items()
    assert message.delivery_info["redelivered"] is False
    assert is_copy(message)
