"""How a worker tells of the end of what was placed, and a scheduler of what can't be."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.signals import before_task_publish
from kombu import Message

from scheduler.errors import NoValidHost
from scheduler.pending import Pending
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


def test_a_task_without_a_host_has_its_errbacks_sent(app: Celery) -> None:
    @app.task(base=ScheduledTask, name="ends.render", shared=False, requires="gpus > 0")
    def render() -> None: ...

    @app.task(name="ends.tell", shared=False)
    def tell(task_id: str) -> None: ...

    result = render.apply_async(link_error=tell.s())
    pending = Pending(registry_of(app).table)
    (unit,) = pending.all()
    pending.fail(unit, "timeout", "no valid host")
    (failing,) = pending.failing()
    sent: list[Any] = []

    def note(sender: str, body: Any, **_: Any) -> None:
        sent.append((sender, tuple(body[0])))

    before_task_publish.connect(note)

    try:
        conclude(app, failing)
    finally:
        before_task_publish.disconnect(note)

    assert sent == [("ends.tell", (result.id,))]
    assert isinstance(result.result, NoValidHost)


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
    assert (release.claim, release.then, release.seconds) == (claim, "returned", 30.0)
