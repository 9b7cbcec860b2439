"""Requests that wait: recorded before anybody is told, parked by priority and arrival, given up in time."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from scheduler.envelope import from_json, to_json
from scheduler.requests import Request
from scheduler.snapshot import HOST_SERVICE
from scheduler.table import Table

logger = logging.getLogger(__name__)

#: Seconds in which somebody should have looked at what was announced.
ANNOUNCED = 5.0


@dataclass(frozen=True, slots=True)
class Unit:
    """What is placed at once: a request, or a gang of them, all of which ask the same."""

    ids: tuple[str, ...]
    shape: str
    request: Request
    since: float
    #: Its place in line: lower goes first.
    order: float = 0.0


@dataclass(frozen=True, slots=True)
class Failing:
    """A request whose task can't be run any more, and whose result says so as soon as somebody writes it."""

    request: Request
    kind: str
    why: str
    message: Mapping[str, Any]


class Pending:
    """The requests of the fleet whose *table* it is; raises TableUnavailable when Redis doesn't answer."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def submit(
        self,
        requests: Sequence[tuple[Request, Mapping[str, Any]]],
        *,
        rank: int = 0,
        not_before: float | None = None,
        timeout: float | None = None,
    ) -> str | None:
        """Record *requests* with their messages, several of them to be placed at once.

        Return the shape to announce, None if nobody needs to be told: somebody was and has yet to look, or it is not
        their time.

        *rank* goes before arrival, lower first. *timeout* seconds after *not_before* they are given up. To record the
        same again changes nothing.
        """
        first = requests[0][0]
        shape = unit_shape(first, len(requests))
        arguments: list[Any] = [
            self.table.stamp(), first.id, shape, rank, _text(not_before), _text(timeout), _text(first.expires_at),
            json.dumps([*first.same_host, *first.different_host]),
        ]  # fmt: skip
        for request, message in requests:
            arguments += [request.id, request.task_id, request.to_json(), to_json(message)]
        # known: an answer was lost, and with it whether somebody must be told
        return shape if self.table.script("submit", arguments) in {"recorded", "known"} else None

    def line(self) -> list[tuple[float, str]]:
        """Return the shapes of which some wait, each with the order of its first, which they are sorted by."""
        with self.table.reached():
            found = cast("Any", self.table.redis.zrange(self.table.key("shapes"), 0, -1, withscores=True))
        return [(float(order), shape) for shape, order in found]

    def shapes(self) -> list[str]:
        """Return the shapes of which some wait, in the order of the first of each."""
        return [shape for _, shape in self.line()]

    def announced(self, now: float) -> list[str]:
        """Return the shapes that were announced a while ago and that nobody has looked at since."""
        with self.table.reached():
            return cast(
                "list[str]", self.table.redis.zrangebyscore(self.table.key("announced"), "-inf", now - ANNOUNCED)
            )

    def take(self, shape: str, limit: int) -> list[Unit]:
        """Return the first that wait of *shape*, and note that somebody looks at it."""
        with self.table.reached():
            self.table.redis.zrem(self.table.key("announced"), shape)
            key = self.table.key(f"pending:{shape}")
            units = cast("list[str]", self.table.redis.zrange(key, 0, limit - 1))
            found = self._units(units, shape)
            if orphans := set(units) - {unit.ids[0] for unit in found}:
                self.table.redis.zrem(key, *orphans)  # Redis forgot what they asked
        return found

    def overdue(self, now: float) -> list[Unit]:
        """Return those whose time to be placed is over."""
        with self.table.reached():
            units = cast(
                "list[str]", self.table.redis.zrangebyscore(self.table.key("timeouts"), "-inf", now, start=0, num=1000)
            )
        return self._units(units, None)

    def all(self, limit: int = 1000) -> list[Unit]:
        """Return those that wait for a host, in their order."""
        units: list[Unit] = []
        for shape in self.shapes():
            with self.table.reached():
                waiting = cast("list[str]", self.table.redis.zrange(self.table.key(f"pending:{shape}"), 0, limit - 1))
            units += self._units(waiting, shape)
            if len(units) >= limit:
                break
        return units[:limit]

    def count(self) -> int:
        """Return how many units wait for a host."""
        shapes = self.shapes()
        with self.table.reached():
            pipeline = self.table.redis.pipeline(transaction=False)
            for shape in shapes:
                pipeline.zcard(self.table.key(f"pending:{shape}"))
            return sum(pipeline.execute())

    def is_open(self, task_id: str) -> bool:
        """Return whether a request for *task_id* is neither over nor given up."""
        with self.table.reached():
            return bool(self.table.redis.hexists(self.table.key("open"), task_id))

    def waiting_of(self, task_ids: Iterable[str]) -> list[Unit]:
        """Return the units of *task_ids* that have no host yet, gangs as a whole."""
        wanted = list(task_ids)
        if not wanted:
            return []
        with self.table.reached():
            ids = [
                found for found in cast("list[Any]", self.table.redis.hmget(self.table.key("open"), wanted)) if found
            ]
            placed = cast("list[Any]", self.table.redis.hmget(self.table.key("placed"), ids)) if ids else []
        waiting = self._units([unit for unit, host in zip(ids, placed, strict=True) if host is None], None)
        named = sorted({unit.request.gang for unit in waiting if unit.request.gang})
        gangs = {unit.ids[0]: unit for unit in self._units(named, None) if len(unit.ids) > 1}  # those not placed yet
        found = [gangs.get(unit.request.gang, unit) for unit in waiting]
        return list({unit.ids: unit for unit in found}.values())

    def known_keys(self) -> frozenset[str]:
        """Return ``<service>.<capability>`` of all that was ever reported."""
        with self.table.reached():
            return frozenset(cast("set[str]", self.table.redis.smembers(self.table.key("keys"))))

    def knowing(self, request: Request) -> Request:
        """Return *request* with what is known now of the tasks and hosts that it speaks of."""
        tasks = [*request.same_host, *request.different_host]
        if not tasks and request.sticky is None:
            return request
        with self.table.reached():
            pipeline = self.table.redis.pipeline(transaction=False)
            pipeline.hget(self.table.key("sticky"), request.sticky or "")
            pipeline.hmget(self.table.key("ran"), [*tasks, ""])
            home, ran = pipeline.execute()
        hosts = zip(tasks, ran, strict=False)
        return request.knowing(
            ran={task: host for task, host in hosts if host is not None}, home=home if request.sticky else None
        )

    def fail(self, unit: Unit, kind: str, why: str) -> bool:
        """Give *unit* up; return False where it waits no more."""
        return bool(self.table.script("fail", [unit.ids[0], unit.shape, kind, why]))

    def failing(self, limit: int = 1000) -> list[Failing]:
        """Return the requests whose failure is still to be written as their results."""
        with self.table.reached():
            found = cast("Any", self.table.redis.hscan(self.table.key("failing"), count=limit))[1]
            ids = list(found)
            if not ids:
                return []
            requests = cast("list[Any]", self.table.redis.hmget(self.table.key("requests"), ids))
            messages = cast("list[Any]", self.table.redis.hmget(self.table.key("messages"), ids))
        failing = []
        for failed, request, message in zip(ids, requests, messages, strict=True):
            if request is None or message is None:
                self.finish(failed, "lost", "")  # Redis forgot what it was
                continue
            told, envelope = json.loads(found[failed]), from_json(message)
            try:
                known = Request.from_json(request)
            except ValueError:
                headers = envelope.get("headers") or {}  # all that can be read of it
                task_id, task = headers.get("id") or failed, headers.get("task") or "?"
                known = Request(id=failed, task_id=task_id, task=task, service=HOST_SERVICE)
            failing.append(Failing(known, told["kind"], told.get("why") or told["kind"], envelope))
        return failing

    def finish(self, request_id: str, outcome: str, why: str) -> bool:
        """Forget a failed request, its result being written; return False where somebody else did."""
        return bool(self.table.script("finish", [self.table.stamp(), request_id, outcome, why]))

    def _units(self, units: Sequence[str], shape: str | None) -> list[Unit]:
        if not units:
            return []
        with self.table.reached():
            pipeline = self.table.redis.pipeline(transaction=False)
            for name in ("requests", "gangs", "submitted", "orders", "avoided"):
                pipeline.hmget(self.table.key(name), units)
            known = pipeline.execute()
        found = []
        for unit, text, gang, since, order, avoided in zip(units, *known, strict=True):
            if text is None:
                continue
            ids = tuple(json.loads(gang)) if gang else (unit,)
            try:
                request = Request.from_json(text).avoiding(json.loads(avoided) if avoided else ())
            except ValueError as error:
                self._fail_unreadable(unit, shape, error)
                continue
            of = shape or unit_shape(request, len(ids))
            found.append(Unit(ids, of, request, since=float(since or 0.0), order=float(order or 0.0)))
        return found

    def _fail_unreadable(self, unit: str, shape: str | None, error: Exception) -> None:
        """Give a unit up that this version can't read, so that it holds up nobody."""
        logger.error("request %s can't be read: %s", unit, error)
        if shape is not None:
            self.table.script("fail", [unit, shape, "unreadable", f"the scheduler can't read the request: {error}"])


def unit_shape(request: Request, number: int) -> str:
    """Return the shape of so many requests that are placed at once."""
    return request.shape if number == 1 else f"{request.shape}*{number}"


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)
