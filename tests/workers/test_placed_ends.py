"""How a worker tells of the end of what was placed, and a scheduler of what can't be."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.signals import before_task_publish
from kombu import Message

from scheduler.errors import NoValidHost
from scheduler.pending import Failing, Pending
from scheduler.placing import CLAIM_HEADER
from scheduler.task import ScheduledTask
from workers.adoption import celeriac_app
from workers.config import load_settings
from workers.dispatch import conclude
from workers.holding import Release
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


class Ended:
    """What a worker's main process is told."""

    def __init__(self) -> None:
        self.releases: list[Release | None] = []

    def ended(self, request: object, release: Release | None) -> None:
        self.releases.append(release)


def test_what_a_stopping_worker_returns_and_ends_keeps_its_claim_until_it_is_begun_anew(app: Celery) -> None:
    @app.task(base=ScheduledTask, name="ends.render", shared=False, requires="gpus > 0", acks_late=True)
    def render() -> None: ...

    registry_of(app).holding = ended = Ended()  # type: ignore[assignment]
    claim = {"id": "1", "attempt": 1, "task_id": "t"}
    headers = {"id": "t", "task": "ends.render", CLAIM_HEADER: claim}
    message = Message(body=b"[[], {}, {}]", headers=headers, delivery_info={}, properties={},
                      content_type="application/json", content_encoding="utf-8")  # fmt: skip
    request = PlacedRequest(message, app=app, task=app.tasks["ends.render"], on_reject=lambda *_: None)

    request.reject(requeue=True)
    request._already_cancelled = True
    try:
        sys.exit()
    except SystemExit:
        request.on_failure(ExceptionInfo())

    (release,) = ended.releases
    assert release is not None
    assert (release.claim, release.then) == (claim, "anew")
