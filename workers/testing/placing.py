"""A scheduler's life without threads: it places when there is something to place, by a clock in somebody's hand."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Self

from scheduler.chores import CHORES, TURN
from scheduler.conclusions import TURN as CONCLUDING
from scheduler.conclusions import Conclusions
from scheduler.events import Events
from scheduler.pending import ANNOUNCED
from scheduler.placer import SWEEP, Placer
from scheduler.placing import Placing
from scheduler.requests import Request
from workers.testing.timeline import Timeline


class InlinePlacing:
    """Does what a scheduler's threads do: takes the turns of *placer* and *conclusions* as soon as there is reason."""

    def __init__(self, placer: Placer, conclusions: Conclusions, timeline: Timeline) -> None:
        self.placer = placer
        self._conclusions = conclusions
        self._timeline = timeline
        self._events = Events(placer.table)
        self._is_awake = False
        self._wakes_at = math.inf
        placer.on_notice = self.wake

    def wake(self) -> None:
        """Have the next look find a reason."""
        self._is_awake = True

    def look(self, *, is_touched: bool) -> bool:
        """Take a turn if there is reason to, and say when there will be the next; return whether there was.

        *is_touched* says that hosts have done something since the last look.
        """
        now = self._timeline.now()
        has_happened = bool(self._events.read())
        if not (has_happened or self._is_awake or (is_touched and self._due_at(now) <= now)):
            if is_touched:
                self._wake_at(self._due_at(now))
            return False
        self._is_awake = False
        self.placer.chores_at = now
        self.placer.turn(is_anything_new=has_happened)
        self._conclusions.turn()
        due_at = self._due_at(now)
        self._wake_at(due_at if due_at > now else now + CHORES)  # what a turn leaves undone isn't done by another
        return True

    def end(self) -> None:
        """Let another scheduler reap and conclude, as it may once this one's turns are over."""
        now = self._timeline.now()
        self._timeline.at(now + TURN, partial(self._let_go, "reaper"))
        self._timeline.at(now + CONCLUDING, partial(self._let_go, "concluder"))

    def _let_go(self, turn: str) -> None:
        self.placer.table.redis.delete(self.placer.table.key(turn))

    def _wake_at(self, moment: float) -> None:
        if moment >= self._wakes_at:
            return
        self._wakes_at = moment

        def wake() -> None:
            if self._wakes_at == moment:
                self._wakes_at = math.inf
                self.wake()

        self._timeline.at(moment, wake)

    def _due_at(self, now: float) -> float:
        """Return when the clock alone gives reason for a turn, infinity where it never does."""
        table = self.placer.table
        if not table.redis.exists(table.key("requests")):
            return math.inf
        pipeline = table.redis.pipeline(transaction=False)
        for name in ("deadlines", "timeouts", "delayed", "announced"):
            pipeline.zrange(table.key(name), 0, 0, withscores=True)
        pipeline.hlen(table.key("failing"))
        pipeline.zcard(table.key("shapes"))
        *firsts, announced, failing, shapes = pipeline.execute()
        moments = [score for first in firsts for _, score in first]
        moments += [score + ANNOUNCED for _, score in announced]
        moments += [now] if failing else []
        moments += [now + SWEEP] if shapes else []
        return min(moments, default=math.inf)


@dataclass
class FleetPlacing(Placing):
    """Hands requests over by the fleet's clock, where *ahead* seconds lie between that and the one messages go by.

    *submitted* is called after each.
    """

    ahead: float = 0.0
    submitted: Callable[[], object] = bool

    @classmethod
    def of(cls, placing: Placing, *, ahead: float, submitted: Callable[[], object]) -> Self:
        """Return *placing* by two clocks."""
        known = {entry.name: getattr(placing, entry.name) for entry in fields(placing)}
        return cls(**known, ahead=ahead, submitted=submitted)

    def submit(
        self,
        requests: Sequence[tuple[Request, Mapping[str, Any]]],
        *,
        rank: int,
        not_before: float | None,
        timeout: float | None,
        producer: Any,
    ) -> None:
        """Record *requests*, then tell a scheduler."""
        super().submit(
            [(replace(request, expires_at=self._fleets(request.expires_at)), message) for request, message in requests],
            rank=rank,
            not_before=self._fleets(not_before),
            timeout=timeout,
            producer=producer,
        )
        self.submitted()

    def warn_of_unknown_keys(self, request: Request) -> None:
        """Log what no host has ever reported, as of now: a test's hosts may have come since the last look."""
        self._known = (0.0, frozenset())
        super().warn_of_unknown_keys(request)

    def _fleets(self, moment: float | None) -> float | None:
        return None if moment is None else round(moment - self.ahead, 6)
