"""The placer: takes the requests that wait, chooses, claims and dispatches; any number may run at once.

A look at a shape takes its requests in order until one finds no host: then none of that shape does, however many wait.
It is looked at again when it is announced (somebody submitted one), at each event by which a host may have got room,
and in the slow sweep. Events are read from a stream, each exactly once, so one that happens while a shape is decided is
found by the next reading. What only the sweep placed is counted: it was missed.
"""

import heapq
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from kombu.exceptions import OperationalError

from scheduler.chores import CHORES, Chores
from scheduler.claims import Claim, Claims, Place
from scheduler.envelope import from_json
from scheduler.errors import TableUnavailable
from scheduler.hosts import Readiness
from scheduler.pending import Pending, Unit
from scheduler.requests import Request
from scheduler.select import INFEASIBLE, NOT_READY, Selection, Selector
from scheduler.snapshot import Candidate, Snapshot
from scheduler.table import Table

logger = logging.getLogger(__name__)

#: Seconds between two sweeps, which look at every shape whatever was announced.
SWEEP = 30.0
#: Seconds for which nothing is placed after a message could not be sent.
PAUSE = 1.0
#: Requests of one shape that are fetched at once.
BATCH = 64
#: Requests of one shape that are placed before others, and chores, have their turn.
MOST = 512
#: Times in one look that a shape is decided anew because hosts had changed since the snapshot.
TRIES = 5

#: Sends a claimed task to its host: the claim and the Celery message.
Dispatch = Callable[[Claim, Any], None]


class Placer:
    """Places what waits in *table*; ``turn`` in one thread at a time, ``notice`` in any.

    *dispatch* raises if the message could not be handed to the broker: the request then waits on. *prune* forgets the
    hosts that are dead. *revoked* returns the ids of revoked tasks.
    """

    def __init__(
        self,
        table: Table,
        *,
        dispatch: Dispatch,
        selector: Selector | None = None,
        prune: Callable[[], None] = lambda: None,
        revoked: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.table = table
        self.claims = Claims(table)
        self.pending = Pending(table)
        self.selector = selector or Selector()
        self._dispatch = dispatch
        self._revoked = revoked
        self._chores = Chores(self, prune=prune, revoked=revoked)
        #: Called after ``notice``, by whoever waits for it.
        self.on_notice: Callable[[], None] = lambda: None
        self._snapshot = Snapshot([], Readiness(ready=False))
        self._is_anything_new = True
        self._noticed: set[str] = set()
        self._noticing = threading.Lock()
        #: Shapes that were decided when the table could not tell who is there.
        self._undecided: set[str] = set()
        #: When placing goes on after a message could not be sent; 0 while it does.
        self._paused_until = 0.0
        self._sweep_at = 0.0
        #: When deadlines, etas and time-outs are looked at next.
        self.chores_at = 0.0
        #: What was last said of a shape that found no host, so that it is logged once.
        self._told: dict[str, str] = {}

    def notice(self, shape: str) -> None:
        """Note that *shape* was announced; the next turn looks at it."""
        with self._noticing:
            self._noticed.add(shape)
        self.on_notice()

    def turn(self, *, is_anything_new: bool) -> None:
        """Do what there is to do now: look at everything that waits if *is_anything_new*, else at what was noticed.

        Raises:
            TableUnavailable: Redis doesn't answer; nothing is lost, and the next turn goes on.
        """
        now = self.table.now()
        self._is_anything_new |= is_anything_new
        if now >= self.chores_at:
            self.chores_at = now + CHORES
            self._chores.do(now, self._undecided)
            self._undecided.clear()
        if now < self._paused_until:
            return
        self._paused_until = 0.0
        with self._noticing:
            noticed, self._noticed = self._noticed, set()
        if not (self._is_anything_new or noticed or now >= self._sweep_at):
            return
        is_anything_new, self._is_anything_new = self._is_anything_new, False
        try:
            line = self.pending.line()
            self._place(line if is_anything_new else [(order, shape) for order, shape in line if shape in noticed])
            if now >= self._sweep_at and not is_anything_new:
                self._sweep(is_quiet=not noticed)
            if now >= self._sweep_at or is_anything_new:  # which looked at everything, as a sweep does
                self._sweep_at = now + SWEEP
        except TableUnavailable:
            self._is_anything_new = True  # what was read of the events is not read again
            raise

    def snapshot(self) -> Snapshot:
        """Return what the table says now."""
        rows, readiness = self.table.snapshot()
        return Snapshot(rows, readiness, self.claims.failures())

    def _place(self, line: Sequence[tuple[float, str]]) -> int:
        """Place what of *line* finds a host, whatever its shape in the order of all; return how many."""
        if not line:
            return 0
        self._snapshot = self.snapshot()
        placed, began, left = 0, time.monotonic(), list(line)
        while left:
            if self._paused_until or time.monotonic() - began > CHORES:
                with self._noticing:  # chores are due, and then the rest
                    self._noticed.update(shape for _, shape in left)
                break
            _, shape = heapq.heappop(left)
            try:
                number, order = self._place_shape(shape, until=left[0][0] if left else math.inf)
            except TableUnavailable:
                raise
            except Exception:  # a filter of somebody's own, or a record that can't be read, must not hold up the others
                logger.exception("requests of shape %s are not placed", shape)
                continue
            placed += number
            if order is not None:
                heapq.heappush(left, (order, shape))
        return placed

    def _place_shape(self, shape: str, *, until: float) -> tuple[int, float | None]:
        """Place what waits under *shape* until one finds no host, or has its turn after others, those at *until*.

        Return how many were placed, and the order of the one whose turn comes later, if there is one.
        """
        placed, tries = 0, 0
        while tries < TRIES:
            units = self.pending.take(shape, BATCH)
            if not units:
                return placed, None
            before = placed
            for unit in units:
                if unit.order > until:
                    return placed, unit.order
                word, selection = self._place_unit(unit)
                if word == "refused":
                    self._snapshot, tries = self.snapshot(), tries + 1
                    break
                if word == "waits":
                    self._tell(unit, cast("Selection", selection))
                    return placed, None
                placed += word == "claimed"
            tries += placed == before  # what is gone should not be found again
            if self._paused_until:
                return placed, None
            if placed >= MOST:
                self.notice(shape)
                return placed, None
        self._undecided.add(shape)
        return placed, None

    def _place_unit(self, unit: Unit) -> tuple[str, Selection | None]:
        """Return what became of *unit*: claimed, gone (somebody else saw to it), refused (look anew) or waits."""
        if self._is_unwanted(unit):
            return "gone", None
        request = self.pending.knowing(unit.request)
        selection = self.selector.select(request, self._snapshot, count=len(unit.ids))
        if not selection.hosts:
            return "waits", selection
        claimed = self.claims.claim(
            unit.ids, unit.shape, selection.hosts, request.claims,
            start_deadline=request.start_deadline, sticky=request.sticky,
        )  # fmt: skip
        if claimed.word == "refused":
            logger.debug("%s: refused by all of %d hosts: %s", request.task_id, len(selection.hosts), claimed.refusals)
            return "refused", None
        if claimed.word != "claimed":
            return "gone", None
        hosts = {candidate.host: candidate for candidate in selection.hosts}
        for place in claimed.places:
            hosts[place.host].withdraw(request.claims)
            self._send(place, hosts[place.host])
        return "claimed", None

    def _send(self, place: Place, candidate: Candidate) -> None:
        request = Request.from_json(place.request)
        claim = Claim(
            id=request.id,
            attempt=place.attempt,
            task_id=request.task_id,
            task=request.task,
            service=request.service,
            host=place.host,
            state="placed",
            is_late=request.is_late,
            amounts=candidate.amounts(request.claims),
        )
        try:
            self._dispatch(claim, from_json(place.message))
        except (OperationalError, OSError) as error:
            logger.error("%s[%s] can't be sent and waits: %s", request.task, request.task_id, error)  # noqa: TRY400
            self.claims.release(place.host, request.id, place.attempt, "unsent", then="anew")
            self._paused_until = self.table.now() + PAUSE
        except Exception as error:
            logger.exception("%s[%s] can't be sent at all", request.task, request.task_id)
            why = f"{request.task} can't be sent to {place.host}: {type(error).__name__}: {error}"
            self.claims.release(place.host, request.id, place.attempt, "unsendable", then="failing", why=why)

    def _is_unwanted(self, unit: Unit) -> bool:
        """Give *unit* up if it was revoked or has expired; return whether it was."""
        request = unit.request
        if request.task_id in self._revoked():
            return self.pending.fail(unit, "revoked", "revoked before it was placed")
        if request.expires_at is not None and request.expires_at <= self.table.now():
            return self.pending.fail(unit, "expired", "expired before it was placed")
        return False

    def _tell(self, unit: Unit, selection: Selection) -> None:
        """Say once of each shape and verdict that it waits."""
        if selection.verdict == NOT_READY:
            self._undecided.add(unit.shape)
        if self._told.get(unit.shape) == selection.verdict:
            return
        if len(self._told) > 1000:  # a bound, not a number with a meaning
            self._told.clear()
        self._told[unit.shape] = selection.verdict
        level = logging.WARNING if selection.verdict == INFEASIBLE else logging.INFO
        logger.log(
            level, "%s[%s] waits, %s: %s", unit.request.task, unit.request.task_id, selection.verdict, selection,
            extra={"service": unit.request.service},
        )  # fmt: skip

    def _sweep(self, *, is_quiet: bool) -> None:
        with self._noticing:
            others = {*self._noticed, *self._undecided}
        placed = self._place([(order, shape) for order, shape in self.pending.line() if shape not in others])
        if placed and is_quiet:  # else the event of what it found may be on its way
            logger.warning("the sweep placed %d requests that no event had woken", placed)
            self.table.count("requests_placed_by_sweep", placed)
