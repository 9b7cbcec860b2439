"""What came back from every host: results, errors with their tracebacks, and who said nothing in time."""

import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import BackendGetMetaError, TaskRevokedError
from celery.exceptions import TimeoutError as ResultTimeout
from celery.result import AsyncResult
from redis.exceptions import ConnectionError as RedisError

from managers import answers as answers_module
from managers.answers import Answers, Fanout, has_arrived, refuse_to_wait, remote_error
from managers.errors import CallRefused, CallTimeout, RemoteTraceback

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's backend

#: Seconds within which a result that is there must be found; nothing waits that long.
SOON = 10.0
TRACEBACK = "Traceback (most recent call last):\n  File \"volume.py\", line 7, in grow\nKeyError: 'no disk'\n"


class Clock:
    """Time that only passes where something waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Result:
    """A result that arrives at a moment of *clock*, or never; it keeps how long it was waited for."""

    traceback = None

    def __init__(self, clock: Clock, at: float | None, result: Any = "done", state: str = "SUCCESS") -> None:
        self.clock, self.at, self.result, self.state = clock, at, result, state
        self.unsubscribed: list[Any] = []
        self.backend = SimpleNamespace(remove_pending_result=self.unsubscribed.append)
        self.waits: list[float | None] = []

    def ready(self) -> bool:
        return self.at is not None and self.at <= self.clock.now

    def successful(self) -> bool:
        return self.ready() and self.state == "SUCCESS"

    def get(self, *, timeout: float | None, propagate: bool, disable_sync_subtasks: bool) -> None:
        assert (propagate, disable_sync_subtasks) == (False, False)
        self.waits.append(timeout)
        if timeout is not None and (self.at is None or self.at > self.clock.now + timeout):
            self.clock.now += timeout
            raise ResultTimeout("the operation timed out")
        assert self.at is not None, "waits for ever"
        self.clock.now = max(self.clock.now, self.at)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(answers_module, "time", clock)
    return clock


@pytest.fixture
def app(valkey_url: str) -> Iterator[Celery]:
    """An application with a real result backend."""
    app = Celery("answers", set_as_current=False, broker="memory://", backend=valkey_url)
    app.conf.result_backend_transport_options = {"global_keyprefix": f"{uuid.uuid4()}-"}
    yield app
    app.backend.result_consumer.stop()
    app.backend.client.close()
    app.close()


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def fanout(results: dict[str, Any], **options: Any) -> Fanout[Any]:
    return Fanout("volume.grow", results, **{"timeout": SOON, **options})


def test_answers_are_told_apart_by_host(app: Celery) -> None:
    results = {host: app.AsyncResult(f"{host}-1") for host in ("a", "b", "c", "d")}
    app.backend.mark_as_done("a-1", [1, 2])
    app.backend.mark_as_failure("b-1", KeyError("no disk"), traceback=TRACEBACK)
    app.backend.mark_as_done("d-1", None)

    answers = fanout(results, timeout=0.1).gather()

    assert answers.results == {"a": [1, 2], "d": None}
    assert list(answers) == [("a", [1, 2]), ("d", None)]
    assert list(answers.errors) == ["b"]
    assert answers.silent == ("c",)


def test_an_error_is_what_the_method_raised_and_its_cause_the_traceback_over_there(app: Celery) -> None:
    app.backend.mark_as_failure("b-1", KeyError("no disk"), traceback=TRACEBACK)

    error = fanout({"b": app.AsyncResult("b-1")}).gather().errors["b"]

    assert type(error) is KeyError
    assert error.args == ("no disk",)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert str(error.__cause__) == f'\n"""\n{TRACEBACK}"""'


def test_an_error_without_a_traceback_has_no_cause() -> None:
    error = ValueError("no disk")

    assert remote_error(Result(Clock(), 0.0, error, "FAILURE"), "volume.grow") is error  # type: ignore[arg-type]
    assert error.__cause__ is None


def test_a_copy_that_was_revoked_is_an_error(app: Celery) -> None:
    app.backend.mark_as_revoked("a-1", "revoked")

    answers = fanout({"a": app.AsyncResult("a-1")}).gather()

    assert isinstance(answers.errors["a"], TaskRevokedError)
    assert (answers.results, answers.silent) == ({}, ())


def test_a_copy_that_expired_is_an_error_in_words(app: Celery) -> None:
    app.backend.mark_as_revoked("a-1", "expired")

    answers = fanout({"a": app.AsyncResult("a-1")}).gather()

    assert isinstance(answers.errors["a"], CallTimeout)
    assert str(answers.errors["a"]).startswith("volume.grow on a was not run: it had expired when it arrived at the")


@pytest.mark.parametrize("state", ["PENDING", "STARTED", "RETRY", "RECEIVED"])
def test_a_host_that_is_still_at_it_is_silent(app: Celery, state: str) -> None:
    if state != "PENDING":
        app.backend.store_result("a-1", {"pid": 7} if state == "STARTED" else None, state)

    assert fanout({"a": app.AsyncResult("a-1")}, timeout=0).gather().silent == ("a",)


def test_an_answer_that_comes_while_others_are_waited_for_is_heard(clock: Clock) -> None:
    results = {"a": Result(clock, 4.0), "b": Result(clock, 1.0), "c": Result(clock, None), "d": Result(clock, 9.0)}

    answers = fanout(results, timeout=10.0).gather()

    assert sorted(answers.results) == ["a", "b", "d"]
    assert answers.silent == ("c",)


def test_every_host_together_is_waited_for_one_time_out_in_all(clock: Clock) -> None:
    results = {f"host-{number}": Result(clock, None) for number in range(50)}

    answers = fanout(results, timeout=10.0).gather()

    assert clock.now == 10.0
    assert answers.silent == tuple(sorted(results))
    assert sum(len(result.waits) for result in results.values()) == 1


def test_the_time_out_starts_when_somebody_begins_to_wait(clock: Clock) -> None:
    sent = fanout({"a": Result(clock, 1005.0)}, timeout=10.0)
    clock.now = 1000.0

    assert list(sent.gather().results) == ["a"]


def test_an_answer_that_is_there_when_time_is_up_is_heard(clock: Clock) -> None:
    results = {"a": Result(clock, None), "b": Result(clock, 9.9)}

    answers = fanout(results, timeout=10.0).gather()

    assert list(answers.results) == ["b"]
    assert answers.silent == ("a",)


def test_who_gathers_may_wait_less_than_was_set(clock: Clock) -> None:
    sent = fanout({"a": Result(clock, 5.0)}, timeout=10.0)

    assert sent.gather(timeout=2.0).silent == ("a",)
    assert clock.now == 2.0
    assert list(sent.gather(timeout=4.0).results) == ["a"]  # and again later


def test_a_time_out_of_none_waits_for_every_host_that_was_live(clock: Clock) -> None:
    results = {"a": Result(clock, 1e6), "b": Result(clock, 5.0)}

    assert sorted(fanout(results, timeout=None).gather().results) == ["a", "b"]
    assert results["a"].waits == [None]


@pytest.mark.parametrize("timeout", [0, 0.0, -1.0])
def test_a_time_out_of_nothing_takes_what_is_there(clock: Clock, timeout: float) -> None:
    results = {"a": Result(clock, 0.0), "b": Result(clock, 0.1)}

    answers = fanout(results, timeout=timeout).gather()

    assert (list(answers.results), answers.silent) == (["a"], ("b",))
    assert results["a"].waits == results["b"].waits == []


def test_an_absent_host_is_not_waited_for_but_heard(clock: Clock) -> None:
    results = {"a": Result(clock, 2.0), "b": Result(clock, 3.0), "c": Result(clock, None)}

    answers = fanout(results, absent=["a", "c"], timeout=10.0).gather()

    assert clock.now == 3.0
    assert sorted(answers.results) == ["a", "b"]  # a had answered by the time that b had
    assert answers.silent == ("c",)
    assert results["a"].waits == results["c"].waits == []


def test_absent_hosts_alone_are_not_waited_for_even_for_ever(clock: Clock) -> None:
    answers = fanout({"a": Result(clock, None)}, absent=["a"], timeout=None).gather()

    assert answers.silent == ("a",)
    assert clock.now == 0.0


def test_no_host_at_all_is_an_empty_answer() -> None:
    assert fanout({}).gather() == Answers({}, {}, ())


def test_a_result_given_up_is_no_longer_subscribed_to(clock: Clock, app: Celery) -> None:
    given_up = Result(clock, None)

    assert not has_arrived(given_up, 0.01)  # type: ignore[arg-type]
    assert given_up.unsubscribed == [given_up]

    real: AsyncResult[Any] = app.AsyncResult("never")
    assert not has_arrived(real, 0.01)
    assert "never" not in app.backend._pending_results.concrete
    assert b"never" not in b"".join(app.backend.result_consumer.subscribed_to)


class Away(Result):
    """A result whose backend is away."""

    def ready(self) -> bool:
        raise BackendGetMetaError("failed to get meta")

    def get(self, *, timeout: float | None, propagate: bool, disable_sync_subtasks: bool) -> None:
        self.waits.append(timeout)
        raise RuntimeError("Retry limit exceeded: must be restarted.") from RedisError("Connection refused")


@pytest.mark.parametrize("timeout", [0.0, 1.0, None])
def test_a_backend_that_is_away_is_no_answer(clock: Clock, timeout: float | None) -> None:
    away = Away(clock, None)

    with pytest.raises(CallTimeout, match=r"^the result backend does not answer: (Connection refused|failed to get)"):
        has_arrived(away, timeout)  # type: ignore[arg-type]

    assert away.unsubscribed == [away]


def test_hosts_whose_backend_is_away_are_silent_and_it_is_asked_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    results = {"a": Result(clock, 0.0), "b": Away(clock, None), "c": Away(clock, None)}

    answers = fanout(results).gather()

    assert (list(answers.results), answers.silent) == (["a"], ("b", "c"))
    assert (len(results["b"].waits), results["c"].waits) == (1, [])
    assert [record.getMessage() for record in caplog.records] == [
        "volume.grow: the result backend does not answer: Connection refused"
    ]


def test_a_real_backend_that_is_away_is_no_answer(unused_port: int) -> None:
    app = Celery("away", set_as_current=False, broker="memory://", backend=f"redis://127.0.0.1:{unused_port}/0")
    app.conf.result_backend_transport_options = {"retry_policy": {"timeout": 0.1, "interval_max": 0.1}}

    for _ in range(2):  # Celery's words, that only a restart helps, are not true
        with pytest.raises(CallTimeout, match=r"the result backend does not answer: .*refused"):
            has_arrived(app.AsyncResult("never"), 1.0)
    assert app.backend._pending_results.concrete == {}
    app.close()


def test_who_should_answer_may_be_unknown() -> None:
    with pytest.raises(CallRefused) as raised:
        Fanout("volume.grow", None, unknown="it is too early", timeout=SOON).gather()

    assert str(raised.value) == (
        "volume.grow was sent to every host and may have run, but who should answer is not known: it is too early"
    )


def test_answers_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Answers({}, {}, ()).silent = ("a",)  # type: ignore[misc]


def in_a_task(app: Celery, function: Any) -> Any:
    """Run *function* as a task does and return its answer."""
    task = app.task(name="shop.order", shared=False)(function)
    return task.apply().get()


def test_nobody_waits_inside_a_task(app: Celery) -> None:
    def order() -> str:
        sent = fanout({"a": Result(Clock(), 0.0)})
        for wait in (sent.gather, lambda: refuse_to_wait("volume.grow", may_wait=False)):
            with pytest.raises(CallRefused, match=r"shop\.order is a task and must not wait for volume\.grow: .*cast"):
                wait()
        return "refused"

    assert in_a_task(app, order) == "refused"


def test_who_takes_it_upon_them_may_wait_inside_a_task(app: Celery) -> None:
    app.backend.mark_as_done("a-1", 1)

    def order() -> Any:
        return fanout({"a": app.AsyncResult("a-1")}, may_wait=True).gather().results

    assert in_a_task(app, order) == {"a": 1}


def test_a_function_of_a_task_called_directly_may_wait(app: Celery) -> None:
    app.backend.mark_as_done("a-1", 1)

    @app.task(name="shop.order", shared=False)
    def order() -> Any:
        return fanout({"a": app.AsyncResult("a-1")}).gather().results

    assert order() == {"a": 1}


def test_what_is_there_is_found_without_waiting(app: Celery) -> None:
    for host in "abcdefgh":
        app.backend.mark_as_done(f"{host}-1", host)
    began = time.monotonic()

    answers = fanout({host: app.AsyncResult(f"{host}-1") for host in "abcdefgh"}).gather()

    assert answers.results == dict(zip("abcdefgh", "abcdefgh", strict=True))
    assert time.monotonic() - began < SOON / 4
