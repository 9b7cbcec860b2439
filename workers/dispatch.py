"""What becomes of a request: a message to its host, or a result that says why there is none."""

import logging
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.signals import task_revoked
from celery.states import READY_STATES
from kombu.compression import decompress
from kombu.serialization import loads, prepare_accept_content

from managers.routing import host_queue
from scheduler.claims import Claim
from scheduler.envelope import body_of
from scheduler.errors import HostLost, InvalidPlacement, NoValidHost, SchedulerError
from scheduler.explain import parts
from scheduler.pending import Failing
from scheduler.placing import CLAIM_HEADER
from scheduler.task import ScheduledTask

logger = logging.getLogger(__name__)

#: A message that can't be sent now is not waited for: its claim is released, and it is placed anew.
_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


def dispatch(app: Celery, claim: Claim, message: Mapping[str, Any]) -> None:
    """Put a claimed task's message into its host's queue, under its claim.

    Raises:
        InvalidPlacement: the application has a task of that name which nothing would fence.
    """
    known = app.tasks.get(claim.task)
    if known is not None and not isinstance(known, ScheduledTask):
        raise InvalidPlacement(f"{claim.task} is no ScheduledTask, and only those can be placed")
    headers = {**message["headers"], "eta": None, CLAIM_HEADER: claim.to_header()}
    with app.producer_or_acquire() as producer:
        producer.publish(
            body_of(message),
            exchange="",
            routing_key=host_queue(claim.service, claim.host).name,
            content_type=message["content_type"],
            content_encoding=message["content_encoding"],
            headers=headers,
            retry=True,
            retry_policy=_RETRY_POLICY,
            **message["properties"],
        )


def conclude(app: Celery, failing: Failing) -> None:
    """Write the result of a task that can't be run, and have its errbacks and chord told, as a worker would."""
    request, message, embed = failing.request, failing.message, _embed_of(app, failing)
    context = Context({
        **message["headers"], **embed, "errbacks": embed.get("errbacks"), "correlation_id": request.task_id,
        "reply_to": message["properties"].get("reply_to"), "delivery_info": {},
    })  # fmt: skip
    backend = app.backend
    if failing.kind in {"expired", "revoked"}:
        backend.mark_as_revoked(request.task_id, failing.why, request=context, store_result=request.keeps_errors)
        if request.task in app.tasks:
            task_revoked.send(
                sender=app.tasks[request.task], request=context, terminated=False, signum=None,
                expired=failing.kind == "expired",
            )  # fmt: skip
        return
    if failing.kind == "lost":
        if request.keeps_errors and _has_ended(app, request.task_id):
            return  # it had ended, and only the word of that was lost
        error: SchedulerError = HostLost(f"{request.task} was lost: {failing.why}")
    else:
        error = NoValidHost(failing.why, parts(failing.why))
    logger.warning("%s[%s] fails: %s", request.task, request.task_id, error)
    backend.mark_as_failure(request.task_id, error, request=context, store_result=request.keeps_errors)


def _embed_of(app: Celery, failing: Failing) -> dict[str, Any]:
    """Return what a task's message says of its errbacks, chord and chain; nothing if this process can't read it."""
    message = failing.message
    try:
        body = body_of(message)
        if compression := message["headers"].get("compression"):
            body = decompress(body, compression)
        _, _, embed = loads(
            body, message["content_type"], message["content_encoding"],
            accept=prepare_accept_content(app.conf.accept_content),
        )  # fmt: skip
        return dict(embed)
    except Exception as error:  # noqa: BLE001  # serializers raise what they like, and it would be so for ever
        logger.error(  # noqa: TRY400
            "%s[%s] ends, but its errbacks and chord, if any, are not told: its message can't be read: %r",
            failing.request.task, failing.request.task_id, error,
        )  # fmt: skip
        return {}


def _has_ended(app: Celery, task_id: str) -> bool:
    """Return whether the result of a task is there; False where no results are kept."""
    try:
        return app.backend.get_state(task_id) in READY_STATES
    except NotImplementedError:
        return False
