"""How an application's tasks are handed over to be placed; and what a worker has for those that reach it."""

import difflib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from celery import Celery, Task
from kombu.exceptions import OperationalError

from managers.errors import NotAdopted
from managers.routing import service_queue
from scheduler.errors import TableUnavailable
from scheduler.pending import Pending
from scheduler.requests import Request
from scheduler.snapshot import HOST_SERVICE
from scheduler.table import Table

logger = logging.getLogger(__name__)

#: The task that tells a scheduler of requests: of a shape that some wait under, or of the requests themselves.
PLACE_TASK = "scheduler.place"

#: The header by which a host knows the claim that a message runs under.
CLAIM_HEADER = "celeriac_claim"
#: The header that carries what one call said of its place, for its retries.
PLACEMENT_HEADER = "celeriac_placement"

#: The attribute of a Celery application that holds its placing.
_ATTRIBUTE = "celeriac_placing"

#: Seconds for which a table that didn't answer is not asked again by those who submit.
PAUSE = 10.0
#: Seconds for which the known capabilities are good.
KEYS_AGE = 60.0


@dataclass
class Placing:
    """What tasks of one application need to be placed.

    ``entered`` gives a block in which a task that reached a host may run; it raises Celery's Ignore where it must not.
    ``place_here`` is eager mode's: it places a request at once, and gives a block in which its host's managers answer.
    """

    app: Celery
    table: Callable[[], Table]
    start_deadline: float
    max_attempts: int
    placement_timeout: float | None
    broker_is_redis: bool
    request_class: str
    entered: Callable[[Task[Any, Any]], AbstractContextManager[None]]
    place_here: Callable[[Request, int], AbstractContextManager[None]]

    def __post_init__(self) -> None:
        self._paused_until = 0.0
        self._known: tuple[float, frozenset[str]] = (0.0, frozenset())
        self._warned: set[tuple[str, str, frozenset[str]]] = set()

    def submit(
        self,
        requests: Sequence[tuple[Request, Mapping[str, Any]]],
        *,
        rank: int,
        not_before: float | None,
        timeout: float | None,
        producer: Any,
    ) -> None:
        """Record *requests*, then tell a scheduler; where the table is out of reach the message carries them itself.

        A recorded request needs no message: where the broker is away the schedulers find it by themselves, a little
        later.

        Raises:
            kombu.exceptions.OperationalError: neither Redis nor the broker answers; nothing is submitted.
        """
        try:
            shape = self._record(requests, rank=rank, not_before=not_before, timeout=timeout)
        except TableUnavailable as error:
            logger.warning("%s goes to the scheduler unrecorded: %s", requests[0][0].task, error)
            carried = [[{**request.to_dict(), "is_carried": True}, message] for request, message in requests]
            self._announce({"requests": carried, "rank": rank, "not_before": not_before, "timeout": timeout}, producer)
            return
        if shape is None:
            return
        try:
            self._announce({"shape": shape}, producer)
        except OperationalError as error:
            logger.warning(
                "%s[%s] is recorded, but no scheduler was told, which finds it later: %s",
                requests[0][0].task, requests[0][0].task_id, error,
            )  # fmt: skip

    def warn_of_unknown_keys(self, request: Request) -> None:
        """Log the capabilities that *request* names and no host has ever reported, with the nearest that one has."""
        asked = (request.task, request.service, request.keys)
        if asked in self._warned or self._paused_until > time.monotonic():
            return
        known = self._keys(request.service)
        if not known:
            return
        if len(self._warned) > 1000:  # a bound, not a number with a meaning
            self._warned.clear()
        self._warned.add(asked)
        for key in sorted(request.keys - known):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known)[:20])}"
            logger.warning("%s asks for %r, which no host has ever reported; %s", request.task, key, hint)

    def _record(self, requests: Sequence[tuple[Request, Mapping[str, Any]]], **when: Any) -> str | None:
        if self._paused_until > time.monotonic():
            raise TableUnavailable(f"it did not answer in the last {PAUSE:g} s")
        try:
            return Pending(self.table()).submit(requests, **when)
        except TableUnavailable:
            self._paused_until = time.monotonic() + PAUSE
            raise

    def _announce(self, what: Mapping[str, Any], producer: Any) -> None:
        queue: Any = service_queue("scheduler")
        self.app.send_task(
            PLACE_TASK, (what,), queue=queue, exchange="", exchange_type="direct",
            producer=producer, ignore_result=True, serializer="json", add_to_parent=False,
        )  # fmt: skip

    def _keys(self, service: str) -> frozenset[str]:
        """Return the capabilities that any host of *service* ever reported; none where nobody can tell."""
        read_at, known = self._known
        if time.monotonic() - read_at > KEYS_AGE or not known:
            try:
                known = Pending(self.table()).known_keys()
            except TableUnavailable:
                return frozenset()
            self._known = (time.monotonic(), known)
        prefixes = (f"{service}.", f"{HOST_SERVICE}.")
        return frozenset(key.removeprefix(prefix) for prefix in prefixes for key in known if key.startswith(prefix))


def placing_of(app: Celery) -> Placing:
    """Return how *app* has its tasks placed.

    Raises:
        NotAdopted: it was given no managers.
    """
    placing = getattr(app, _ATTRIBUTE, None)
    if not isinstance(placing, Placing):
        raise NotAdopted(f"{app!r} can't place tasks; call workers.celeriac_app({app.main or 'app'}) first")
    return placing


def can_place(app: Celery) -> bool:
    """Return whether *app* was given its managers."""
    return hasattr(app, _ATTRIBUTE)


def set_placing(app: Celery, placing: Placing) -> None:
    """Have *app* place its tasks by *placing*."""
    setattr(app, _ATTRIBUTE, placing)
