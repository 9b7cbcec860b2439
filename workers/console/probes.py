"""Asks the servers of a fleet what a doctor wants to know: all at once, none for longer than the patience."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from kombu import Connection
from redis.exceptions import ResponseError

from managers.db import schema
from managers.db.records import ServiceRecord
from managers.errors import ManagerError
from managers.manager import DB_DRIVER
from managers.routing import service_queue
from scheduler.claims import Claims
from scheduler.ended import Ended
from scheduler.hosts import Host, Readiness
from scheduler.pending import Pending
from scheduler.table import Table
from workers.config import PREFIX, Settings
from workers.console import reading

#: Readings of Redis's clock; the quickest is the truest.
_READINGS = 3

#: Seconds in which a scheduler should have seen that a claim was not begun in time.
REAPED = 10.0

#: AMQP's code for a queue that isn't there.
_NOT_FOUND = "404"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a server could not be asked, and what to do."""

    found: str
    advice: str


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker's part; *depth* is how many reports wait for a scheduler, None where their queue was never made."""

    depth: int | None


@dataclass(frozen=True, slots=True)
class Placing:
    """How placement is: requests that wait, the oldest's age, claims not begun in time, ends not in the history yet."""

    waiting: int = 0
    oldest_seconds: float = 0.0
    overdue: int = 0
    unwritten: int = 0


@dataclass(frozen=True, slots=True)
class TableFacts:
    """The table Redis's part; *ahead* is how many seconds this machine's clock is ahead of Redis's.

    *info* is empty where Redis's user may not ask for it.
    """

    rows: list[Host]
    readiness: Readiness
    counters: Mapping[str, int]
    now: float
    ahead: float
    latency: float
    info: Mapping[str, Any]
    placing: Placing = Placing()


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The database's part; the revisions are None where a db_driver of the user's own keeps the records."""

    records: list[ServiceRecord]
    revision: str | None
    head: str | None


@dataclass(frozen=True, slots=True)
class Findings:
    """What each server answered."""

    broker: Broker | Fault
    table: TableFacts | Fault
    database: DatabaseFacts | Fault


def probe(settings: Settings) -> Findings:
    """Ask all servers at once; takes no longer than ``reading.PATIENCE``."""
    until = time.monotonic() + reading.PATIENCE
    broker = reading.begin(lambda: ask_broker(settings))
    table = reading.begin(lambda: ask_table(settings))
    database = reading.begin(lambda: ask_database(settings))

    def left(answer: Callable[[float], T], setting: str, address: Callable[[], str]) -> T | Fault:
        way_out = f"check that it runs and that {PREFIX}{setting} names it"
        try:
            return answer(max(0.0, until - time.monotonic()))
        except TimeoutError:
            return Fault(f"{address()} does not answer in {reading.PATIENCE:g} s", way_out)
        except ManagerError as error:
            found, _, advice = str(error).rpartition("; ")
            return Fault(found, advice) if found else Fault(advice, way_out)
        except Exception as error:  # noqa: BLE001  # a doctor reports what it finds
            return Fault(f"{address()} can't be used: {type(error).__name__}: {error}", way_out)

    return Findings(
        left(broker.result, "BROKER_URL", lambda: reading.shown("BROKER_URL", settings.broker_url)),
        left(table.result, "TABLE_URL", lambda: reading.shown("TABLE_URL", settings.table_address)),
        left(database.result, "DATABASE_URL", lambda: reading.database_address(settings)),
    )


def ask_broker(settings: Settings) -> Broker:
    """Connect, and count the reports that wait."""
    reading.shown("BROKER_URL", settings.broker_url)
    patience = reading.PATIENCE
    options = {"socket_timeout": patience, "socket_connect_timeout": patience} if settings.broker_is_redis else {}
    with Connection(settings.broker_url, connect_timeout=patience, transport_options=options) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        queue = service_queue("scheduler").name
        try:
            declared = cast("Any", connection.default_channel).queue_declare(queue=queue, passive=True)
        except connection.channel_errors as error:
            if str(getattr(error, "reply_code", "")) != _NOT_FOUND:
                raise
            # Redis knows no empty queue, RabbitMQ keeps one for ever
            return Broker(0 if settings.broker_is_redis else None)
        return Broker(int(declared.message_count))


def ask_table(settings: Settings) -> TableFacts:
    """Read all rows, Redis's clock and what Redis says of itself."""
    with reading.open_table(settings) as table:
        clock = []
        for _ in range(_READINGS):
            began, wall = time.monotonic(), time.time()
            now = table.now()
            took = time.monotonic() - began
            clock.append((took, wall + took / 2 - now))
        latency, ahead = min(clock)
        rows, readiness = reading.snapshot(table)
        try:
            info = table.redis.info()
        except ResponseError:
            info = {}
        return TableFacts(rows, readiness, table.counters(), table.now(), ahead, latency, info, ask_placing(table))


def ask_placing(table: Table) -> Placing:
    """Count what waits at each of placement's steps."""
    parked, now = Pending(table), table.now()
    return Placing(
        waiting=parked.count(),
        oldest_seconds=max((now - unit.since for unit in parked.all()), default=0.0),
        overdue=Claims(table).overdue(REAPED),
        unwritten=Ended(table).count(),
    )


def ask_database(settings: Settings) -> DatabaseFacts:
    """Read the registry and its schema's revision, oldest fault first: without a schema there are no records."""
    if settings.db_driver != DB_DRIVER:
        return DatabaseFacts(reading.records(settings), None, None)
    reading.open_database(settings)
    revision, head = schema.revision(), schema.head()
    return DatabaseFacts([] if revision is None else reading.records(settings), revision, head)
