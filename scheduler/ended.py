"""Attempts that ended, on their way from Redis into the history; one scheduler at a time takes them."""

import json
import uuid
from typing import Any, cast

from scheduler.amounts import quantity
from scheduler.table import Table

#: Seconds that one scheduler's turn lasts; a dead one's ends by itself.
TURN = 30.0

_TIMES = ("submitted_at", "placed_at", "started_at", "ended_at")


class Ended:
    """The attempts that ended in the fleet whose *table* it is, oldest first, as records of ``history_add``."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._name = uuid.uuid4().hex

    def read(self, limit: int) -> list[dict[str, Any]]:
        """Return the oldest if it is this reader's turn; none if it is another's, or there are none."""
        if not self._table.take_turn("historian", self._name, TURN):
            return []
        with self._table.reached():
            entries = cast("list[str]", self._table.redis.lrange(self._table.key("ended"), 0, limit - 1))
        return [_record(json.loads(entry)) for entry in entries]

    def count(self) -> int:
        """Return how many are not written yet."""
        with self._table.reached():
            return int(self._table.redis.llen(self._table.key("ended")))

    def drop(self, number: int) -> bool:
        """Forget the oldest *number*, which are written; return False where the turn is over and they stay."""
        return bool(self._table.script("trim", [self._name, number]))


def _record(entry: dict[str, Any]) -> dict[str, Any]:
    times = {name: None if entry.get(name) is None else float(entry[name]) for name in _TIMES}
    claims: dict[str, float] = {}
    for name, amount in (entry.get("claims") or {}).items():
        # of a claim whose request was forgotten, by member
        for resource, thousandths in (amount if isinstance(amount, dict) else {name: amount}).items():
            claims[resource] = quantity(thousandths)
    return {
        **{
            name: entry.get(name) for name in ("request_id", "task_id", "task", "service", "host", "outcome", "reasons")
        },
        "attempt": int(entry["attempt"]),
        "claims": claims,
        **times,
    }
