"""The history of placements: written by the scheduler's main process, in batches, beside all placing."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from managers.db import InvalidRecord
from managers.errors import DatabaseError
from scheduler.ended import Ended
from scheduler.errors import TableUnavailable

logger = logging.getLogger(__name__)

#: Records that are written at once.
BATCH = 500
#: Seconds between two looks at whether there are any.
LOOK = 1.0
#: Seconds before a database that doesn't answer is tried again.
RETRY = 10.0
#: Seconds between two looks at what is too old.
RETENTION_LOOK = 3600.0
_DAY = 86400.0


class HistoryThread:
    """Writes what *ended* into the database of *db*, a module of functions, and forgets it after *days*.

    A database that is away holds up nothing: Redis keeps the newest 100,000 meanwhile.
    """

    def __init__(self, ended: Ended, db: Any, *, days: float) -> None:
        self._ended = ended
        self._db = db
        self._days = days
        self._prune_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-history", daemon=True)

    def start(self) -> None:
        """Write from now on, if the database's functions can."""
        if self._days and not hasattr(self._db, "history_add"):
            logger.warning("%s has no history_add: no history is kept", getattr(self._db, "__name__", self._db))
            self._days = 0.0
        self._thread.start()

    def stop(self) -> None:
        """Write no more; what is left is another scheduler's, or this one's next life's."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def write(self) -> int:
        """Write one batch and return how many there were.

        Raises:
            DatabaseError, TableUnavailable: they are still to be written.
        """
        records = self._ended.read(BATCH)
        if records:
            if self._days:
                self._add(records)
            self._ended.drop(len(records))
        return len(records)

    def prune(self, now: float) -> None:
        """Delete what is older than the days of retention, once in a while."""
        if self._days and now >= self._prune_at:
            self._prune_at = now + RETENTION_LOOK
            if deleted := self._db.history_prune(now - self._days * _DAY):
                logger.info("%d placements are older than %g days and forgotten", deleted, self._days)

    def _add(self, records: Sequence[Mapping[str, Any]]) -> None:
        left = list(records)
        while left:
            try:
                self._db.history_add(left)
            except InvalidRecord as error:
                logger.error("left out of the history: %s", error)  # noqa: TRY400
                left.pop(error.index)
            else:
                return

    def _run(self) -> None:
        wait = LOOK
        while not self._stopping.wait(wait):
            wait = LOOK
            try:
                while self.write() == BATCH and not self._stopping.is_set():
                    pass
                self.prune(time.time())
            except (DatabaseError, TableUnavailable) as error:
                logger.warning("the history waits: %s", error)
                wait = RETRY
            except Exception:
                logger.exception("the history waits")
                wait = RETRY
