"""The answers to a fanout: who said what, whose method failed, and who said nothing."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from celery._state import get_current_worker_task
from celery.exceptions import BackendError, TaskRevokedError
from celery.exceptions import TimeoutError as ResultTimeout
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from managers.errors import CallRefused, CallTimeout, RemoteTraceback

logger = logging.getLogger(__name__)

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Answers(Generic[R_co]):
    """What came back by host, in time; ``silent`` names the hosts that should have answered and did not."""

    results: Mapping[str, R_co]
    errors: Mapping[str, BaseException]
    silent: tuple[str, ...]

    def __iter__(self) -> Iterator[tuple[str, R_co]]:
        """Yield (host, result) of those that answered."""
        return iter(self.results.items())


class Fanout(Generic[R_co]):
    """A message on its way to every host of a service.

    *results* has each host that the table knew when it was sent, None where nobody could say, and *unknown* why; the
    *absent* of them had missed their heartbeats or were draining: they are not waited for, but heard if they do answer.
    """

    def __init__(
        self,
        name: str,
        results: Mapping[str, AsyncResult[Any]] | None,
        *,
        absent: Iterable[str] = (),
        unknown: str = "nobody said",
        timeout: float | None,
        may_wait: bool = False,
    ) -> None:
        self.name = name
        self.results = results
        self._absent = tuple(absent)
        self._unknown = unknown
        self._timeout = timeout
        self._may_wait = may_wait

    def gather(self, timeout: float | None = None) -> Answers[R_co]:
        """Wait for every host that was present, and return what came back.

        Waits at most *timeout* seconds in all, by default those of the option or else the setting CALL_TIMEOUT.

        Raises:
            CallRefused: this is inside a task; or who should answer is not known: results are ignored or not
                kept, or the table was out of reach, or younger than a heartbeat, when this was sent.
        """
        refuse_to_wait(self.name, may_wait=self._may_wait)
        if self.results is None:
            raise CallRefused(
                f"{self.name} was sent to every host and may have run, but who should answer is not known:"
                f" {self._unknown}"
            )
        timeout = self._timeout if timeout is None else timeout
        ends = None if timeout is None else time.monotonic() + timeout
        results: dict[str, R_co] = {}
        errors: dict[str, BaseException] = {}
        silent: list[str] = []
        is_lost = False
        for host, result in sorted(self.results.items(), key=lambda entry: (entry[0] in self._absent, entry[0])):
            remaining = 0.0 if host in self._absent else None if ends is None else ends - time.monotonic()
            try:
                is_there = not is_lost and has_arrived(result, remaining)
            except CallTimeout as error:  # asking for each of the others would take as long again
                logger.warning("%s: %s", self.name, error)
                is_there, is_lost = False, True
            if not is_there:
                silent.append(host)
            elif result.successful():
                results[host] = cast("R_co", result.result)
            else:
                errors[host] = remote_error(result, f"{self.name} on {host}")
        return Answers(results, errors, tuple(sorted(silent)))


def refuse_to_wait(name: str, *, may_wait: bool) -> None:
    """Raise CallRefused inside a task, unless the caller took it upon them.

    A task that waits holds its slot: pools whose tasks wait for one another's slots wait for ever.
    """
    task = get_current_worker_task()
    if task is not None and not may_wait:
        raise CallRefused(
            f"{task.name} is a task and must not wait for {name}: the answer may need the slot that this task holds,"
            " and both would wait for ever. Use cast, or a chain with .s(); a periodic task holds no slot and may call;"
            " or say .set(may_wait=True) if the answer never needs a slot of a pool whose tasks wait"
        )


def has_arrived(result: AsyncResult[Any], timeout: float | None) -> bool:
    """Wait up to *timeout* seconds for *result*, None for ever; return whether it is there.

    Raises:
        CallTimeout: the result backend doesn't answer. That may take a socket's time-out, or that of its retries, more.
    """
    backend: Any = result.backend
    try:
        if timeout is not None and timeout <= 0:
            return result.ready()
        try:
            result.get(timeout=timeout, propagate=False, disable_sync_subtasks=False)
        except ResultTimeout:
            backend.remove_pending_result(result)  # else the process stays subscribed to it for ever
            return False
    except (OSError, RuntimeError, OperationalError, BackendError, *getattr(backend, "connection_errors", ())) as error:
        # one of Celery's RuntimeErrors says "must be restarted", which is not so, and has the connection's as its cause
        if isinstance(error, RuntimeError) and "Retry limit exceeded" not in str(error):
            raise
        with suppress(Exception):
            backend.remove_pending_result(result)
        raise CallTimeout(f"the result backend does not answer: {error.__cause__ or error}") from error
    return True


def remote_error(result: AsyncResult[Any], what: str) -> BaseException:
    """Return the exception of a failed *result* of *what*, its cause being the traceback where it was raised."""
    error: BaseException = result.result
    if isinstance(error, TaskRevokedError) and error.args == ("expired",):
        return CallTimeout(
            f"{what} was not run: it had expired when it arrived at the host: it waited too long, or the clocks of the"
            " two machines differ; see celeriac doctor"
        )
    if result.traceback:
        error.__cause__ = RemoteTraceback(result.traceback)
    return error
