"""Exposed methods: what call and cast promise, and what is refused before anything is sent."""

from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from celery.signals import before_task_publish

from managers import CallRefused, CallTimeout, InvalidArguments, RemoteTraceback, periodic_task
from tests.workers.network import NetworkManager, last_expires, warnings
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


# Call


def test_call_returns_what_the_method_returned_on_one_of_the_hosts(here: NetworkManager, there: NetworkManager) -> None:
    assert {NetworkManager.attach.call(port=port) for port in range(4)} == {"here", "there"}

    assert here.driver.ports | there.driver.ports == {0, 1, 2, 3}
    assert here.driver.ports & there.driver.ports == set()


def test_call_on_a_host_runs_there(here: NetworkManager, there: NetworkManager) -> None:
    assert [NetworkManager.attach.on("there").call(port) for port in (1, 2)] == ["there", "there"]

    assert (here.driver.ports, there.driver.ports) == (set(), {1, 2})


def test_a_method_called_on_the_instance_is_the_plain_method(cluster: Cluster, here: NetworkManager) -> None:
    assert here.attach(7) == "here"

    assert here.driver.ports == {7}
    assert cluster.casts == []


def test_call_raises_what_the_method_raised_with_the_traceback_over_there(here: NetworkManager) -> None:
    with pytest.raises(KeyError, match="missing") as raised:
        NetworkManager.fail.on("here").call()

    cause = raised.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in fail" in str(cause)
    assert "raise KeyError(word)" in str(cause)


def test_a_called_message_is_not_started_once_the_caller_has_given_up(cluster: Cluster, here: NetworkManager) -> None:
    cluster.fail("here")
    with pytest.raises(CallTimeout, match=r"attach on here gave no answer within 20 s; .*; if it has begun it goes on"):
        NetworkManager.attach.on("here").set(timeout=20).call(1)
    with pytest.raises(CallTimeout, match="within 60 s"):
        NetworkManager.attach.on("here").call(2)

    cluster.advance(21)
    (manager,) = cluster.restart("here")

    assert isinstance(manager, NetworkManager)
    assert manager.driver.ports == {2}
    assert issubclass(CallTimeout, TimeoutError)


def test_a_call_that_had_expired_on_the_host_says_so(
    cluster: Cluster, here: NetworkManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = cluster.app.now

    def arrive_late(**_: Any) -> None:
        monkeypatch.setattr(cluster.app, "now", lambda: now() + timedelta(seconds=120))  # the host's clock

    before_task_publish.connect(arrive_late)

    with pytest.raises(CallTimeout, match=r"attach on here was not run: it had expired when it arrived .*clocks"):
        NetworkManager.attach.on("here").call(7)
    assert here.driver.ports == set()


def test_a_call_is_not_sent_when_the_result_backend_is_away_already(
    cluster: Cluster, here: NetworkManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("Retry limit exceeded, must be restarted") from ConnectionError("refused")

    backend = cluster.app.tasks["network.attach"].backend
    monkeypatch.setattr(backend, "connection_errors", (ConnectionError,), raising=False)
    monkeypatch.setattr(backend, "on_task_call", fail)

    with pytest.raises(CallTimeout, match="here was not sent: the result backend does not answer: refused"):
        NetworkManager.attach.on("here").call(7)
    assert cluster.casts == []

    monkeypatch.setattr(backend, "connection_errors", ())
    with pytest.raises(RuntimeError, match="must be restarted"):
        NetworkManager.attach.on("here").call(7)


def test_a_call_whose_result_backend_is_away_times_out_at_once(
    here: NetworkManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Retry limit exceeded, must be restarted") from ConnectionError("refused")

    monkeypatch.setattr(AsyncResult, "get", fail)

    with pytest.raises(CallTimeout, match=r"^network\.attach on here was sent, but the result backend does not answer"):
        NetworkManager.attach.on("here").call(7)
    assert here.driver.ports == {7}


def test_a_call_may_wait_for_ever_and_a_message_to_any_host_then_never_expires(
    cluster: Cluster, here: NetworkManager
) -> None:
    assert NetworkManager.attach.set(timeout=None).call(1)

    assert cluster.casts[-1].headers["expires"] is None


def test_call_gets_its_answer_where_the_application_ignores_results(cluster: Cluster) -> None:
    cluster.app.conf.task_ignore_result = True
    cluster.start(NetworkManager, hosts=["here"])

    assert NetworkManager.attach.call(7) == "here"
    assert NetworkManager.note.fanout(1).gather().results == {"here": ["here", 1]}
    with pytest.raises(KeyError):
        NetworkManager.fail.call()


@pytest.mark.parametrize("is_eager", [False, True])
def test_a_task_must_not_wait_for_another(
    cluster: Cluster,
    here: NetworkManager,
    is_eager: bool,  # noqa: FBT001
) -> None:
    cluster.app.conf.task_always_eager = is_eager

    @cluster.app.task
    def wait() -> Any:
        return NetworkManager.attach.call(7)

    @cluster.app.task
    def gather() -> Any:
        return NetworkManager.attach.fanout(7).gather()

    for task in (wait, gather):
        result = task.apply_async(queue="network.here")
        assert isinstance(result.result, CallRefused)
        assert f"{task.name} is a task and must not wait for network.attach" in str(result.result)
    assert [sent.exchange for sent in cluster.casts] == ([] if is_eager else ["network.fanout"])


def test_who_knows_that_the_answer_needs_no_slot_may_wait_in_a_task(cluster: Cluster, here: NetworkManager) -> None:
    @cluster.app.task
    def wait() -> Any:
        patient = NetworkManager.attach.set(may_wait=True)
        return [patient.on("there").call(7), dict(patient.fanout(8).gather())]

    assert wait.apply_async(queue="network.here").get() == ["there", {"here": "here", "there": "there"}]


def test_a_periodic_task_may_call(cluster: Cluster, there: NetworkManager) -> None:
    class Caller(NetworkManager, service_name="caller"):
        @periodic_task(spacing=60, run_immediately=True)
        def ask(self) -> None:
            self.calls.append(NetworkManager.attach.on("there").call(7))

    (caller,) = cluster.start(Caller, hosts=["here"])
    cluster.advance(60)

    assert caller.calls == ["there"]
    assert cluster.errors == []


def test_call_is_refused_where_no_results_are_kept(cluster: Cluster, here: NetworkManager) -> None:
    backend = Celery("users", set_as_current=False, backend=None).backend
    cluster.app.tasks["network.attach"].backend = backend

    with pytest.raises(CallRefused, match=r"has no result_backend\. Set one, or use cast"):
        NetworkManager.attach.call(7)
    with pytest.raises(CallRefused, match="who should answer is not known"):
        NetworkManager.attach.fanout(8).gather()

    assert [sent.args for sent in cluster.casts] == [(8,)]
    NetworkManager.attach.on("here").cast(9)
    assert here.driver.ports == {8, 9}


# Cast


def test_cast_keeps_no_answer_but_a_failure(here: NetworkManager) -> None:
    done, failed = NetworkManager.attach.cast(7), NetworkManager.fail.cast()

    assert done.state == "PENDING"
    assert failed.state == "FAILURE"
    assert isinstance(failed.result, KeyError)


def test_cast_to_a_host_that_died_with_the_message_waiting_expires_and_a_younger_one_runs(
    cluster: Cluster, here: NetworkManager, caplog: pytest.LogCaptureFixture
) -> None:
    with cluster.hold():
        late = NetworkManager.attach.on("here").cast(1)
        cluster.fail("here")
    cluster.advance(15)
    timely = NetworkManager.attach.on("here").cast(2)  # the table has not missed the host yet
    cluster.advance(3590)

    (manager,) = cluster.restart("here")

    assert isinstance(manager, NetworkManager)
    assert manager.driver.ports == {2}
    assert (late.state, timely.state) == ("REVOKED", "PENDING")
    assert [line for line in warnings(caplog) if f"network.attach[{late.id}] was not run: it had expired" in line]


def test_a_message_for_one_host_expires_however_it_was_sent_and_one_for_any_host_waits(
    cluster: Cluster, here: NetworkManager
) -> None:
    for send in (
        lambda: NetworkManager.attach.on("here").cast(7),
        lambda: NetworkManager.attach.on("here").delay(7),
        lambda: NetworkManager.attach.on("here").s(7).apply_async(),
        lambda: NetworkManager.attach.apply_async((7,), queue="network.here"),
        lambda: NetworkManager.attach.on("here").set(expires=None).cast(7),
        lambda: NetworkManager.attach.fanout(7),
    ):
        send()
        assert last_expires(cluster) == pytest.approx(3600)
    NetworkManager.attach.on("here").set(expires=30).cast(7)
    assert last_expires(cluster) == pytest.approx(30)

    NetworkManager.attach.cast(7)
    assert cluster.casts[-1].headers["expires"] is None


def test_the_time_that_a_message_was_told_to_wait_does_not_count(cluster: Cluster, here: NetworkManager) -> None:
    moment = cluster.app.now() + timedelta(hours=2)

    for options in ({"countdown": 7200}, {"eta": moment}, {"eta": moment.replace(tzinfo=None)}):
        NetworkManager.attach.on("here").set(**options).cast(7)
        assert last_expires(cluster) == pytest.approx(10800)
        NetworkManager.note.set(**options).fanout(7)
        assert last_expires(cluster) == pytest.approx(10800)
    NetworkManager.attach.on("here").apply_async((8,), eta=moment.isoformat())

    cluster.advance(7200)
    assert here.driver.ports == {7, 8}
    assert here.calls == [[7]] * 3


# Arguments


@pytest.mark.parametrize("verb", ["call", "cast", "fanout", "delay", "si"])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((), {}), TypeError),
        (((1, 2), {}), TypeError),
        (((), {"prt": 7}), TypeError),
        (((object(),), {}), InvalidArguments),
        ((((1, 2),), {}), InvalidArguments),
        (((), {"port": {1: "one"}}), InvalidArguments),
        (((float("nan"),), {}), InvalidArguments),
    ],
)
def test_wrong_arguments_fail_at_the_caller_and_nothing_is_sent(
    cluster: Cluster, here: NetworkManager, verb: str, arguments: Any, error: type[Exception]
) -> None:
    args, kwargs = arguments
    before = len(cluster.sent)

    with pytest.raises(error):
        getattr(NetworkManager.attach, verb)(*args, **kwargs)

    assert len(cluster.sent) == before


def test_what_is_not_exposed_is_no_task(cluster: Cluster, here: NetworkManager) -> None:
    assert "network.secret" not in cluster.app.tasks

    cluster.app.send_task("network.secret", queue="network.here")

    assert isinstance(cluster.errors[-1].error, LookupError)


def test_expires_may_be_a_moment(cluster: Cluster, here: NetworkManager) -> None:
    moment = cluster.app.now() + timedelta(seconds=25)

    NetworkManager.attach.on("here").set(expires=moment).cast(7)

    assert last_expires(cluster) == pytest.approx(25)
