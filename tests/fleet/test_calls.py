"""One exposed manager under every pool, on every broker: what a caller can do with it from outside."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded
from celery import chain, chord, group
from celery.result import AsyncResult

from managers import CallRefused, CallTimeout, DeadlinePassed, HostNotUp, RequestContext
from tests.fleet.caller import CallerManager, plain, total
from tests.fleet.conftest import caller_fleet
from tests.fleet.harness import PATIENCE, Harness

pytestmark = pytest.mark.fleet

COMBINATIONS = [("prefork", "redis"), ("threads", "rabbitmq"), ("gevent", "redis")]
if os.environ.get("CELERIAC_TEST_CALLS") == "all":
    COMBINATIONS += [("prefork", "rabbitmq"), ("threads", "redis"), ("gevent", "rabbitmq")]
#: Nothing can end a thread.
ENDABLE = [(pool, broker) for pool, broker in COMBINATIONS if pool != "threads"]


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def fleet(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Hosts a and b with two slots each; b's log names requests."""
    pool, broker = request.param
    with caller_fleet(request, broker, "a", "b") as fleet:
        fleet.pool = pool
        fleet.scheduler()
        start(fleet, "a")
        start(fleet, "b")
        fleet.up("a", "b", service="caller")
        fleet.wait(lambda: fleet.table.readiness().ready, PATIENCE, "the table can tell who is not there")
        yield fleet


def start(fleet: Harness, host: str) -> None:
    log = "worker_log_format=%(levelname)s %(request_id)s %(user)s: %(message)s"
    fleet.worker(host, services="host,caller", pool=fleet.pool, configured=[log] if host == "b" else [])


@pytest.fixture
def word() -> str:
    """A word that no other test uses."""
    return f"word-{uuid.uuid4().hex[:8]}"


@contextmanager
def busy(fleet: Harness, host: str, word: str) -> Iterator[list[AsyncResult[str]]]:
    """Have every slot of *host* held."""
    held = [CallerManager.hold_until.on(host).cast(word) for _ in range(2)]
    fleet.wait(lambda: fleet.called(host, "hold_until").count(word) == 2, PATIENCE, f"{host} is busy")
    try:
        yield held
    finally:
        (fleet.journal / word).touch()


def written(fleet: Harness, word: str, hosts: str = "ab", method: str = "note") -> Callable[[], bool]:
    """Return whether each of *hosts* wrote *word* down once."""
    return lambda: all(fleet.called(host, method).count(word) == 1 for host in hosts)


def test_call_returns_the_answer_of_any_host_or_of_the_one_that_was_named(fleet: Harness) -> None:
    assert CallerManager.add.call(1, second=2) == 3
    assert CallerManager.whoami.call() in {"a", "b"}
    assert [CallerManager.whoami.on(host).call() for host in "abab"] == ["a", "b", "a", "b"]


def test_cast_runs_on_the_named_host_and_on_it_alone(fleet: Harness, word: str) -> None:
    CallerManager.note.on("b").cast(word)

    fleet.wait(written(fleet, word, "b"), PATIENCE, "b wrote")
    assert word not in fleet.called("a", "note")


def test_a_failure_raises_at_the_caller_with_the_traceback_of_the_other_side(fleet: Harness, word: str) -> None:
    with pytest.raises(KeyError, match=word) as raised:
        CallerManager.fail.call(word)

    assert "raise KeyError(word)" in str(raised.value.__cause__)
    assert "caller.py" in str(raised.value.__cause__)


def test_arguments_that_the_method_does_not_take_are_refused_before_anything_is_sent(fleet: Harness) -> None:
    with pytest.raises(TypeError, match="third"):
        CallerManager.add.call(1, third=2)  # type: ignore[call-arg]


def test_a_host_that_is_not_there_is_refused(fleet: Harness) -> None:
    with pytest.raises(HostNotUp, match=r"knows no such host.* up: a, b"):
        CallerManager.whoami.on("nowhere").cast()


def test_a_call_ends_at_its_time_out(fleet: Harness, word: str) -> None:
    with busy(fleet, "a", word):
        began = time.monotonic()
        with pytest.raises(CallTimeout, match=r"caller.whoami on a gave no answer within 0.2 s"):
            CallerManager.whoami.on("a").set(timeout=0.2).call()

        assert time.monotonic() - began < 5, "it does not wait for the slot; Celery looks at the clock once a second"


def test_a_task_that_waits_for_another_is_refused(fleet: Harness) -> None:
    with pytest.raises(CallRefused, match=r"caller.wait_inside is a task and must not wait for caller.whoami"):
        CallerManager.wait_inside.call()


def test_fanout_runs_once_on_every_host_and_gathers_their_answers(fleet: Harness, word: str) -> None:
    answers = CallerManager.note.fanout(word).gather()

    assert (answers.results, answers.errors, answers.silent) == ({"a": "a", "b": "b"}, {}, ())
    assert written(fleet, word)()


def test_gather_tells_whose_method_failed(fleet: Harness, word: str) -> None:
    answers = CallerManager.fail.fanout(word).gather()

    assert {host: repr(error) for host, error in answers.errors.items()} == dict.fromkeys("ab", repr(KeyError(word)))
    assert all("raise KeyError(word)" in str(error.__cause__) for error in answers.errors.values())
    assert (answers.results, answers.silent) == ({}, ())


def test_gather_names_who_is_silent(fleet: Harness, word: str) -> None:
    with busy(fleet, "a", word):
        sent = CallerManager.whoami.fanout()
        assert sent.results
        fleet.wait(sent.results["b"].ready, PATIENCE, "b answered")
        answers = sent.gather(timeout=0.3)

    assert (answers.results, answers.errors, answers.silent) == ({"b": "b"}, {}, ("a",))


def test_a_retry_runs_where_the_first_try_ran_with_the_same_context(fleet: Harness, word: str) -> None:
    with RequestContext(user="ann").as_current() as context:
        host, retries, asker = CallerManager.flaky.on("b").call(word)

    assert (host, retries, asker) == ("b", 2, ["ann", context.request_id])
    assert fleet.called("b", "flaky").count(word) == 3


def test_every_copy_of_a_fanout_retries_on_its_own_host(fleet: Harness, word: str) -> None:
    with RequestContext(user="ann").as_current() as context:
        answers = CallerManager.flaky.fanout(word).gather()

    assert answers.results == {host: [host, 2, ["ann", context.request_id]] for host in "ab"}
    assert [fleet.called(host, "flaky").count(word) for host in "ab"] == [3, 3]


def test_a_chain_passes_through_an_ordinary_task_and_keeps_the_context(fleet: Harness) -> None:
    summed = chain(CallerManager.add.s(1, 2), plain.s(), CallerManager.add.on("b").s(10))
    asked = chain(plain.si(1), plain.s(), CallerManager.asker.si())

    with RequestContext(user="bob").as_current() as context:
        results = summed.apply_async(), asked.apply_async()

    assert [result.get(timeout=PATIENCE) for result in results] == [14, ["bob", context.request_id]]


def test_a_group_and_a_chord_run_methods_and_keep_the_context(fleet: Harness) -> None:
    with RequestContext(user="bob").as_current() as context:
        hosts = group(CallerManager.whoami.on(host).s() for host in "ab")()
        added = chord([CallerManager.add.s(1, second) for second in range(4)], total.s())()
        asked = chord([CallerManager.add.s(1, 1), plain.s(1)], CallerManager.asker.si())()

    assert hosts.get(timeout=PATIENCE) == ["a", "b"]
    assert added.get(timeout=PATIENCE) == 10
    assert asked.get(timeout=PATIENCE) == ["bob", context.request_id]


def test_link_gets_the_result_and_link_error_the_failure(fleet: Harness, word: str) -> None:
    with RequestContext(user="eve").as_current():
        CallerManager.add.set(link=CallerManager.note.on("a").s()).cast(40_000, 2)
        CallerManager.fail.set(link_error=CallerManager.note.on("b").si(word)).cast(word)
        failed = CallerManager.fail.set(link_error=CallerManager.explain.on("a").s()).cast(word)

    fleet.wait(written(fleet, "40002", "a"), PATIENCE, "the link")
    fleet.wait(written(fleet, word, "b"), PATIENCE, "the error's link")
    fleet.wait(written(fleet, f"{failed.id} eve", "a", "explain"), PATIENCE, "the error's link knows what failed")


@pytest.mark.parametrize("fleet", ENDABLE, ids="-".join, indirect=True)
def test_a_time_limit_ends_the_method(fleet: Harness) -> None:
    with pytest.raises(TimeLimitExceeded):
        CallerManager.hang.on("a").call()

    assert CallerManager.whoami.on("a").call() == "a"


def test_a_waiting_one_can_be_revoked(fleet: Harness, word: str) -> None:
    with busy(fleet, "a", word):
        waiting = CallerManager.note.on("a").cast(word)
        fleet.app.control.revoke(waiting.id, destination=["host@a"], reply=True)

    fleet.wait(lambda: waiting.state == "REVOKED", PATIENCE, "it is revoked")
    assert CallerManager.whoami.on("a").call() == "a"
    assert word not in fleet.called("a", "note")


def test_what_outlasts_its_requests_deadline_is_not_started(fleet: Harness, word: str) -> None:
    with busy(fleet, "a", word), RequestContext(deadline=time.time() + 2).as_current() as context:
        waiting = CallerManager.note.on("a").cast(word)
        fleet.wait(lambda: time.time() > (context.deadline or 0), PATIENCE, "the deadline")

        with pytest.raises(DeadlinePassed):
            CallerManager.note.on("a").cast(word)

    assert CallerManager.whoami.on("a").call() == "a"
    fleet.wait(lambda: waiting.state == "REVOKED", PATIENCE, "it counts as revoked")
    assert word not in fleet.called("a", "note")


def test_what_expires_while_it_waits_for_a_slot_is_not_run(fleet: Harness, word: str) -> None:
    with busy(fleet, "a", word):
        waiting = CallerManager.note.on("a").set(expires=2).cast(word)
        gone = CallerManager.note.set(expires=2).fanout(f"{word}-fanout")
        assert gone.results
        expired = time.time() + 2
        fleet.wait(written(fleet, f"{word}-fanout", "b"), PATIENCE, "b had a slot")
        fleet.wait(lambda: time.time() > expired, PATIENCE, "expiry")

    fleet.wait(lambda: waiting.state == gone.results["a"].state == "REVOKED", PATIENCE, "both are revoked")
    assert not {word, f"{word}-fanout"} & {*fleet.called("a", "note")}


def answer(fleet: Harness, question: str) -> Any:
    """Return what b answers to `celery inspect` *question*, asked until it does: nobody repeats a broadcast."""
    answered: list[Any] = []

    def ask() -> bool:
        reply = getattr(fleet.app.control.inspect(destination=["host@b"], timeout=10), question)()
        answered.append(reply)
        return reply is not None

    fleet.wait(ask, PATIENCE, f"b tells what is {question}")
    return answered[-1]


def test_inspect_shows_methods_as_any_task(fleet: Harness, word: str) -> None:
    with busy(fleet, "b", word) as held:
        registered: dict[str, list[str]] = answer(fleet, "registered")
        active: dict[str, list[dict[str, Any]]] = answer(fleet, "active")

    assert {"caller.add", "caller.note", "caller.plain"} <= {name.split()[0] for name in registered["host@b"]}
    assert {task["id"]: task["name"] for task in active["host@b"]} == {
        result.id: "caller.hold_until" for result in held
    }


def test_log_records_name_the_request(fleet: Harness, word: str) -> None:
    with RequestContext(user="ann").as_current() as context:
        CallerManager.say.on("b").call(word)

    log = next(process for process in fleet.processes if process.name == "b")
    fleet.wait(
        lambda: f"INFO {context.request_id} ann: somebody said {word}" in log.text,
        PATIENCE,
        f"{context.request_id} logged",
    )


def test_a_cast_that_its_host_was_too_late_for_is_dropped_and_says_so(fleet: Harness, word: str) -> None:
    log = next(process for process in fleet.processes if process.name == "b")

    log.kill()
    late = CallerManager.note.on("b").set(expires=1).cast(word)
    younger = CallerManager.note.on("b").set(expires=600).cast(f"{word}-younger")
    sent = time.time()
    fleet.wait(lambda: time.time() > sent + 1, PATIENCE, "expiry")
    start(fleet, "b")

    fleet.wait(written(fleet, f"{word}-younger", "b"), PATIENCE, "the younger one runs")
    assert word not in fleet.called("b", "note")
    fleet.wait(lambda: late.state == "REVOKED", PATIENCE, f"it is revoked, not {late.state}")
    said = f"Discarding revoked task: caller.note[{late.id}]"
    fleet.wait(lambda: said in fleet.processes[-1].text, PATIENCE, "it is said")
    assert younger.state != "REVOKED"
    fleet.wait(lambda: fleet.rows("caller")["b"].state == "up", PATIENCE, "b is up again")
