"""The capability table: what the fleet last reported, in Redis.

Keys, all under ``celeriac:{<fleet>}:`` so that they share one hash slot; members are ``<service>/<host>``, values JSON:

=============  ====  ===================================================================================================
hosts          hash  member -> who holds the name: instance, boot, machine, pid, version, intervals, joined_at
presence       zset  member -> the moment it is stale unless it is heard of again
reports        hash  member -> sequence, at, interval of the newest report; known: that of the capabilities, changed:
                     that of the report by which they last changed
capabilities   hash  member -> what it reported; no entry where it reported nothing but liveness
totals         hash  member -> the numbers among those, which tasks may claim, in thousandths
disabled       hash  member -> the operator's reason; outlives the member
draining       hash  member -> why it takes no new work
runs           hash  <service>.<task> -> what counts as the last run of a periodic task of the whole fleet
since          text  when the first host joined after Redis was last emptied
counters       hash  reports_stored, reports_old, reports_unknown, reports_refused, hosts_pruned
=============  ====  ===================================================================================================

A worker's main process owns its members: ``join`` at start, ``heartbeat`` every interval, ``leave`` at the end. The
scheduler owns reports and capabilities (``store``) and forgets the dead (``prune``). All time is Redis's own; nothing
here reads a host's clock. A killed worker simply stops beating: stale after 3 missed beats, pruned after 6. After a
flush every heartbeat is answered "unknown", upon which the worker joins again and reports at once. Requests, claims and
what else placement keeps under the same prefix stand in ``scheduler.claims``.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import redis
from redis.exceptions import RedisError, ResponseError

from managers.reports import Report
from scheduler.amounts import totals
from scheduler.connections import shown
from scheduler.errors import HostNotFound, TableFault, TableUnavailable
from scheduler.hosts import (
    MISSED,
    Host,
    Identity,
    Joined,
    Readiness,
    Refusal,
    aggregate,
    member_of,
    readiness,
    split_member,
)

logger = logging.getLogger(__name__)

#: What a Redis says that will answer again.
_FOR_NOW = ("OOM", "READONLY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN")

_LUA = Path(__file__).parent / "lua"


class Table:
    """The capability table at *client*; usable from any process and thread.

    Every method raises TableUnavailable when Redis doesn't answer. *now* replaces Redis's clock in tests.
    """

    def __init__(
        self, client: "redis.Redis", *, fleet: str = "fleet", url: str = "", now: Callable[[], float] | None = None
    ) -> None:
        self.redis = client
        self._url = shown(url)
        self._prefix = f"celeriac:{{{fleet}}}:"
        self._now = now
        prelude = (_LUA / "prelude.lua").read_text()
        self._scripts = {
            path.stem: client.register_script(prelude + path.read_text())
            for path in _LUA.glob("*.lua")
            if path.stem != "prelude"
        }

    def join(
        self, identity: Identity, members: Sequence[str], *, boot: int = 0, replaces: Iterable[str] = ()
    ) -> Joined | Refusal:
        """Take *members* for *identity*, all or none; *boot* 0 asks for a new boot number.

        *replaces* names instances known to be dead, whose names may be taken before they are stale.
        """
        answer = self.script(
            "join",
            [
                self.stamp(),
                identity.to_json(),
                boot,
                json.dumps(list(replaces)),
                MISSED * identity.heartbeat_interval,
                *members,
            ],
        )
        if answer[1]:
            return Joined(now=float(answer[0]), boot=int(answer[1]))
        return Refusal(
            member=answer[2],
            holder=Identity.from_json(answer[3]),
            stale_in=float(answer[4]),
            now=float(answer[0]),
        )

    def heartbeat(self, instance: str, interval: float, members: Sequence[str]) -> tuple[float, str]:
        """Return Redis's time and "ok", "unknown" (join again) or "replaced" (stop)."""
        now, word = self.script("heartbeat", [self.stamp(), instance, MISSED * interval, *members])
        return float(now), word

    def leave(self, instance: str, members: Sequence[str]) -> int:
        """Forget *members* as far as *instance* holds them; return how many."""
        return int(self.script("leave", [self.stamp(), instance, *members]))

    def store(self, reports: Iterable[Report]) -> list[tuple[Report, str, str]]:
        """Turn *reports* into rows, in one round trip; return (report, service, word) for each service of each.

        The word is "stored", "old" (late or repeated: nothing changed) or "unknown" (nobody of that name and boot).
        """
        arguments: list[Any] = [self.stamp()]
        told: list[tuple[Report, str]] = []
        for report in reports:
            for service, known in report.services.items():
                told.append((report, service))
                document = "" if known is None else json.dumps(known, sort_keys=True)
                member = member_of(service, report.host)
                claimable = json.dumps(totals(known or {}))
                arguments += [member, report.boot, report.sequence, json.dumps(report.interval), document, claimable]
        if not told:
            return []
        words = self.script("report", arguments)
        return [(report, service, word) for (report, service), word in zip(told, words, strict=True)]

    def count(self, counter: str, number: int = 1) -> None:
        """Add *number* to *counter*; asks nobody to add nothing."""
        if number:
            with self.reached():
                self.redis.hincrby(self.key("counters"), counter, number)

    def prune(self, limit: int = 1000) -> list[tuple[str, Identity | None]]:
        """Forget members that have missed 6 heartbeats; return them with who held them."""
        answer = self.script("prune", [self.stamp(), limit, MISSED])
        return [
            (member, Identity.from_json(held) if held else None)
            for member, held in zip(answer[::2], answer[1::2], strict=True)
        ]

    def drain(self, instance: str, members: Sequence[str], reason: str) -> int:
        """Say that *members*, as far as *instance* holds them, take no new work; return how many."""
        return int(self.script("drain", [self.stamp(), instance, reason, *members]))

    def disable(self, member: str, reason: str) -> None:
        """Take *member* out of placement and of the aggregate until it is enabled."""
        with self.reached():
            self.redis.hset(self.key("disabled"), member, reason)

    def enable(self, member: str) -> None:
        """Undo ``disable``."""
        self.script("enable", [member])

    def last_run(self, service: str, task: str) -> float | None:
        """Return what counts as the fleet's last run of a periodic *task*, None if it never ran."""
        with self.reached():
            last = cast("str | None", self.redis.hget(self.key("runs"), f"{service}.{task}"))
        return None if last is None else float(last)

    def advance(self, service: str, task: str, before: float | None, after: float) -> bool:
        """Replace the fleet's last run *before* by *after*; return False where another host was first."""
        arguments = [f"{service}.{task}", "" if before is None else repr(before), repr(after)]
        return bool(self.script("advance", arguments))

    def present(self, service: str) -> dict[str, bool] | None:
        """Return the hosts of *service*, each with whether it takes work; else it is absent.

        A host is absent that missed 3 heartbeats or drains, however late its reports are. None if the table can't tell
        yet: it is younger than one heartbeat, or Redis was emptied, and others may still join.
        """
        with self.reached():
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.time()
            pipeline.get(self.key("since"))
            pipeline.hvals(self.key("hosts"))
            pipeline.zrange(self.key("presence"), 0, -1, withscores=True)
            pipeline.hkeys(self.key("draining"))
            time, since, identities, presence, draining = pipeline.execute()
        now = self.moment(time)
        joining = max((Identity.from_json(identity).heartbeat_interval for identity in identities), default=0.0)
        if since is None or now - float(since) < joining:
            return None
        return {
            host: stale_at > now and member not in draining
            for member, stale_at in presence
            for of, host in [split_member(member)]
            if of == service
        }

    def absence(self, member: str) -> str | None:
        """Return why *member* would take no work now, None if it would, or if the table can't tell yet."""
        with self.reached():
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.time()
            pipeline.zscore(self.key("presence"), member)
            pipeline.hget(self.key("draining"), member)
            time, stale_at, draining = pipeline.execute()
        now = self.moment(time)
        if stale_at is None:
            return "the capability table knows no such host" if self.readiness().ready else None
        if stale_at <= now:
            return f"it missed {MISSED} heartbeats and is stale since {now - stale_at:.1f} s"
        return None if draining is None else f"it is draining: {draining}"

    def hosts(self, service: str | None = None) -> list[Host]:
        """Return a row for each (service, host), sorted; the stale ones too."""
        return self._read()[1] if service is None else [host for host in self._read()[1] if host.service == service]

    def host(self, name: str) -> list[Host]:
        """Return the rows of one host, else raise HostNotFound."""
        known = self.hosts()
        rows = [host for host in known if host.host == name]
        if not rows:
            names = ", ".join(sorted({host.host for host in known})) or "none at all"
            raise HostNotFound(f"the table knows no host {name!r}; it knows {names}")
        return rows

    def aggregate(self) -> dict[str, tuple[Any, Any]]:
        """Return ``{"<service>.<key>": (min, max)}`` over live, enabled hosts."""
        return aggregate(self.hosts())

    def readiness(self) -> Readiness:
        """Say whether the table can be believed yet: an empty or half-filled one is not ready, not "no hosts"."""
        return self.snapshot()[1]

    def snapshot(self) -> tuple[list[Host], Readiness]:
        """Return all rows and whether they can be believed, of one moment."""
        now, rows, since = self._read()
        return rows, readiness(rows, since=since, now=now)

    def counters(self) -> dict[str, int]:
        """Return how often each thing was counted."""
        with self.reached():
            counted = cast("dict[str, str]", self.redis.hgetall(self.key("counters")))
        return {name: int(value) for name, value in counted.items()}

    def take_turn(self, what: str, name: str, seconds: float) -> bool:
        """Return whether it is *name*'s turn to do *what*, for so many seconds; a dead one's turn ends by itself."""
        with self.reached():
            key, length = self.key(what), int(seconds * 1000)
            if self.redis.set(key, name, nx=True, px=length):
                return True
            if self.redis.get(key) != name:
                return False
            self.redis.pexpire(key, length)
            return True

    def now(self) -> float:
        """Return the fleet's time, Redis's clock, in seconds since 1970."""
        if self._now is not None:
            return self._now()
        with self.reached():
            return self.moment(self.redis.time())

    def _read(self) -> tuple[float, list[Host], float | None]:
        with self.reached():
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.time()
            pipeline.get(self.key("since"))
            pipeline.zrange(self.key("presence"), 0, -1, withscores=True)
            for name in ("hosts", "reports", "capabilities", "disabled", "draining", "used"):
                pipeline.hgetall(self.key(name))
            time, since, presence, hosts, reports, capabilities, disabled, draining, used = pipeline.execute()
        now = self.moment(time)
        stale_at = dict(presence)
        rows = [
            Host.of(
                *split_member(member),
                identity=Identity.from_json(identity),
                stale_at=stale_at.get(member, 0.0),
                report=json.loads(reports[member]) if member in reports else None,
                capabilities=json.loads(capabilities[member]) if member in capabilities else {},
                disabled=disabled.get(member),
                draining=draining.get(member),
                used=json.loads(used[member]) if member in used else {},
                now=now,
            )
            for member, identity in sorted(hosts.items())
        ]
        return now, rows, None if since is None else float(since)

    def script(self, name: str, arguments: Sequence[Any]) -> Any:
        """Run ``lua/<name>.lua``, which is one atomic step."""
        with self.reached():
            return self._scripts[name](keys=[self._prefix], args=arguments)

    def key(self, name: str) -> str:
        """Return the key of *name* in Redis."""
        return self._prefix + name

    def moment(self, time: Any) -> float:
        """Return the fleet's time, *time* being what Redis's TIME answered."""
        seconds, microseconds = time
        return self._now() if self._now is not None else seconds + microseconds / 1e6

    def stamp(self) -> str:
        """Return what scripts take for the time: nothing, so that they ask Redis, or a test's."""
        return "" if self._now is None else f"{self._now():.6f}"

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Return a block in which Redis's silence becomes TableUnavailable."""
        try:
            yield
        except (RedisError, OSError) as error:
            if isinstance(error, ResponseError) and not str(error).startswith(_FOR_NOW):
                raise TableFault(f"the capability table's Redis refuses what it was asked: {error}") from error
            raise TableUnavailable(
                f"the capability table's Redis at {self._url or 'its address'} does not answer: {error};"
                " check CELERIAC_TABLE_URL and that Redis runs"
            ) from error
