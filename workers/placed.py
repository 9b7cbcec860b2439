"""Tasks that reached a host under a claim: the fence before they begin, and the word when they end."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]  # the types are older
from celery import Task
from celery.exceptions import Ignore, Reject, Retry, WorkerLostError
from celery.signals import task_unknown
from celery.worker.request import Request

from scheduler.claims import Claim, Claims
from scheduler.errors import InvalidPlacement, TableUnavailable
from scheduler.placing import CLAIM_HEADER
from workers.holding import Holding, Release
from workers.registry import Registry, is_adopted, registry_of

logger = logging.getLogger(__name__)

#: Seconds before a Redis that doesn't answer is asked again whether a task may begin.
RETRY = 1.0


class Fenced(Ignore):
    """Raised where a message's claim is gone, or was taken up before: whoever holds it now runs the task."""


@contextmanager
def under_claim(registry: Registry, task: Task[Any, Any]) -> Iterator[None]:
    """Give the block what is claimed for *task*, under way in this process; without a claim, just the block.

    Waits for a Redis that doesn't answer: where nobody can tell whether the claim holds, nothing may begin.

    Raises:
        Fenced: the claim is gone, or runs already.
        InvalidPlacement: the message's header is no claim.
    """
    header = (task.request.headers or {}).get(CLAIM_HEADER)
    if header is None or task.request.is_eager:
        yield
        return
    word = _word(Claims(registry.table), registry.host, Claim.from_header(header))
    if word != "go":
        logger.warning("%s[%s] is not run here: its claim is %s", task.name, task.request.id, word)
        raise Fenced(f"the claim is {word}")
    yield


def _word(claims: Claims, host: str, claim: Claim) -> str:
    begun_by = uuid.uuid4().hex
    while True:
        try:
            return claims.start(host, claim.id, claim.attempt, by=begun_by)
        except TableUnavailable as error:
            logger.warning("%s waits to begin: %s", claim.task_id, error)
            time.sleep(RETRY)


class PlacedRequest(Request):
    """A message on its way through a worker, which tells the claim that it runs under of its begin and end.

    Celery makes a subclass of it per task, whose methods call no parent's: they are wrapped as it is made.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        execute: Callable[..., Any] | None = vars(cls).get("execute_using_pool")
        if execute is not None:

            @wraps(execute)
            def execute_using_pool(self: "PlacedRequest", pool: Any, **kwargs: Any) -> Any:
                with self._handed_over():
                    return execute(self, pool, **kwargs)

            cls.execute_using_pool = execute_using_pool  # type: ignore[method-assign,assignment]
        succeed: Callable[..., Any] | None = vars(cls).get("on_success")
        if succeed is not None:

            @wraps(succeed)
            def on_success(self: "PlacedRequest", failed__retval__runtime: Any, **kwargs: Any) -> Any:
                try:
                    return succeed(self, failed__retval__runtime, **kwargs)
                finally:
                    if not failed__retval__runtime[0]:
                        self._end("done")

            cls.on_success = on_success  # type: ignore[method-assign,assignment]

    #: Whether its message waits in this host's queue once more.
    _is_returned = False

    @cached_property
    def _claim(self) -> Claim | None:
        header = self.request_dict.get(CLAIM_HEADER)
        try:
            return None if header is None else Claim.from_header(header)
        except InvalidPlacement as error:
            logger.error("%s[%s] will fail: %s", self.name, self.id, error)  # noqa: TRY400
            return None  # the fence says the same to whoever waits for its result

    @property
    def _holding(self) -> Holding | None:
        return registry_of(self.task.app).holding

    @property
    def _comes_again(self) -> bool:
        """Whether Celery left its message to its queue: gave it back, or never acknowledged it."""
        return self._is_returned or not self.acknowledged

    @contextmanager
    def _handed_over(self) -> Iterator[None]:
        """Note that the pool gets it: of what runs there, the main process may hear late."""
        if self._claim is not None and self._holding is not None:
            self._holding.took(self, self._claim)
        try:
            yield
        except BaseException:
            if self._holding is not None:
                self._holding.ended(self, None)
            raise

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """Note that the pool has it."""
        if self._claim is not None and self._holding is not None:
            self._holding.began(self, self._claim)
        super().on_accepted(pid, time_accepted)

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002
        """Note that the message is returned, as a stopping worker does with what it then ends."""
        self._is_returned |= requeue and not self.acknowledged
        super().reject(requeue=requeue)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Tell of an end by exception, which is also how Celery says retried, ignored, rejected and lost."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        try:
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        finally:
            self._end_by(error)

    def on_timeout(self, soft: bool, timeout: float) -> Any:  # noqa: FBT001
        """Tell of an end by the hard time limit."""
        try:
            return super().on_timeout(soft, timeout)
        finally:
            if not soft:
                self._end("failed", then=self._then, why=f"hard time limit of {timeout:g} s")

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> Any:  # noqa: FBT001
        try:
            return super()._announce_revoked(reason, terminated, signum, expired)  # type: ignore[misc]
        finally:
            self._end("expired" if expired else "revoked")

    def _end_by(self, error: BaseException) -> None:
        if isinstance(error, Fenced):
            if self._holding is not None:
                self._holding.ended(self, None)
        elif isinstance(error, Retry):
            self._end("retried")
        elif self._comes_again and (self._already_cancelled or isinstance(error, Reject)):  # type: ignore[attr-defined]
            self._end("returned", then="anew")
        elif isinstance(error, Ignore):
            self._end("ignored")
        elif isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            self._end("lost", then=self._then, why=str(error))
        else:
            self._end("failed", then=self._then, why=f"{type(error).__name__}: {error}")

    @property
    def _then(self) -> str:
        return "again" if self._comes_again else "over"

    def _end(self, outcome: str, **more: Any) -> None:
        if self._claim is not None and self._holding is not None:
            self._holding.ended(self, Release(self._claim, outcome, **more))


def watch_unknown_tasks() -> None:
    """Have this process end the claim of a message whose task its worker doesn't know: Celery fails it at once."""
    task_unknown.connect(_end_unknown, dispatch_uid="celeriac.placed")


def _end_unknown(*, sender: Any, message: Any, name: str, **_: Any) -> None:
    header = (message.headers or {}).get(CLAIM_HEADER)
    if header is None or not is_adopted(sender.app) or (holding := registry_of(sender.app).holding) is None:
        return
    try:
        claim = Claim.from_header(header)
    except InvalidPlacement:
        return  # what ends it is its deadline
    holding.tell(Release(claim, "failed", why=f"this host knows no task {name}"))


def tell_every_end(pool: Any) -> None:
    """Have *pool*, which is none of processes, tell a placed task's request of its end whatever raised.

    Where Celery itself fails after the task, as when its result can't be stored, these pools tell the request nothing:
    its claim would be held, and the worker's stop would wait for it.
    """
    apply = pool.on_apply

    def on_apply(target: Any, *args: Any, **options: Any) -> Any:
        if isinstance(getattr(options.get("callback"), "__self__", None), PlacedRequest):
            target = _answering(target)
        return apply(target, *args, **options)

    pool.on_apply = on_apply


def _answering(target: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(target)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return target(*args, **kwargs)
        except Exception:  # noqa: BLE001  # it becomes the request's
            return 1, ExceptionInfo(), 0.0  # as Celery says that a task failed, why, and how long it took

    return answering
