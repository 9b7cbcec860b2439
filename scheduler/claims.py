"""Claims: what hosts have been asked for, withdrawn from what they report, in Redis.

The life of a request::

    submit ──► pending ──claim──► placed ──start──► running ──release──► over
      │           ▲                 │                  │
      └─► delayed ┘◄── not begun ───┘◄── host gone ────┤ (acks_late)
                                                       └──► failing ──finish──► over

Only ``claim.lua`` gives a request a host, and it looks at live numbers: the one source of safety. A claim is named by
its request and the attempt, ``<id>:<attempt>``; every step is idempotent by that name. Its message is fenced by it: a
host begins only what ``start.lua`` finds claimed for it and not begun. All time is Redis's own.

Keys, under the prefix of ``scheduler.table``; a *unit* is what is placed at once: a request, or a gang of them. The
scripts find the keys of hosts and shapes themselves, so they take the prefix as their only key; one hash tag keeps all
in one slot. Amounts are thousandths.

===================  ======  ===========================================================================================
requests             hash    id -> what is asked (``scheduler.requests``), with its shape
messages             hash    id -> the Celery message that goes to the host
submitted, orders    hash    id -> when it was recorded; its place in line: rank, then arrival
until                hash    id -> when it is given up if it has no place then
open                 hash    task id -> id of its newest request
gangs                hash    unit -> ids that are placed together
pending:<shape>      zset    unit -> order, of those that wait for a host; all of a shape fit the same hosts
shapes               zset    shape -> order of its first unit
announced            zset    shape -> when somebody first said that it should be looked at, and nobody has since
delayed              zset    "<unit> <shape>" -> its eta
timeouts             zset    unit -> when it is given up
placed               hash    id -> host of its open claim
attempts, strikes    hash    id -> how often it was claimed; how often that came to nothing
avoided              hash    id -> hosts that did not begin it in time
claims:<host>        hash    "<id>:<attempt>" -> task, service, boot, state (placed, running), times, amounts
used                 hash    member -> the sum of its claims, by resource
deadlines            zset    "<host> <id>:<attempt>" -> when it must have begun
over                 zset    id of a request that has ended -> when that is forgotten too
released             zset    "<host> <id>:<attempt>" -> when it was released, for an hour
failing              hash    id -> kind (timeout, expired, revoked, attempts, lost, unsendable, unreadable) and why; its
                             result is to be written
ended                list    attempts that ended, for the history
ran, ran_at          hash    task id -> the host it was placed on last; when, so that old ones can go
followed             zset    task id -> when a request last asked for its host, or for another one; its placing wakes
sticky, sticky_at    hash    what ``sticky`` names -> the host it was placed on last; when
failures             hash    host -> what speaks against it since a task last succeeded there, and since when
keys                 set     "<service>.<capability>" of all that was ever reported, up to a bound
events               stream  what happened by which a request may fit that did not: what, host
reaper, concluder,   text    the scheduler whose turn it is to reap; to tell the ends of what fails;
historian                    to write the history
===================  ======  ===========================================================================================
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from managers.errors import shown
from managers.reports import MAX_NUMBER
from scheduler.amounts import quantity
from scheduler.errors import InvalidPlacement
from scheduler.hosts import split_member
from scheduler.snapshot import Candidate
from scheduler.table import Table

#: Seconds after which what failed on a host is forgiven.
FORGIVEN = 600.0
#: Seconds by which what a host says it runs may be older than what Redis knows it began.
RECENT = 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What one host holds for one attempt to run one task. ``state`` is placed or running; times are Redis's."""

    id: str
    attempt: int
    task_id: str
    task: str
    service: str
    host: str
    state: str
    placed_at: float = 0.0
    started_at: float | None = None
    is_late: bool = False
    amounts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def claims(self) -> dict[str, int | float]:
        """The amounts as the task claimed them."""
        return {
            resource: quantity(amount)
            for resources in self.amounts.values()
            for resource, amount in sorted(resources.items())
        }

    @classmethod
    def from_json(cls, text: str) -> "Claim":
        """Return the claim in *text*, which a script wrote."""
        values = json.loads(text)
        started_at = values.get("started_at")
        return cls(
            id=values["id"],
            attempt=int(values["attempt"]),
            task_id=values["task_id"],
            task=values["task"],
            service=values["service"],
            host=values["host"],
            state=values["state"],
            placed_at=float(values["placed_at"]),
            started_at=None if started_at is None else float(started_at),
            is_late=bool(values.get("is_late")),
            amounts=values["amounts"] or {},
        )

    def to_header(self) -> dict[str, Any]:
        """Return what its message carries: all by which a host can tell of it again."""
        return {name: getattr(self, name) for name in _HEADER}

    @classmethod
    def from_header(cls, values: object) -> "Claim":
        """Return the claim in *values*, a header of unknown origin; keys of a newer version are passed over.

        Raises:
            InvalidPlacement: it is no claim; the message names the fault.
        """
        if not isinstance(values, Mapping):
            raise InvalidPlacement(f"{shown(values)} is no claim")
        if missing := [name for name in _HEADER if name not in values]:
            raise InvalidPlacement(f"{shown(values)} is no claim: it lacks {', '.join(missing)}")
        known = {name: values[name] for name in _HEADER}
        for name in ("id", "task_id", "task", "service", "host"):
            if not isinstance(known[name], str) or not known[name]:
                raise InvalidPlacement(f"a claim's {name} is {shown(known[name])}, not a text")
        if not known["id"].isprintable() or " " in known["id"] or ":" in known["id"]:
            raise InvalidPlacement(f"a claim's id is {shown(known['id'])}; it has no blank and no colon")
        if not _is_whole(known["attempt"]) or not isinstance(known["is_late"], bool):
            raise InvalidPlacement(f"{shown(values)} is no claim, by its attempt or is_late")
        if not isinstance(known["amounts"], Mapping) or not all(
            isinstance(resources, Mapping) and all(map(_is_whole, resources.values()))
            for resources in known["amounts"].values()
        ):
            raise InvalidPlacement(f"a claim's amounts are {shown(known['amounts'])}, not thousandths by host")
        return cls(**known, state="placed")


#: What the message of a claim carries of it.
_HEADER = ("id", "attempt", "task_id", "task", "service", "host", "is_late", "amounts")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


@dataclass(frozen=True, slots=True)
class Place:
    """Where one request of a unit was placed; ``request`` and ``message`` are JSON."""

    host: str
    attempt: int
    request: str
    message: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim came to: "claimed" with a place for each; "placed" (it was before), "gone", or "refused", why."""

    word: str
    places: Sequence[Place] = ()
    refusals: Sequence[str] = ()


class Claims:
    """The claims of the fleet whose *table* it is; every method is one atomic step, or a reading.

    All raise TableUnavailable when Redis doesn't answer: then nothing happened, or it happened and may be said again.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def claim(
        self, ids: Sequence[str], shape: str, candidates: Iterable[Candidate], claims: Mapping[str, int], *,
        start_deadline: float, sticky: str | None = None,
    ) -> Claimed:  # fmt: skip
        """Give each of *ids*, a unit, one of *candidates*: the first that still fit; or none any."""
        offered = [
            {
                "host": candidate.host,
                "service": candidate.service,
                "boot": candidate.boot,
                "changed": candidate.changed,
                "amounts": candidate.amounts(claims),
            }
            for candidate in candidates
        ]
        word, *answer = self.table.script(
            "claim",
            [
                self.table.stamp(),
                ids[0],
                shape,
                start_deadline,
                json.dumps(offered),
                sticky or "",
                uuid.uuid4().hex,
                *ids,
            ],
        )
        if word == "refused":
            return Claimed(word, refusals=answer)
        told = zip(*(answer[part::4] for part in range(4)), strict=True)
        return Claimed(word, [Place(host, int(attempt), *documents) for host, attempt, *documents in told])

    def start(self, host: str, request_id: str, attempt: int, *, by: str) -> str:
        """Return "go" if *host* may begin; "running" if somebody else began it before, "gone" if the claim ended.

        Who asks again *by* the same word, the answer having been lost, gets the same answer.
        """
        return cast("str", self.table.script("start", [self.table.stamp(), host, request_id, attempt, by]))

    def release(
        self, host: str, request_id: str, attempt: int, outcome: str, *, then: str = "over", why: str = ""
    ) -> bool:
        """End a claim; return whether there was one. ``release.lua`` says what *then* may be."""
        arguments = [self.table.stamp(), host, request_id, attempt, outcome, then, why]
        return bool(self.table.script("release", arguments) == "released")

    def reap(self, limit: int = 1000) -> int:
        """End what was not begun in time, and have it placed elsewhere; return how many."""
        return int(self.table.script("reap", [self.table.stamp(), limit]))

    def reconcile(
        self, host: str, boot: int, at: float, running: Sequence[Mapping[str, Any]], members: Sequence[str]
    ) -> tuple[int, int, int]:
        """Make the claims of *host* what it said *at* that moment that it runs.

        Return how many claims were added, how many ended, and how many sums were wrong.
        """
        arguments = [self.table.stamp(), host, boot, at, RECENT, json.dumps(list(running)), *members]
        adopted, dropped, repaired = self.table.script("reconcile", arguments)
        return int(adopted), int(dropped), int(repaired)

    def failures(self) -> dict[str, int]:
        """Return what speaks against each host: a failed task counts 1, one lost or not begun 3; old ones nothing."""
        with self.table.reached():
            pipeline = self.table.redis.pipeline(transaction=False)
            pipeline.time()
            pipeline.hgetall(self.table.key("failures"))
            time, found = pipeline.execute()
        since = self.table.moment(time) - FORGIVEN
        told = {host: text.split() for host, text in found.items()}
        return {host: int(number) for host, (number, at) in told.items() if float(at) >= since}

    def overdue(self, patience: float = 0.0) -> int:
        """Return how many claims should have begun *patience* seconds ago, and have neither begun nor been reaped."""
        until = self.table.now() - patience
        with self.table.reached():
            return int(self.table.redis.zcount(self.table.key("deadlines"), "-inf", until))

    def ran(self, task_id: str) -> tuple[str, float] | None:
        """Return the host that a task was placed on last, and when; None if it was on none in the last day."""
        with self.table.reached():
            pipeline = self.table.redis.pipeline(transaction=False)
            pipeline.hget(self.table.key("ran"), task_id)
            pipeline.zscore(self.table.key("ran_at"), task_id)
            host, at = pipeline.execute()
        return None if host is None or at is None else (host, float(at))

    def of(self, host: str) -> list[Claim]:
        """Return the open claims of *host*, the oldest first."""
        with self.table.reached():
            found = cast("list[str]", self.table.redis.hvals(self.table.key(f"claims:{host}")))
        return sorted((Claim.from_json(text) for text in found), key=lambda claim: claim.placed_at)

    def all(self) -> list[Claim]:
        """Return every open claim, the oldest first."""
        with self.table.reached():
            members = cast("list[str]", self.table.redis.hkeys(self.table.key("hosts")))
            pipeline = self.table.redis.pipeline(transaction=False)
            for host in sorted({split_member(member)[1] for member in members}):
                pipeline.hvals(self.table.key(f"claims:{host}"))
            found = pipeline.execute()
        return sorted((Claim.from_json(text) for texts in found for text in texts), key=lambda claim: claim.placed_at)
