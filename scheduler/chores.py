"""What a scheduler does beside placing, once a second: it ends what is overdue, and waits whose time is over."""

import logging
import uuid
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from scheduler.errors import TableUnavailable
from scheduler.explain import explain

if TYPE_CHECKING:
    from scheduler.placer import Placer

logger = logging.getLogger(__name__)

#: Seconds between two rounds.
CHORES = 1.0
#: Seconds that one scheduler reaps before another may.
TURN = 5.0


class Chores:
    """The chores of *placer*, in its thread.

    *prune* forgets the hosts that are dead, *revoked* returns the ids of revoked tasks.
    """

    def __init__(
        self,
        placer: "Placer",
        *,
        prune: Callable[[], None],
        revoked: Callable[[], Collection[str]],
    ) -> None:
        self._placer = placer
        self._prune = prune
        self._revoked = revoked
        self._known_revoked: set[str] = set()
        self._name = uuid.uuid4().hex

    def do(self, now: float, undecided: Collection[str]) -> None:
        """Do all of them; *undecided* are shapes that could not be decided at the last look.

        Raises:
            TableUnavailable: Redis doesn't answer. No other error of one holds up the others.
        """
        for shape in undecided:
            self._placer.notice(shape)
        self._try(self._revoke)
        self._try(self._announce_again, now)
        if self._placer.table.take_turn("reaper", self._name, TURN):
            self._try(self._prune)
            self._try(self._reap)
            self._try(self._give_up, now)

    def _try(self, chore: Callable[..., None], *args: Any) -> None:
        try:
            chore(*args)
        except TableUnavailable:
            raise
        except Exception:
            logger.exception("a chore of the scheduler is left undone")

    def _reap(self) -> None:
        if ended := self._placer.claims.reap():
            logger.warning("%d tasks were not begun in time and are placed elsewhere", ended)

    def _announce_again(self, now: float) -> None:
        for shape in self._placer.pending.announced(now):
            logger.info("nobody had taken what was announced of %s", shape)
            self._placer.table.count("requests_announced_again")
            self._placer.notice(shape)

    def _revoke(self) -> None:
        """Give up what waits and was revoked since the last look."""
        revoked = set(self._revoked())
        for unit in self._placer.pending.waiting_of(revoked - self._known_revoked):
            self._placer.pending.fail(unit, "revoked", "revoked before it was placed")
        self._known_revoked = revoked

    def _give_up(self, now: float) -> None:
        """End the wait of those whose time is over, and say why they found no host."""
        overdue = self._placer.pending.overdue(now)
        if not overdue:
            return
        snapshot = self._placer.snapshot()
        told: dict[str, str] = {}
        for unit in overdue:
            request = self._placer.pending.knowing(unit.request)
            if request.expires_at is not None and request.expires_at <= now:
                self._placer.pending.fail(unit, "expired", "expired before it was placed")
                continue
            if unit.shape not in told:
                told[unit.shape] = str(explain(request, snapshot, self._placer.selector, count=len(unit.ids)))
            why = f"no valid host for {request.task} within {now - unit.since:.1f} s; {told[unit.shape]}"
            self._placer.pending.fail(unit, "timeout", why)
