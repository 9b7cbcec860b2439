"""With task_always_eager the process is the one host: methods run in it, at once, on what was serialized."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state

from managers import CallRefused, DeadlinePassed, InvalidArguments, Manager, RequestContext, db, periodic_task
from tests.workers.network import NetworkManager
from workers import celeriac_app, load_settings
from workers.registry import registry_of


class Lifting(Manager[None], service_name="lifting"):
    """Has work for the pool."""

    done = 0

    @periodic_task(spacing=60, run_immediately=True, pool=True)
    def lift(self) -> None:
        self.done += 1


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, state_dir: Path) -> Iterator[Celery]:
    """An application that is eager and has neither a broker nor a result backend that answers."""

    def refuse(*_: Any) -> None:
        raise AssertionError("somebody opens a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("CELERIAC_TABLE_URL", f"memory://{request.node.nodeid}")
    app = Celery("users", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.task_always_eager = True
    before = _state._tls.current_app  # type: ignore[attr-defined]
    app.set_current()
    yield celeriac_app(app, managers=[NetworkManager, Lifting], settings=load_settings(host="here"))
    _state._set_current_app(before)  # type: ignore[attr-defined]
    app.close()
    db.use(None)


@pytest.fixture
def network(app: Celery) -> Any:
    return registry_of(app).local("network")


@pytest.mark.parametrize(
    "send",
    [
        lambda remote: remote.call(7),
        lambda remote: remote.on("here").call(7),
        lambda remote: remote.cast(7).result,
        lambda remote: remote.delay(7).get(),
        lambda remote: remote.on("elsewhere").delay(7).get(),
        lambda remote: remote.s(7).apply_async().get(),
        lambda remote: dict(remote.fanout(7).gather())["here"],
    ],
    ids=["call", "on", "cast", "delay", "delay on", "signature", "fanout"],
)
def test_a_method_runs_in_this_process_and_answers(network: Any, send: Callable[[Any], Any]) -> None:
    assert send(NetworkManager.attach) == "here"

    assert network.driver.ports == {7}


def test_an_error_comes_as_from_a_host(network: Any) -> None:
    with pytest.raises(KeyError, match="missing"):
        NetworkManager.fail.call()
    assert NetworkManager.fail.cast().state == "FAILURE"
    answers = NetworkManager.fail.fanout().gather()
    assert (list(answers.errors), answers.silent) == (["here"], ())


def test_arguments_pass_through_the_serializer(network: Any) -> None:
    mine = ["a"]
    NetworkManager.note.call(mine)
    mine.append("b")

    assert network.calls == [[["a"]]]
    for wrong in ({1, 2}, (1, 2), {1: "one"}):
        with pytest.raises(InvalidArguments):
            NetworkManager.note.cast(wrong)
    with pytest.raises(TypeError):
        NetworkManager.attach.call(prt=7)
    assert len(network.calls) == 1


def test_the_callers_context_is_current_and_each_request_has_one(network: Any) -> None:
    with RequestContext(user="ann").as_current():
        NetworkManager.whoami.call()
        NetworkManager.whoami.fanout()
        NetworkManager.whoami.delay()
    NetworkManager.whoami.call()

    assert [context and context.user for context in network.calls] == ["ann", "ann", "ann", None]
    assert network.calls[-1].request_id.startswith("req-")


def test_a_deadline_that_passed_is_refused(network: Any) -> None:
    with RequestContext(deadline=1.0).as_current():
        for send in (NetworkManager.whoami.call, NetworkManager.whoami.cast, NetworkManager.whoami.fanout):
            with pytest.raises(DeadlinePassed):
                send()
        assert isinstance(NetworkManager.whoami.delay().result, DeadlinePassed)
    assert network.calls == []


def test_a_task_must_not_call_in_eager_mode_either(app: Celery, network: Any) -> None:
    @app.task(shared=False)
    def wait() -> None:
        NetworkManager.attach.call(7)

    assert isinstance(wait.delay().result, CallRefused)
    assert network.driver.ports == set()


def test_retries_run_at_once(network: Any) -> None:
    network.faults = [OSError("busy"), OSError("busy")]

    assert NetworkManager.insist.call("again") == "here"

    assert network.calls == ["again"] * 3


def test_a_task_of_the_pool_runs_inline_when_it_is_due(app: Celery) -> None:
    for _ in range(3):
        app.tasks["lifting.periodic_tasks"].delay()

    assert registry_of(app).local("lifting").done == 1  # type: ignore[attr-defined]
