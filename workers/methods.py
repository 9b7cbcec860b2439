"""Exposed methods as Celery tasks: ``<service>.<method>``, run by the manager of the process that takes the message."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from celery.signals import task_revoked
from celery.worker.state import revoked

from managers.context import CONTEXT_HEADER, RequestContext, current_context
from managers.manager import Manager
from managers.methods import exposed_methods
from workers.errors import InvalidSettings
from workers.registry import Registry
from workers.remote import MethodTask, moment_of, refuse_late

#: Options of a task that Celery keeps nowhere on its class.
_RETRYING = (
    "autoretry_for",
    "dont_autoretry_for",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "retry_kwargs",
)


def register_methods(app: Celery, registry: Registry, manager_class: type[Manager[Any]]) -> None:
    """Register a task with *app* for each exposed method of *manager_class*."""
    service = manager_class.service_name
    for name, exposed in exposed_methods(manager_class):
        run = _body(registry, service, name)
        _look_like(run, name, exposed.method)
        register: Any = app.task(
            **exposed.options, name=f"{service}.{name}", base=MethodTask, shared=False, service=service
        )
        register(run)


def refuse_unknown_options(manager_class: type[Manager[Any]]) -> None:
    """Raise TypeError for an option of ``@expose`` that no method has: it would do nothing without a word.

    ``count`` is none: whoever calls a method waits for one answer.
    """
    known = [*(name for name in dir(MethodTask) if not name.startswith("_") and name != "count"), *_RETRYING]
    for method, exposed in exposed_methods(manager_class):
        for option in sorted(exposed.options.keys() - set(known)):
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"{manager_class.__qualname__}.{method} is exposed with {option!r}, which no method knows{hint}"
            )


def refuse_taken_names(app: Celery, manager_class: type[Manager[Any]]) -> None:
    """Raise InvalidSettings where *app* has a task of its own that bears the name of an exposed method.

    Celery keeps whichever was registered first; a worker looks here once all modules are imported.
    """
    for method, _ in exposed_methods(manager_class):
        name = f"{manager_class.service_name}.{method}"
        if not isinstance(app.tasks[name], MethodTask):
            raise InvalidSettings(
                f"the application has a task of its own named {name!r}, which is the name of the exposed method"
                f" {manager_class.__qualname__}.{method}; give one of them another name"
            )


def refuse_unwanted(task: Task[Any, Any]) -> None:
    """Raise Ignore if the request expired or was revoked while it waited for a slot: Celery has looked before that."""
    request: Any = task.request
    has_expired = request.expires is not None and moment_of(request.expires) <= task.app.now()
    if has_expired or request.id in revoked:
        task.backend.mark_as_revoked(request.id, "expired" if has_expired else "revoked", request=request)
        task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=has_expired)
        raise Ignore


@contextmanager
def entered(registry: Registry, task: str) -> Iterator[None]:
    """Give the block what *task*, under way in this process, needs: its context, and its application's database.

    Raises:
        Ignore: the request expired or was revoked while it waited for a slot.
        DeadlinePassed: it came with a deadline, which is over.
        InvalidContext: the header that it came with is no context.
    """
    running = registry.app.tasks[task]
    context = current_context()
    if context is None:  # sent by name, or with a header that is none
        carried = (running.request.headers or {}).get(CONTEXT_HEADER)
        context = RequestContext() if carried is None else RequestContext.from_dict(carried)
    with registry.database(), context.as_current():
        refuse_unwanted(running)
        refuse_late(running)
        yield


def _body(registry: Registry, service: str, name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with entered(registry, f"{service}.{name}"):
            return getattr(registry.own(service), name)(*args, **kwargs)

    return run


def _look_like(run: Any, name: str, method: Callable[..., Any]) -> None:
    """Give *run* the face of *method* less ``self``, by which Celery checks arguments at the caller."""
    signature = inspect.signature(method)
    run.__name__, run.__module__, run.__doc__ = name, method.__module__, method.__doc__
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])
