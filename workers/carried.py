"""Requests that an announcement carries, as their sender could not record them: a thread does, so that nothing waits.

The consumer's thread reads each announcement and leaves it here; when it is recorded, that thread acknowledges it. A
Redis that hangs so costs one time-out per ``RETRY`` in this thread and holds up neither reports nor shapes. What comes
again after a reconnection is found here and not kept twice; what finds no room stays with the consumer.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from managers.errors import shown
from scheduler.envelope import check_envelope
from scheduler.errors import InvalidPlacement, TableUnavailable
from scheduler.pending import Pending
from scheduler.requests import Request, check_number, check_record

logger = logging.getLogger(__name__)

#: Seconds before a Redis that doesn't answer is tried again.
RETRY = 1.0
#: Announcements that may wait to be recorded.
LIMIT = 1000


class Carried:
    """The requests, to be placed at once, that the announcement *what* carries.

    Raises:
        InvalidPlacement, InvalidRequirement: it carries none.
    """

    def __init__(self, what: Mapping[str, Any]) -> None:
        try:
            self._requests = [
                (check_record(Request.from_dict(values)), check_envelope(message))
                for values, message in what["requests"]
            ]
            self._rank = check_number(what["rank"])
            self._not_before, self._timeout = (
                None if what[name] is None else check_number(what[name]) for name in ("not_before", "timeout")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidPlacement(f"this announces nothing: {shown(what)} ({error})") from error
        self.ids = tuple(request.id for request, _ in self._requests)
        if not self.ids or len(set(self.ids)) < len(self.ids):
            raise InvalidPlacement(f"this announces nothing, or one request twice: {shown(what)}")
        #: Whether it needs to be kept no longer: it is recorded, or never can be.
        self.is_over = False

    def record(self, pending: Pending) -> str | None:
        """Record them and return the shape to announce, if any; TableUnavailable if the table can't be reached."""
        return pending.submit(self._requests, rank=self._rank, not_before=self._not_before, timeout=self._timeout)


class CarriedThread:
    """Records what is carried in *pending*, and calls *notice* with its shape."""

    def __init__(self, pending: Pending, notice: Callable[[str], None]) -> None:
        self._pending = pending
        self._notice = notice
        self._waiting: dict[tuple[str, ...], Carried] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-carried", daemon=True)

    def start(self) -> None:
        """Record from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Record no more; what is left was not acknowledged and goes back to the broker."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def take(self, carried: Carried) -> Carried | None:
        """Take *carried* in, or find that it is here; return which to wait for, None if there is no room.

        Called in any thread, never blocks.
        """
        with self._changed:
            if carried.ids not in self._waiting and len(self._waiting) >= LIMIT:
                return None
            self._changed.notify()
            return self._waiting.setdefault(carried.ids, carried)

    def record(self) -> None:
        """Record what waits, first come, first served.

        Raises:
            TableUnavailable: what is left waits on.
        """
        while not self._stopping.is_set() and (carried := self._first()) is not None:
            try:
                shape = carried.record(self._pending)
                if shape is not None:
                    self._notice(shape)
            except TableUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not come again
                logger.error("announcement refused: %s", error)  # noqa: TRY400
            with self._changed:
                del self._waiting[carried.ids]
            carried.is_over = True

    def _first(self) -> Carried | None:
        with self._changed:
            return next(iter(self._waiting.values()), None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
            try:
                self.record()
            except TableUnavailable as error:
                logger.error("%d announcements wait: %s", len(self._waiting), error)  # noqa: TRY400
                self._stopping.wait(RETRY)
