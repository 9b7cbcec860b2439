"""How a worker tells of the end of what was placed, and a scheduler of what can't be."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated
from celery import Celery
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.signals import before_task_publish, task_unknown
from celery.utils.imports import symbol_by_name
from celery.worker.request import Request, create_request_cls
from kombu import Message

from scheduler.claims import Claim
from scheduler.errors import InvalidPlacement, NoValidHost
from scheduler.pending import Failing, Pending
from scheduler.placing import CLAIM_HEADER
from scheduler.task import ScheduledTask
from workers.adoption import celeriac_app
from workers.config import load_settings
from workers.dispatch import conclude, dispatch
from workers.holding import Holding, Release
from workers.placed import PlacedRequest
from workers.registry import registry_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Celery]:
    app = Celery("ends", broker="memory://", backend="cache+memory://", set_as_current=False)
    settings = load_settings(table_url=f"memory://{tmp_path}", dir=str(tmp_path), host="here")
    yield celeriac_app(app, settings=settings)
    app.close()


def render(app: Celery, kind: str, **options: Any) -> tuple[Any, Failing]:
    """Return the result of a task that fails, and its end that is to be told."""

    def render() -> None: ...

    task = app.task(base=ScheduledTask, name="ends.render", shared=False, requires="gpus > 0")(render)
    result = task.apply_async(**options)
    pending = Pending(registry_of(app).table)
    (unit,) = pending.all()
    pending.fail(unit, kind, "no valid host")
    (failing,) = pending.failing()
    return result, failing


def tell(app: Celery) -> Any:
    """Return an errback of the kind that is sent."""

    def tell(task_id: str) -> None: ...

    return app.task(name="ends.tell", shared=False)(tell).s()


@contextmanager
def noted() -> Iterator[list[Any]]:
    """Note the tasks that are sent."""
    sent: list[Any] = []

    def note(sender: str, body: Any, **_: Any) -> None:
        sent.append((sender, tuple(body[0])))

    before_task_publish.connect(note)
    try:
        yield sent
    finally:
        before_task_publish.disconnect(note)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_task_without_a_host_has_its_errbacks_sent(app: Celery, compression: str | None) -> None:
    result, failing = render(app, "timeout", link_error=tell(app), compression=compression)

    with noted() as sent:
        conclude(app, failing)

    assert sent == [("ends.tell", (result.id,))]
    assert isinstance(result.result, NoValidHost)


def test_a_message_that_a_scheduler_may_not_read_fails_all_the_same(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    result, failing = render(app, "timeout", link_error=tell(app), serializer="pickle")

    with noted() as sent:
        conclude(app, failing)

    assert sent == []
    assert isinstance(result.result, NoValidHost)
    assert f"ends.render[{result.id}] ends, but its errbacks and chord, if any, are not told" in caplog.text


def test_a_lost_task_has_its_errbacks_sent_where_no_results_are_kept(tmp_path: Path) -> None:
    app = Celery("ends", broker="memory://", set_as_current=False)
    celeriac_app(app, settings=load_settings(table_url=f"memory://{tmp_path}", dir=str(tmp_path), host="here"))
    result, failing = render(app, "lost", link_error=tell(app))

    with noted() as sent:
        conclude(app, failing)
    app.close()

    assert sent == [("ends.tell", (result.id,))]


@pytest.mark.parametrize(("state", "then", "errbacks"), [("SUCCESS", "SUCCESS", 0), ("STARTED", "FAILURE", 1)])
def test_a_lost_task_that_had_ended_keeps_its_result_and_calls_no_errback(
    app: Celery, state: str, then: str, errbacks: int
) -> None:
    result, failing = render(app, "lost", link_error=tell(app))
    app.backend.store_result(result.id, None, state)

    with noted() as sent:
        conclude(app, failing)

    assert (result.state, len(sent)) == (then, errbacks)


class Ended(Holding):
    """What a worker's main process is told."""

    def __init__(self) -> None:
        super().__init__("here", Mock())
        self.releases: list[Release | None] = []

    def ended(self, request: object, release: Release | None) -> None:
        super().ended(request, None)
        self.releases.append(release)

    def tell(self, release: Release) -> None:
        self.releases.append(release)


@pytest.fixture
def ended(app: Celery) -> Ended:
    registry_of(app).holding = ended = Ended()
    return ended


HEADER = {
    "id": "1", "attempt": 1, "task_id": "t", "task": "ends.render", "service": "host", "host": "here",
    "is_late": True, "amounts": {},
}  # fmt: skip


def received(app: Celery, *, header: Any = HEADER, pool: Any = None, **options: Any) -> Any:
    """Return a message of a task with *options*, as a worker whose pool is *pool* makes it."""

    def run() -> None: ...

    app.task(**{"base": ScheduledTask, "name": "ends.render", "shared": False, "requires": "gpus > 0", **options})(run)
    headers = {"id": uuid.uuid4().hex, "task": "ends.render", CLAIM_HEADER: header}
    message = Message(body=b"[[], {}, {}]", headers=headers, delivery_info={}, properties={},
                      content_type="application/json", content_encoding="utf-8")  # fmt: skip
    task = app.tasks["ends.render"]
    kind = create_request_cls(symbol_by_name(task.Request), task, pool or Mock(), "celery@here", None, app=app)
    return kind(message, app=app, task=task, on_reject=lambda *_: None)


def raised(error: BaseException) -> ExceptionInfo:
    try:
        raise error  # noqa: TRY301
    except BaseException:  # noqa: BLE001  # as a pool's process does
        return ExceptionInfo()


def test_what_a_stopping_worker_returns_and_ends_is_placed_anew_and_nobody_to_blame(app: Celery, ended: Ended) -> None:
    request = received(app, acks_late=True)

    request.reject(requeue=True)
    request._already_cancelled = True
    request.on_failure(raised(SystemExit()))

    assert ended.releases == [Release(Claim.from_header(HEADER), "returned", then="anew")]


def test_what_is_cancelled_with_its_connection_is_placed_anew_and_nobody_to_blame(app: Celery, ended: Ended) -> None:
    request = received(app, acks_late=True)

    request._already_cancelled = True
    request.on_failure(raised(Terminated(15)))

    assert [(one.outcome, one.then) for one in ended.releases if one] == [("returned", "anew")]


@pytest.mark.parametrize(
    ("options", "is_stored", "then"),
    [
        ({"acks_late": True, "reject_on_worker_lost": True}, False, "again"),
        ({"acks_late": True, "reject_on_worker_lost": True}, True, "over"),
        ({"acks_late": True, "reject_on_worker_lost": True, "retry_on_worker_lost": True}, False, "over"),
        ({"acks_late": True}, False, "over"),
    ],
)
def test_a_task_whose_process_died_runs_again_only_if_celery_gave_its_message_back(
    app: Celery, ended: Ended, options: dict[str, Any], *, is_stored: bool, then: str
) -> None:
    request = received(app, **options)
    request.on_accepted(1, 0.0)
    if is_stored:
        app.backend.mark_as_done(request.id, None)

    request.on_failure(raised(WorkerLostError("signal 9")))

    assert [(one.outcome, one.then) for one in ended.releases if one] == [("lost", then)]


@pytest.mark.parametrize("is_told_first", [False, True])
@pytest.mark.parametrize(("acks", "then"), [(False, "again"), (True, "over")])
def test_a_task_over_its_hard_time_limit_runs_again_only_if_celery_gave_its_message_back(
    app: Celery, ended: Ended, *, acks: bool, then: str, is_told_first: bool
) -> None:
    request = received(app, acks_late=True, acks_on_timeout=acks)
    request.on_accepted(1, 0.0)

    if is_told_first:
        request.on_failure(raised(TimeLimitExceeded(5.0)))
    request.on_timeout(soft=False, timeout=5.0)

    assert {(one.outcome, one.then) for one in ended.releases if one} == {("failed", then)}


def test_a_claim_ends_with_its_task_whatever_celery_raises_then(app: Celery, ended: Ended) -> None:
    request = received(app, acks_late=True)
    request.on_accepted(1, 0.0)
    request._on_ack = Mock(side_effect=OSError("the channel is gone"))

    with pytest.raises(OSError, match="the channel is gone"):
        request.on_success((False, None, 0.1))

    assert [(one.outcome, one.then) for one in ended.releases if one] == [("done", "over")]


def test_what_is_handed_to_the_pool_is_held_before_the_pool_says_so(app: Celery, ended: Ended) -> None:
    held: list[Any] = []
    pool = Mock()
    pool.apply_async.side_effect = lambda *_, **__: held.append(ended.running())
    request = received(app, pool=pool)

    request.execute_using_pool(pool)

    assert held == [[{**HEADER, "is_begun": False}]]
    assert ended.running() == held[0]


def test_what_the_pool_does_not_take_is_not_held(app: Celery, ended: Ended) -> None:
    pool = Mock()
    pool.apply_async.side_effect = RuntimeError("the pool is not running")
    request = received(app, pool=pool)

    with pytest.raises(RuntimeError):
        request.execute_using_pool(pool)

    assert ended.running() == []


def test_the_claim_of_a_task_that_its_host_does_not_know_ends_at_once(app: Celery, ended: Ended) -> None:
    message = Message(headers={"id": "t", "task": "ends.render", CLAIM_HEADER: HEADER})

    task_unknown.send(sender=Mock(app=app), message=message, exc=KeyError(), name="ends.render", id="t")

    (release,) = ended.releases
    assert release is not None
    assert (release.claim, release.outcome, release.then) == (Claim.from_header(HEADER), "failed", "over")
    assert release.why == "this host knows no task ends.render"


def test_a_task_that_nothing_would_fence_is_not_sent(app: Celery) -> None:
    def plain() -> None: ...

    app.task(name="ends.render", shared=False)(plain)

    with pytest.raises(InvalidPlacement, match=r"ends\.render is no ScheduledTask"):
        dispatch(app, Claim.from_header(HEADER), {})


@pytest.mark.parametrize("header", [5, {}, {**HEADER, "attempt": "1"}])
def test_a_message_whose_claim_is_none_fails_and_says_so(
    app: Celery, ended: Ended, header: Any, caplog: pytest.LogCaptureFixture
) -> None:
    request = received(app, header=header)

    request.on_accepted(1, 0.0)
    request.execute()

    result = app.AsyncResult(request.id)
    assert isinstance(result.result, InvalidPlacement)
    assert f"ends.render[{request.id}] will fail" in caplog.text
    assert request.acknowledged
    request.on_failure(raised(result.result))
    assert (ended.running(), ended.releases) == ([], [])


class OwnRequest(Request):
    """An application's own."""

    def on_failure(self, exc_info: Any, **_: Any) -> None:  # type: ignore[override]
        self.own = exc_info


class OwnPlacedRequest(PlacedRequest):
    """An application's own, of ours."""


class Mixin:
    Request = "tests.workers.test_placed_ends:OwnRequest"


class OfMixin(Mixin, ScheduledTask):  # type: ignore[misc]
    abstract = True


@pytest.mark.parametrize("options", [{"Request": OwnRequest}, {"Request": Mixin.Request}, {"base": OfMixin}])
def test_a_request_class_of_the_application_has_the_claim_told_nonetheless(
    app: Celery, ended: Ended, options: dict[str, Any]
) -> None:
    request = received(app, **options)
    request.on_accepted(1, 0.0)
    assert [claim["id"] for claim in ended.running()] == ["1"]

    request.on_failure(error := raised(KeyError("gone")))

    assert request.own is error
    assert [(one.outcome, one.then) for one in ended.releases if one] == [("failed", "over")]


def test_a_request_class_of_ours_is_used_as_it_is(app: Celery) -> None:
    assert isinstance(received(app, Request=OwnPlacedRequest), OwnPlacedRequest)
    assert app.tasks["ends.render"].Request is OwnPlacedRequest


@pytest.mark.parametrize("own", [dict, "collections:OrderedDict"])
def test_a_request_class_that_is_none_is_refused_by_its_task(app: Celery, own: Any) -> None:
    with pytest.raises(TypeError, match=r"the Request of ends\.render is .*, and no class of celery\.worker\.request"):
        received(app, Request=own)
