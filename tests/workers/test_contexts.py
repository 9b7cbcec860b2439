"""A request's context is current wherever its work goes, and its deadline holds there."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chord, group
from celery.signals import before_task_publish

from managers import ContextFilter, DeadlinePassed, InvalidContext, RequestContext, current_context
from managers.context import CONTEXT_HEADER
from tests.workers.network import NetworkManager, warnings
from workers.contexts import _name_context
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]

ANN = RequestContext(user="ann", project="red", roles=("member",), request_id="req-1")


@pytest.fixture
def seen(cluster: Cluster) -> list[str]:
    """Users whose context was current in an ordinary task, "-" for none."""
    return []


@pytest.fixture
def ordinary(cluster: Cluster, here: NetworkManager, seen: list[str]) -> Any:
    @cluster.app.task(name="ordinary")
    def ordinary(*_: Any) -> str:
        context = current_context()
        seen.append((context and context.user) or "-")
        return seen[-1]

    return ordinary.s().set(queue="network")


def users(manager: NetworkManager) -> list[str | None]:
    return [context and context.user for context in manager.calls]


# Travelling


def test_the_callers_context_is_current_in_the_method_whole(here: NetworkManager) -> None:
    with ANN.as_current():
        assert NetworkManager.whoami.on("here").call() == ANN.to_dict()
        NetworkManager.whoami.on("here").cast()
        NetworkManager.whoami.fanout()
        NetworkManager.whoami.on("here").delay()
        NetworkManager.whoami.on("here").s().apply_async()

    assert here.calls == [ANN] * 5
    assert current_context() is None


def test_where_there_is_no_context_each_message_begins_a_request(here: NetworkManager) -> None:
    for _ in range(2):
        NetworkManager.whoami.on("here").cast()

    first, second = here.calls
    assert first.request_id.startswith("req-")
    assert first.request_id != second.request_id
    assert (first.user, first.is_admin) == (None, False)


def test_a_method_sent_by_its_name_begins_a_request(cluster: Cluster, here: NetworkManager) -> None:
    cluster.app.send_task("network.whoami", queue="network.here")

    assert here.calls[0].request_id.startswith("req-")


def test_copies_of_a_fanout_share_a_request(here: NetworkManager, there: NetworkManager) -> None:
    NetworkManager.whoami.fanout()

    assert here.calls == there.calls != [None]


def test_a_retry_is_of_the_same_request(cluster: Cluster, there: NetworkManager) -> None:
    there.faults = [OSError("busy")]

    with ANN.as_current():
        NetworkManager.insist.on("there").cast()
    cluster.advance(30)

    assert [sent.headers[CONTEXT_HEADER] for sent in cluster.casts] == [ANN.to_dict()] * 2


@pytest.mark.parametrize(
    "canvas",
    [
        lambda who, task: who.si() | task | who.si(),
        lambda who, task: group(who.si(), task, who.si()),
        lambda who, task: chord([who.si(), task], who.si()),
        lambda who, task: chord([task, task], who.si()) | task | who.si(),
        lambda who, task: who.si().set(link=[task, who.si()]),
        lambda who, task: NetworkManager.fail.si().set(link_error=[task, who.si()]),
    ],
    ids=["chain", "group", "chord", "chord in a chain", "link", "link_error"],
)
def test_all_parts_of_a_canvas_are_of_the_same_request_ordinary_tasks_too(
    here: NetworkManager, ordinary: Any, seen: list[str], canvas: Callable[..., Any]
) -> None:
    with ANN.as_current():
        canvas(NetworkManager.whoami.on("here"), ordinary).apply_async()

    assert set(here.calls) == {ANN}
    assert set(seen) == {"ann"}


def test_what_a_method_sends_is_of_its_callers_request(cluster: Cluster, there: NetworkManager) -> None:
    @cluster.app.task
    def relay() -> None:
        NetworkManager.whoami.on("there").cast()

    with ANN.as_current():
        relay.apply_async(queue="network")

    assert there.calls == [ANN]


def test_messages_of_two_requests_do_not_mix(cluster: Cluster, here: NetworkManager) -> None:
    with cluster.hold():
        for user in ("ann", "bob", "cid"):
            with RequestContext(user=user).as_current():
                NetworkManager.whoami.on("here").cast()
        NetworkManager.whoami.on("here").cast()

    assert users(here) == ["ann", "bob", "cid", None]


def test_an_ordinary_task_sent_outside_of_any_request_has_no_context(ordinary: Any, seen: list[str]) -> None:
    ordinary.apply_async()

    assert seen == ["-"]


def test_a_header_of_the_callers_own_outweighs_the_current_context(here: NetworkManager) -> None:
    with ANN.as_current():
        NetworkManager.whoami.on("here").set(headers={CONTEXT_HEADER: {"user": "bob"}}).cast()

    assert users(here) == ["bob"]


def test_an_application_that_was_not_adopted_sends_and_takes_none(cluster: Cluster) -> None:
    stranger = Celery("stranger", broker="memory://", set_as_current=False)
    sent: list[dict[str, Any]] = []
    contexts: list[RequestContext | None] = []

    @stranger.task(shared=False)
    def task() -> None:
        contexts.append(current_context())

    def note(headers: dict[str, Any], **_: Any) -> None:
        sent.append(headers)

    before_task_publish.connect(note)
    with ANN.as_current():
        task.delay()
    before_task_publish.disconnect(note)
    task.apply(headers={CONTEXT_HEADER: ANN.to_dict()})

    assert CONTEXT_HEADER not in sent[0]
    assert contexts == [None]
    stranger.close()


def test_a_context_ends_with_its_task_whoever_keeps_the_request(cluster: Cluster) -> None:
    kept: list[Any] = []

    @cluster.app.task(bind=True)
    def work(task: Any) -> str | None:
        kept.append(task.request)
        context = current_context()
        return context and context.user

    assert work.apply(headers={CONTEXT_HEADER: ANN.to_dict()}).get() == "ann"

    assert kept
    assert current_context() is None


# Headers that are none


@pytest.mark.parametrize(
    "header",
    [
        {"roles": 5},
        {"user": "x" * 10_000_000},
        {"deadline": float("nan")},
        {"deadline": float("inf")},
        {"request_id": None},
        {"is_admin": "yes"},
        "ann",
        ["user", "ann"],
        5,
        "",
        False,
    ],
    ids=lambda header: repr(header)[:30],
)
def test_a_malformed_context_fails_a_method_only_warns_for_a_task_and_harms_no_host(
    cluster: Cluster,
    here: NetworkManager,
    ordinary: Any,
    header: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = {CONTEXT_HEADER: header}

    method = NetworkManager.whoami.on("here").apply_async(headers=headers)
    task = ordinary.apply_async(headers=headers)

    assert isinstance(method.result, InvalidContext)
    assert len(str(method.result)) < 300
    assert here.calls == []
    assert task.result == "-"
    assert "ordinary runs without the context it came with" in warnings(caplog)[-1]
    assert len(warnings(caplog)[-1]) < 300
    assert NetworkManager.attach.on("here").call(7) == "here"
    assert current_context() is None


# Deadlines


def test_a_deadline_that_passed_is_refused_at_the_caller(cluster: Cluster, here: NetworkManager, ordinary: Any) -> None:
    before = len(cluster.sent)

    with RequestContext(request_id="req-1", deadline=cluster.app.now().timestamp() - 5).as_current():
        for send in (
            NetworkManager.whoami.call,
            NetworkManager.whoami.cast,
            NetworkManager.whoami.fanout,
            NetworkManager.whoami.delay,
            ordinary.apply_async,
        ):
            with pytest.raises(DeadlinePassed, match=r"5\.0 s ago"):
                send()

    assert len(cluster.sent) == before


def test_a_message_is_not_started_after_its_deadline(cluster: Cluster, ordinary: Any, seen: list[str]) -> None:
    with RequestContext(deadline=cluster.app.now().timestamp() + 20).as_current(), cluster.hold():
        cluster.fail("here")
        cluster.fail("there")
        method, task = NetworkManager.whoami.on("here").delay(), ordinary.apply_async()
    cluster.advance(21)

    (manager,) = cluster.restart("here")

    assert isinstance(manager, NetworkManager)
    assert (manager.calls, seen) == ([], [])
    assert (method.state, task.state) == ("REVOKED", "REVOKED")


def test_a_method_whose_message_does_not_expire_looks_at_the_deadline_itself(
    cluster: Cluster, here: NetworkManager
) -> None:
    late = {CONTEXT_HEADER: {"request_id": "req-1", "deadline": cluster.app.now().timestamp() - 3}}

    result = NetworkManager.whoami.on("here").apply_async(headers=late)

    assert isinstance(result.result, DeadlinePassed)
    assert "req-1 had a deadline, 3.0 s ago" in str(result.result)
    assert here.calls == []


def test_a_step_that_comes_after_the_deadline_is_not_started(cluster: Cluster, here: NetworkManager) -> None:
    @cluster.app.task
    def dawdle() -> None:
        cluster._timeline._now += 60

    with RequestContext(deadline=cluster.app.now().timestamp() + 30).as_current():
        result = (dawdle.si().set(queue="network") | NetworkManager.whoami.on("here").si())()

    assert result.parent.state == "SUCCESS"
    assert result.state == "REVOKED"
    assert here.calls == []


def test_a_retry_keeps_the_deadline(cluster: Cluster, there: NetworkManager) -> None:
    there.faults = [OSError("busy")] * 3

    with RequestContext(deadline=cluster.app.now().timestamp() + 45).as_current():
        result = NetworkManager.insist.on("there").delay("again")
    cluster.advance(90)

    assert there.calls == ["again"] * 2
    assert isinstance(result.result, OSError)  # rather than a third try that nobody would have


@pytest.mark.parametrize(("seconds", "expected"), [(20, 20), (100, 50)])
@pytest.mark.parametrize(
    "form",
    [
        lambda now, seconds: seconds,
        lambda now, seconds: float(seconds),
        lambda now, seconds: now + timedelta(seconds=seconds),
        lambda now, seconds: (now + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=9))),
        lambda now, seconds: (now + timedelta(seconds=seconds)).replace(tzinfo=None),
        lambda now, seconds: (now + timedelta(seconds=seconds)).isoformat(),
        lambda now, seconds: (now + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(),
    ],
    ids=["int", "float", "aware", "aware elsewhere", "naive", "text", "naive text"],
)
def test_the_sooner_of_expiry_and_deadline_counts(
    cluster: Cluster, ordinary: Any, form: Callable[..., Any], seconds: float, expected: float
) -> None:
    now = cluster.app.now()

    with RequestContext(deadline=now.timestamp() + 50).as_current():
        ordinary.apply_async(expires=form(now, seconds))

    assert datetime.fromisoformat(cluster.sent[-1].headers["expires"]) == now + timedelta(seconds=expected)


def test_a_naive_expiry_is_by_the_applications_clock_not_the_machines(
    cluster: Cluster, ordinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = cluster.app.now()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()

    with RequestContext(deadline=now.timestamp() + 50).as_current():
        ordinary.apply_async(expires=(now + timedelta(seconds=20)).replace(tzinfo=None))
    monkeypatch.undo()
    time.tzset()

    assert datetime.fromisoformat(cluster.sent[-1].headers["expires"]) == now + timedelta(seconds=20)


def test_without_an_expiry_the_deadline_is_it(cluster: Cluster, ordinary: Any) -> None:
    now = cluster.app.now()

    with RequestContext(deadline=now.timestamp() + 50).as_current():
        ordinary.apply_async()
        assert datetime.fromisoformat(cluster.sent[-1].headers["expires"]) == now + timedelta(seconds=50)
    with ANN.as_current():
        ordinary.apply_async()
        assert cluster.sent[-1].headers["expires"] is None


# Log records


def test_what_a_method_logs_says_who_asked(cluster: Cluster, here: NetworkManager) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.addFilter(ContextFilter())
    handler.setFormatter(logging.Formatter("%(request_id)s %(user)s %(project)s %(message)s"))
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("users")
    logger.addHandler(handler)

    @cluster.app.task
    def work() -> None:
        logger.error("worked")

    with ANN.as_current():
        work.apply_async(queue="network.here")
    work.apply_async(queue="network.here")
    logger.removeHandler(handler)

    assert lines == ["req-1 ann red worked", "- - - worked"]


def test_the_handlers_that_celery_sets_up_get_the_filter_once() -> None:
    handler = logging.NullHandler()

    for _ in range(2):
        _name_context(logger=SimpleNamespace(handlers=[handler]))

    assert [type(known) for known in handler.filters] == [ContextFilter]
