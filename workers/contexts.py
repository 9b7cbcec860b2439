"""Request contexts on their way: from the sender into the headers, and current where the task runs.

Every message that an adopted application sends while a context is current carries it, those of retries and of the later
steps of a canvas too, which a worker sends for the task that it has just run.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from celery import Celery
from celery._state import get_current_worker_task
from celery.signals import after_setup_logger, after_setup_task_logger, task_postrun, task_prerun

from managers.context import CONTEXT_HEADER, ContextFilter, RequestContext, current_context
from managers.errors import DeadlinePassed, InvalidContext
from workers.registry import is_adopted

logger = logging.getLogger(__name__)

_BLOCK = "_celeriac_context"


def carry_contexts(app: Celery) -> None:
    """Have *app* send the current context along, and make what came along current in its tasks.

    ``send_task`` is where all messages of one application pass, and of that one only; Celery's signals don't say which
    application sends.
    """
    send_task = app.send_task

    @wraps(send_task)
    def send_with_context(name: str, *args: Any, **options: Any) -> Any:
        context = current_context()
        if context is not None:
            headers = options.get("headers") or {}
            options["headers"] = {CONTEXT_HEADER: context.to_dict(), **headers}
            if context.deadline is not None and not options.get("retries"):  # a retry has it in its expires already
                options["expires"] = _sooner(options.get("expires"), context.deadline, name, app.now())
        return send_task(name, *args, **options)

    app.send_task = send_with_context  # type: ignore[method-assign]
    task_prerun.connect(_enter, dispatch_uid="celeriac.context")
    task_postrun.connect(_leave, dispatch_uid="celeriac.context")
    for signal in (after_setup_logger, after_setup_task_logger):
        signal.connect(_name_context, dispatch_uid="celeriac.context")


def _sooner(expires: Any, deadline: float, name: str, now: datetime) -> Any:
    """Return the sooner of *expires*, in any of Celery's forms, and *deadline*."""
    if deadline <= now.timestamp() and get_current_worker_task() is None:
        raise DeadlinePassed(
            f"{name} is not sent: the deadline of its request passed {now.timestamp() - deadline:.1f} s ago"
        )
    if isinstance(expires, str):
        expires = datetime.fromisoformat(expires)
    if isinstance(expires, datetime):
        until = (expires if expires.tzinfo else expires.replace(tzinfo=now.tzinfo)).timestamp()
    else:
        until = deadline if expires is None else now.timestamp() + expires
    return datetime.fromtimestamp(min(until, deadline), UTC)


def _enter(*, task: Any, **_: Any) -> None:
    """Make the context that came with *task*'s message current; called in the process and thread that runs it."""
    headers: Mapping[str, Any] = task.request.headers or {}
    if CONTEXT_HEADER not in headers or not is_adopted(task.app):
        return
    try:
        block = RequestContext.from_dict(headers[CONTEXT_HEADER]).as_current()
    except InvalidContext as error:
        logger.warning("%s runs without the context it came with: %s", task.name, error)
    else:
        block.__enter__()
        setattr(task.request, _BLOCK, block)


def _leave(*, task: Any, **_: Any) -> None:
    block = getattr(task.request, _BLOCK, None)
    if block is not None:
        block.__exit__(None, None, None)


def _name_context(*, logger: Any, **_: Any) -> None:
    for handler in logger.handlers:
        if not any(isinstance(known, ContextFilter) for known in handler.filters):
            handler.addFilter(ContextFilter())
