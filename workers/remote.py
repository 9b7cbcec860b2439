"""Sending an exposed method: to any host of its service, to one, or to every one; and waiting for the answers."""

import inspect
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

from celery import Task, uuid
from celery.backends.base import DisabledBackend
from celery.result import AsyncResult
from celery.utils.serialization import raise_with_context
from celery.utils.time import maybe_make_aware
from kombu import Queue

from managers.answers import Fanout, has_arrived, refuse_to_wait, remote_error
from managers.arguments import check_arguments
from managers.context import CONTEXT_HEADER, RequestContext, current_context
from managers.errors import CallRefused, CallTimeout, DeadlinePassed, HostNotUp
from managers.remote import celery_options
from managers.routing import fanout_exchange, host_queue, service_queue
from scheduler.errors import TableUnavailable
from scheduler.hosts import member_of
from scheduler.task import ScheduledTask
from workers.fanouts import own_id
from workers.registry import Registry, registry_of

logger = logging.getLogger(__name__)

#: A property of messages for one host, on their way through Celery and no further; ``workers.expiry`` takes it off.
ONE_HOST = "celeriac_one_host"


class MethodTask(ScheduledTask):
    """A method of the manager of *service*.

    It goes to any of the service's hosts unless a queue names one, or its options say what it needs of its host.
    """

    abstract = True
    serializer = "json"
    typing = True  # wrong arguments fail at the caller, whatever the application thinks of that
    store_errors_even_if_ignored = True  # a cast that failed or expired can say so

    service: str  # pyright: ignore[reportIncompatibleVariableOverride]  # a method always is of one

    @classmethod
    def _said(cls) -> dict[str, Any]:
        """Return the placement options that ``@expose`` said; the service is what it is a method of."""
        return {name: value for name, value in super()._said().items() if name != "service"}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__header__" in vars(cls):
            # a link_error that takes several arguments Celery runs where the task failed, unless this is a partial
            cls.__header__ = staticmethod(partial(cls.__header__))

    @property
    def registry(self) -> Registry:
        """What the task's application knows."""
        return registry_of(self.app)

    def apply_async(  # type: ignore[override]  # Celery's own names for **options
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send; a message for one host expires after CAST_EXPIRES unless told otherwise.

        Raises:
            InvalidArguments: an argument would not arrive as it is.
        """
        if options.get("serializer", self.serializer) == "json":
            check_arguments(self.name, args or (), kwargs or {})
        if "exchange" not in options and not self.is_placed(options):
            self._address(options)
        if current_context() is not None or CONTEXT_HEADER in (options.get("headers") or {}):
            return cast("AsyncResult[Any]", super().apply_async(args, kwargs, **options))
        with RequestContext().as_current():
            return cast("AsyncResult[Any]", super().apply_async(args, kwargs, **options))

    def retry(  # type: ignore[override]  # Celery's own names for **options
        self, args: Any = None, kwargs: Any = None, exc: Any = None, **options: Any
    ) -> Any:
        """Celery's own; but where the next try would come after the message's expiry, nobody would hear of *exc*.

        Raises:
            Exception: *exc*, else MaxRetriesExceededError, if the message will have expired by then.
        """
        request = self.request
        if request.expires is None or "expires" in options:
            return super().retry(args, kwargs, exc, **options)
        at = options.get("eta")
        if not at:
            countdown = options.get("countdown")
            at = self.app.now() + timedelta(seconds=self.default_retry_delay if countdown is None else countdown)
        if maybe_make_aware(at) < moment_of(request.expires):
            return super().retry(args, kwargs, exc, **options)
        told = f"{self.name}[{request.id}] is not tried again: it expires at {request.expires}, before {at}"
        if exc:
            logger.warning("%s", told)
            raise_with_context(exc)
        raise self.MaxRetriesExceededError(told)

    def check(self, args: Any, kwargs: Any, *, partial: bool = False) -> None:
        """Raise what sending would raise for wrong arguments; of *partial* ones others may still come first."""
        if partial:
            inspect.signature(self.run).bind_partial(*args, **kwargs)
        else:
            self.__header__(*args, **kwargs)
        check_arguments(self.name, args, kwargs)

    def cast(self, args: Any, kwargs: Any, host: str | None, options: Mapping[str, Any]) -> AsyncResult[Any]:
        """Send to *host*, or to any host of the service; no result but a failure is kept."""
        return self._send(args, kwargs, host, celery_options({"ignore_result": True, **options}))

    def call(self, args: Any, kwargs: Any, host: str | None, options: Mapping[str, Any]) -> Any:
        """Send to *host*, or to any host of the service, and wait for the answer."""
        timeout = self._refuse_wait(options)
        receiver = f"{self.name} on {host or f'any host of {self.service}'}"
        for_celery = {"expires": timeout, **celery_options(options), "ignore_result": False}
        try:
            result = self._send(args, kwargs, host, for_celery)
        except RuntimeError as error:  # Celery subscribes to the result before it sends
            if not isinstance(error.__cause__, getattr(self.backend, "connection_errors", ())):
                raise
            reason = f"the result backend does not answer: {error.__cause__}"
            raise CallTimeout(f"{receiver} was not sent: {reason}") from error
        try:
            is_there = has_arrived(result, timeout)
        except CallTimeout as error:
            raise CallTimeout(f"{receiver} was sent, but {error}") from error.__cause__
        if not is_there:
            raise CallTimeout(
                f"{receiver} gave no answer within {timeout:g} s; it is not started any more; if it has begun it goes"
                " on. Set .set(timeout=...), or cast"
            )
        if result.successful():
            return result.result
        raise remote_error(result, receiver)

    def fanout(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Fanout[Any]:
        """Send to every live host of the service; where results are wanted, note who should answer."""
        settings = self.registry.settings
        is_ignored = options.get("ignore_result", False) or isinstance(self.backend, DisabledBackend)
        may_wait = options.get("may_wait", False)
        fanout_id = options.get("task_id") or uuid()
        for_celery = celery_options(options)
        refuse_late(self)
        if self.app.conf.task_always_eager:
            for_celery["task_id"] = own_id(fanout_id, self.registry.host)
            result = self.apply_async(args, kwargs, **for_celery)
            return Fanout(self.name, {self.registry.host: result}, timeout=None, may_wait=may_wait)
        present, unknown = (None, "its results are ignored or not kept") if is_ignored else self._present()
        exchange = fanout_exchange(self.service)
        self.apply_async(args, kwargs, **{
            "expires": _latest_start(options, settings.cast_expires),
            **for_celery,
            "task_id": fanout_id,
            "exchange": exchange,
            "exchange_type": "fanout",
            "routing_key": "",
            "declare": [exchange],
            # ignored here, where nothing will arrive under the shared id, but not there
            "ignore_result": True,
            "headers": {**(options.get("headers") or {}), "ignore_result": is_ignored},
        })  # fmt: skip
        return Fanout(
            self.name,
            None if present is None else {host: self.AsyncResult(own_id(fanout_id, host)) for host in present},
            absent=[host for host, is_present in (present or {}).items() if not is_present],
            unknown=unknown,
            timeout=options.get("timeout", settings.call_timeout),
            may_wait=may_wait,
        )  # fmt: skip

    def _send(self, args: Any, kwargs: Any, host: str | None, options: dict[str, Any]) -> AsyncResult[Any]:
        refuse_late(self)
        if host is not None:
            self._refuse_absent(host)
            options["queue"] = host_queue(self.service, host)
        return self.apply_async(args, kwargs, **options)

    def _address(self, options: dict[str, Any]) -> None:
        """Turn the name of one of the service's queues, none meaning any host's, into the queue itself."""
        queue = options.get("queue") or self.service
        name: str = queue.name if isinstance(queue, Queue) else queue
        service, _, host = name.partition(".")
        if service != self.service:
            return  # the caller's own choice
        options["queue"] = host_queue(service, host) if host else service_queue(service)
        # else a route for every task would lead it elsewhere
        options["exchange"], options["exchange_type"] = "", "direct"
        options[ONE_HOST] = bool(host)
        if host and options.get("expires") is None:
            options["expires"] = _latest_start(options, self.registry.settings.cast_expires)

    def _refuse_wait(self, options: Mapping[str, Any]) -> float | None:
        """Return the time-out of a call, else raise CallRefused where nobody should wait for its answer."""
        refuse_to_wait(self.name, may_wait=options.get("may_wait", False))
        if isinstance(self.backend, DisabledBackend) and not self.app.conf.task_always_eager:
            raise CallRefused(f"{self.name} can't answer: {self.app!r} has no result_backend. Set one, or use cast")
        timeout: float | None = options.get("timeout", self.registry.settings.call_timeout)
        return timeout

    def _refuse_absent(self, host: str) -> None:
        """Raise HostNotUp if *host* is known not to take work; where nobody can tell, the message expires."""
        if self.app.conf.task_always_eager:
            return
        try:
            absence = self.registry.table.absence(member_of(self.service, host))
            if absence is None:
                return
            present = self.registry.table.present(self.service) or {}
        except TableUnavailable as error:
            logger.warning("%s goes to %s unseen: %s", self.name, host, error)
            return
        up = ", ".join(sorted(name for name, is_up in present.items() if is_up))
        raise HostNotUp(
            f"{self.name} was not sent to {host!r}: {absence}. Hosts of {self.service!r} up: {up or 'none'}"
        )

    def _present(self) -> tuple[Mapping[str, bool] | None, str]:
        """Return the service's hosts, each with whether it takes work; else None, and why nobody can tell."""
        try:
            present = self.registry.table.present(self.service)
        except TableUnavailable as error:
            logger.warning("%s goes to every host, but who that is can't be told: %s", self.name, error)
            return None, f"the capability table was out of reach: {error}"
        return present, (
            "the capability table was younger than one heartbeat, as when a fleet starts, or had just been emptied;"
            " a heartbeat later it knows"
        )


def _latest_start(options: Mapping[str, Any], seconds: float) -> float | datetime:
    """Return the ``expires`` of a message that may wait *seconds* once it has waited for its countdown or eta."""
    eta = options.get("eta")
    if eta is None:
        return (options.get("countdown") or 0.0) + seconds
    return (datetime.fromisoformat(eta) if isinstance(eta, str) else eta) + timedelta(seconds=seconds)


def moment_of(expires: Any) -> datetime:
    """Return the ``expires`` of a request, which a message carries as text, for comparisons."""
    return maybe_make_aware(datetime.fromisoformat(expires) if isinstance(expires, str) else expires)


def refuse_late(task: Task[Any, Any]) -> None:
    """Raise DeadlinePassed if the current request's deadline is over."""
    context = current_context()
    now = task.app.now().timestamp()
    if context is not None and context.deadline is not None and context.deadline <= now:
        raise DeadlinePassed(
            f"{task.name} is not started: {context.request_id} had a deadline, {now - context.deadline:.1f} s ago"
        )
