"""The claims that a worker holds: which of its tasks have one, and the release of those that ended.

Lives in the worker's main process. Releases are sent from a thread, so that a Redis that hangs holds up nothing, and
are tried until they arrive; meanwhile the host's reports still name the claim.
"""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from scheduler.claims import Claim, Claims
from scheduler.errors import TableUnavailable

logger = logging.getLogger(__name__)

#: Seconds before Redis is tried again.
RETRY = 1.0
#: Seconds after which a task that was handed to the pool has passed the fence, or was refused by it.
FENCED = 1.0


@dataclass(frozen=True, slots=True)
class Release:
    """The end of a claim, on its way to Redis; ``then`` is as in ``Claims.release``."""

    claim: Claim
    outcome: str
    then: str = "over"
    why: str = ""


class Holding:
    """The claims of one worker; thread-safe. *host* is its name, *claims* where they are kept."""

    def __init__(self, host: str, claims: Claims) -> None:
        self._host = host
        self._claims = claims
        # weak: a pool that is flushed forgets its requests without a word, and their messages come anew
        self._held: WeakKeyDictionary[object, tuple[float | None, Claim]] = WeakKeyDictionary()
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

    def took(self, request: object, claim: Claim) -> None:
        """Note that *request*, a message with that *claim*, is handed to the pool; it may begin unheard of."""
        with self._changed:
            self._held[request] = (None, claim)

    def began(self, request: object, claim: Claim) -> None:
        """Note that *request* was begun by the pool."""
        with self._changed:
            self._held[request] = (time.monotonic(), claim)

    def ended(self, request: object, release: Release | None) -> None:
        """Note that *request* is over, and send the *release*; None where its claim is somebody else's."""
        with self._changed:
            self._held.pop(request, None)
        if release is not None:
            self.tell(release)

    def tell(self, release: Release) -> None:
        """Send *release*; by itself for what no pool ever had."""
        with self._changed:
            self._ended.append(release)
            self._changed.notify()

    def running(self) -> list[dict[str, Any]]:
        """Return the claims of this host, as its reports tell of them.

        ``is_begun`` are those that the table must count: of what runs, and of what ended and it wasn't told of. Of the
        others nobody here knows whether they passed the fence: the table must neither add nor end them.
        """
        begun_before = time.monotonic() - FENCED
        with self._changed:
            held = [(claim, begun is not None and begun <= begun_before) for begun, claim in self._held.values()]
            held += [(release.claim, True) for release in self._ended]
        return [{**claim.to_header(), "is_begun": is_begun} for claim, is_begun in held]

    def _run(self) -> None:
        while (release := self._next()) is not None:
            claim = release.claim
            try:
                self._tell(release)
            except TableUnavailable as error:
                logger.warning("the end of %s is not told yet: %s", claim.task_id, error)
                with self._changed:
                    if self._is_stopping:
                        return
                    self._changed.wait(RETRY)
            except Exception:
                logger.exception("the end of %s can't be told", claim.task_id)
                self._drop()
            else:
                self._drop()

    def _tell(self, release: Release) -> None:
        claim = release.claim
        self._claims.release(
            self._host, claim.id, claim.attempt, release.outcome,
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
