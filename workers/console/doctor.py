"""The doctor: asks every server once, then says of each part how it is and what to do."""

import importlib.metadata
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from managers.errors import ManagerError
from managers.version import version
from workers.config import FLEET_FILE, Settings, read_fleet_file
from workers.console import fleet_checks, server_checks
from workers.console.checks import FAILED, OK, WARNING, Check, failed, unknown
from workers.console.probes import Fault, Findings, TableFacts, probe
from workers.console.reading import database_address, shown

T = TypeVar("T")


def examine(settings: Settings) -> list[Check]:
    """Return every check, always the same ones in the same order; never raises, never hangs."""
    addresses = settings_check(settings)
    if addresses.status == FAILED:
        return [addresses]
    return [addresses, *judge(settings, probe(settings))]


def settings_check(settings: Settings) -> Check:
    """Judge what the settings say together."""
    try:
        broker = shown("BROKER_URL", settings.broker_url)
        table = shown("TABLE_URL", settings.table_address)
        shown("RESULT_BACKEND", settings.results_address)
        database = database_address(settings)
    except ManagerError as error:
        found, _, advice = str(error).partition("; ")
        return Check("settings", FAILED, found, advice)
    source = f"{settings.dir / FLEET_FILE}" if read_fleet_file(settings.dir) else "the environment and defaults"
    found = f"fleet {settings.fleet!r} by {source}: broker {broker}, table {table}, database {database}"
    if not settings.database_url and not _is_here(settings.table_address):
        advice = "set CELERIAC_DATABASE_URL to one database for all, on PostgreSQL"
        return Check(
            "settings", WARNING, f"{found}; the table is elsewhere, the database is this machine's own", advice
        )
    return Check("settings", OK, found)


def judge(settings: Settings, findings: Findings) -> Iterator[Check]:
    """Yield a check for each part; what a server that doesn't answer would have told is "not known"."""
    broker, table, database = findings.broker, findings.table, findings.database
    rows = [] if isinstance(table, Fault) else table.rows
    records = [] if isinstance(database, Fault) else database.records
    reports = _judged(
        "broker", broker, lambda facts: server_checks.broker(facts, shown("BROKER_URL", settings.broker_url), rows)
    )
    yield reports
    yield _judged("table", table, lambda facts: server_checks.table(facts, shown("TABLE_URL", settings.table_address)))
    yield _judged("database", database, lambda facts: server_checks.database(facts, database_address(settings)))
    if isinstance(table, Fault):
        for name in ("scheduler", "beat", "hosts", "placement", "clock", "versions", "counters"):
            yield unknown(name, "table")
        return
    yield fleet_checks.scheduler(table)
    if isinstance(broker, Fault):
        yield unknown("beat", "broker")
    else:
        yield fleet_checks.beat(table, backlog=reports.status != OK)
    yield fleet_checks.hosts(rows, table.readiness, records)
    yield fleet_checks.placement(table)
    yield server_checks.clock(table)
    yield server_checks.versions(installed(table), rows)
    yield fleet_checks.counters(table.counters)


def _judged(name: str, answer: T | Fault, check: Callable[[T], Check]) -> Check:
    return failed(name, answer) if isinstance(answer, Fault) else check(answer)


def installed(facts: TableFacts) -> dict[str, str]:
    """Return the versions of what this machine and the table's server run."""
    known = {"celeriac": version()}
    known |= {name: importlib.metadata.version(name) for name in ("celery", "kombu", "redis", "sqlalchemy")}
    server = str(facts.info.get("server_name", "redis"))
    return {**known, f"{server}-server": str(facts.info.get(f"{server}_version", "unknown"))}


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname
    try:
        return host in {None, "", "localhost"} or ip_address(host or "").is_loopback
    except ValueError:
        return False
