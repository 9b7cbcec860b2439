"""The claims that a worker holds: which of its tasks run under one, and the release of those that ended.

Lives in the worker's main process. Releases are sent from a thread, so that a Redis that hangs holds up nothing, and
are tried until they arrive; meanwhile the host's reports still name the claim.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scheduler.claims import Claims
from scheduler.errors import TableUnavailable

logger = logging.getLogger(__name__)

#: Seconds before Redis is tried again.
RETRY = 1.0
#: Seconds after which a task that was handed to the pool has passed the fence, or was refused by it.
FENCED = 1.0


@dataclass(frozen=True, slots=True)
class Release:
    """The end of a claim, on its way to Redis; ``then`` is as in ``Claims.release``."""

    claim: Mapping[str, Any]
    outcome: str
    then: str = "over"
    why: str = ""


class Holding:
    """The claims of one worker; thread-safe. *host* is its name, *claims* where they are kept."""

    def __init__(self, host: str, claims: Claims) -> None:
        self._host = host
        self._claims = claims
        self._held: dict[int, tuple[float, Mapping[str, Any]]] = {}
        self._ended: deque[Release] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="celeriac-releasing", daemon=True)

    def start(self) -> None:
        """Send releases from now on."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Send what there is to send, for so many seconds at most, then no more."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def began(self, request: object, claim: Mapping[str, Any]) -> None:
        """Note that *request*, a message on its way through the pool, was begun under *claim*."""
        with self._changed:
            self._held[id(request)] = (time.monotonic(), claim)

    def ended(self, request: object, release: Release | None) -> None:
        """Note that *request* is over, and send the *release*; None where its claim is somebody else's."""
        with self._changed:
            self._held.pop(id(request), None)
            if release is not None:
                self._ended.append(release)
                self._changed.notify()

    def running(self) -> list[Mapping[str, Any]]:
        """Return the claims that the table must count for this host: of what runs, and of what it wasn't told of."""
        begun_before = time.monotonic() - FENCED
        with self._changed:
            return [
                *(claim for begun, claim in self._held.values() if begun <= begun_before),
                *(release.claim for release in self._ended),
            ]

    def _run(self) -> None:
        while (release := self._next()) is not None:
            claim = release.claim
            try:
                self._tell(release)
            except TableUnavailable as error:
                logger.warning("the end of %s is not told yet: %s", claim["task_id"], error)
                with self._changed:
                    if self._is_stopping:
                        return
                    self._changed.wait(RETRY)
            except Exception:
                logger.exception("the end of %s can't be told", claim.get("task_id"))
                self._drop()
            else:
                self._drop()

    def _tell(self, release: Release) -> None:
        claim = release.claim
        self._claims.release(
            self._host, claim["id"], claim["attempt"], release.outcome,
            then=release.then, why=release.why,
        )  # fmt: skip

    def _next(self) -> Release | None:
        with self._changed:
            while not self._ended:
                if self._is_stopping:
                    return None
                self._changed.wait()
            return self._ended[0]

    def _drop(self) -> None:
        with self._changed:
            self._ended.popleft()
