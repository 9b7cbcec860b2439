"""An exposed method is a Celery task: chains, groups, chords, callbacks, retries and revocation work on it."""

from typing import Any

import pytest
from celery import chain, chord, group
from celery.worker import state as worker_state

from tests.workers.network import NetworkManager
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


def test_a_chain_hands_the_answer_on_from_host_to_host(cluster: Cluster, here: NetworkManager) -> None:
    result = chain(
        NetworkManager.note.on("here").s(1), NetworkManager.note.on("there").s(2), NetworkManager.note.on("here").s(3)
    ).apply_async()

    assert result.get() == ["here", ["there", ["here", 1], 2], 3]
    assert [sent.host for sent in cluster.casts] == ["here", "there", "here"]


@pytest.mark.parametrize(("args", "kwargs"), [((1, 2), {}), ((), {"nope": 1}), ((1,), {"port": 2})])
def test_a_signature_that_no_step_before_could_complete_is_refused_where_it_is_made(
    here: NetworkManager, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    for make in (NetworkManager.attach.s, NetworkManager.attach.si):
        with pytest.raises(TypeError):
            make(*args, **kwargs)
    assert NetworkManager.attach.s().task == "network.attach"


def test_an_immutable_signature_takes_nothing_from_the_step_before(cluster: Cluster, here: NetworkManager) -> None:
    assert (NetworkManager.note.s(1) | NetworkManager.note.on("there").si(2))().get() == ["there", 2]


def test_methods_and_ordinary_tasks_share_a_chain(cluster: Cluster, here: NetworkManager) -> None:
    @cluster.app.task
    def double(value: Any) -> Any:
        return value * 2

    steps = NetworkManager.attach.on("there").s(7) | double.s().set(queue="network") | NetworkManager.note.s()

    assert steps().get()[1:] == ["therethere"]


def test_a_group_runs_on_the_hosts_that_its_parts_name(here: NetworkManager, there: NetworkManager) -> None:
    parts = group(NetworkManager.attach.on(host).s(port) for host, port in [("here", 1), ("there", 2), ("here", 3)])

    assert parts().get() == ["here", "there", "here"]
    assert (here.driver.ports, there.driver.ports) == ({1, 3}, {2})


def test_a_chord_gathers_its_parts(here: NetworkManager) -> None:
    parts = [NetworkManager.attach.on(host).s(7) for host in ("here", "there")]

    assert chord(parts)(NetworkManager.note.on("here").s("both")).get() == ["here", ["here", "there"], "both"]


def test_a_chord_whose_part_fails_tells_its_body(here: NetworkManager) -> None:
    result = chord([NetworkManager.attach.s(7), NetworkManager.fail.s()])(NetworkManager.note.on("here").s())

    with pytest.raises(Exception, match="missing"):
        result.get()
    assert here.calls == []


def test_a_link_runs_after_success_and_a_link_error_after_failure(here: NetworkManager, there: NetworkManager) -> None:
    done, failed = NetworkManager.note.on("there").s("done"), NetworkManager.note.on("there").si("failed")

    NetworkManager.attach.on("here").set(link=done, link_error=failed).cast(7)
    assert there.calls == [["here", "done"]]

    NetworkManager.fail.on("here").set(link=done, link_error=failed).cast()
    assert there.calls == [["here", "done"], ["failed"]]
    assert here.calls == []


def test_a_link_error_that_takes_an_argument_is_told_which_task_failed(here: NetworkManager) -> None:
    result = NetworkManager.fail.set(link_error=NetworkManager.note.on("here").s()).cast()

    assert here.calls == [[result.id]]


def test_a_method_retries_as_its_mark_says_under_the_same_id_on_the_same_host(
    cluster: Cluster, there: NetworkManager
) -> None:
    there.faults = [OSError("busy"), OSError("busy")]

    result = NetworkManager.insist.on("there").delay("again")
    assert result.state == "RETRY"
    cluster.advance(60)

    assert result.get() == "there"
    assert there.calls == ["again"] * 3
    assert [(sent.host, sent.headers["id"], sent.headers["retries"]) for sent in cluster.casts] == [
        ("there", result.id, number) for number in range(3)
    ]


def test_retries_come_to_an_end(cluster: Cluster, there: NetworkManager) -> None:
    there.faults = [OSError("busy")] * 5

    result = NetworkManager.insist.on("there").delay("again")
    cluster.advance(300)

    assert len(there.calls) == 4
    assert isinstance(result.result, OSError)


def test_a_message_that_was_revoked_is_not_run(cluster: Cluster, here: NetworkManager) -> None:
    with cluster.hold():
        sent = [
            NetworkManager.attach.on("here").delay(1),
            NetworkManager.attach.on("here").s(2).apply_async(),
            NetworkManager.attach.on("here").apply_async((3,)),
        ]
        kept = NetworkManager.attach.on("here").delay(4)
        worker_state.revoked.update([result.id for result in sent])  # what a worker does on revoke()

    assert {result.state for result in sent} == {"REVOKED"}
    assert kept.get() == "here"
    assert here.driver.ports == {4}
    worker_state.revoked.clear()


def test_a_failing_step_ends_its_chain(here: NetworkManager) -> None:
    result = (NetworkManager.fail.s() | NetworkManager.note.si("never"))()

    with pytest.raises(KeyError, match="missing"):
        result.parent.get()
    assert here.calls == []
