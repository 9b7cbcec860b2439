"""The ends of requests that can't be run: each is told as its result, then the request is forgotten.

Whatever tells it runs code of the application's own, errbacks above all, and waits for its result backend. So this has
a turn of its own, beside all placing: a scheduler that is held up here keeps placing, and one that dies here is
followed by another, which tells again what was not yet forgotten.
"""

import logging
import uuid
from collections.abc import Callable

from scheduler.errors import TableUnavailable
from scheduler.pending import Failing, Pending
from scheduler.table import Table

logger = logging.getLogger(__name__)

#: Seconds that one scheduler's turn lasts from the last end it began to tell; a dead one's ends by itself.
TURN = 10.0

#: What the history calls the end of a request that failed, where it isn't called by its kind.
OUTCOMES = {"timeout": "unplaced", "attempts": "unplaced"}

#: Writes the result of a request that failed.
Conclude = Callable[[Failing], None]


class Conclusions:
    """Has *conclude* tell the end of what fails in *table*; ``turn`` in one thread at a time."""

    def __init__(self, table: Table, conclude: Conclude) -> None:
        self.table = table
        self._pending = Pending(table)
        self._conclude = conclude
        self._name = uuid.uuid4().hex
        #: Requests whose end could not be told, so that it is logged once of each.
        self._troubled: set[str] = set()

    def turn(self) -> int:
        """Tell all there is to tell, if it is this scheduler's turn; return how many ends were told.

        What *conclude* raises costs nothing but that request's end, which the next turn tells again.

        Raises:
            TableUnavailable: Redis doesn't answer; nothing is lost, and the next turn goes on.
        """
        if not self._is_my_turn():
            return 0
        told, failing = 0, self._pending.failing()
        self._troubled &= {one.request.id for one in failing}
        for one in failing:
            if not self._is_my_turn():
                break  # an end took so long to tell that another scheduler goes on
            told += self._finish(one)
        return told

    def _is_my_turn(self) -> bool:
        return self.table.take_turn("concluder", self._name, TURN)

    def _finish(self, failing: Failing) -> bool:
        request = failing.request
        try:
            self._conclude(failing)
            return self._pending.finish(request.id, OUTCOMES.get(failing.kind, failing.kind), failing.why)
        except TableUnavailable:
            raise
        except Exception:
            if request.id not in self._troubled:
                self._troubled.add(request.id)
                logger.exception("the end of %s[%s] is not told yet", request.task, request.task_id)
            return False
