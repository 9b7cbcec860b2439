"""Judges the servers of a fleet by what they answered; pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from scheduler.hosts import Host
from workers.console.checks import FAILED, OK, START_SCHEDULER, WARNING, Check, listed
from workers.console.probes import Broker, DatabaseFacts, TableFacts

#: Reports that may wait without anybody wondering.
BACKLOG = 10
#: Seconds a round trip to the table may take.
SLOW = 0.1
#: Seconds by which two clocks may differ.
SKEW = 1.0


def broker(facts: Broker, address: str, rows: Iterable[Host]) -> Check:
    """Judge the queue of reports: more than one of each host says that nobody takes them."""
    usual = max(BACKLOG, len({row.host for row in rows}))
    if facts.depth is None:
        return Check("broker", WARNING, f"{address} answers, and has no queue 'scheduler' yet", START_SCHEDULER)
    found = f"{address} answers; {facts.depth} reports wait in the queue 'scheduler'"
    if facts.depth > usual:
        return Check("broker", WARNING, found, f"no scheduler takes them, or not fast enough; {START_SCHEDULER}")
    return Check("broker", OK, found)


def table(facts: TableFacts, address: str) -> Check:
    """Judge the Redis of the table: it must be the one that is written to, and may not drop keys of its own accord."""
    info = facts.info
    found = f"{address} answers in {1000 * facts.latency:.1f} ms"
    if not info:
        return Check("table", OK, f"{found}; its user may not ask for INFO, so memory and persistence are not known")
    policy, limit = info.get("maxmemory_policy", "unknown"), info.get("maxmemory_human", "unknown")
    kept = "AOF" if info.get("aof_enabled") else "snapshots at most"
    found += f"; persistence: {kept}; maxmemory {limit} with {policy}"
    if info.get("role") != "master":
        return Check(
            "table", FAILED, f"{found}; it is a replica and takes no writes", "name the master in CELERIAC_TABLE_URL"
        )
    for name in ("rdb_last_bgsave_status", "aof_last_write_status"):
        if info.get(name, "ok") != "ok":
            advice = "free its disk: a Redis that can't save refuses writes"
            return Check("table", FAILED, f"{found}; {name} is {info[name]}", advice)
    if policy not in {"noeviction", "unknown"}:
        return Check(
            "table",
            WARNING,
            f"{found}: it may evict keys when memory runs out",
            "CONFIG SET maxmemory-policy noeviction",
        )
    if facts.latency > SLOW:
        return Check(
            "table", WARNING, found, "heartbeats and ticks wait for it: look at its load, SLOWLOG and the network"
        )
    return Check("table", OK, found)


def database(facts: DatabaseFacts, address: str) -> Check:
    """Judge the schema."""
    found = f"{address} answers; {len(facts.records)} services registered"
    if facts.revision == facts.head:
        return Check("database", OK, found if facts.head is None else f"{found}; schema {facts.head}")
    if facts.revision is None:
        return Check("database", FAILED, f"{address} has no schema", "start a worker, which makes it")
    if facts.head is not None and facts.revision > facts.head:
        return Check(
            "database",
            WARNING,
            f"{found}; its schema {facts.revision} is newer than this code's {facts.head}",
            "install the fleet's version of celeriac here",
        )
    return Check(
        "database",
        FAILED,
        f"{found}; its schema {facts.revision} is older than this code's {facts.head}",
        "start a worker of this version, which brings it up to date",
    )


def clock(facts: TableFacts) -> Check:
    """Judge this machine's clock by Redis's, as far as the round trip lets one."""
    word = "ahead of" if facts.ahead > 0 else "behind"
    found = f"this machine is {abs(facts.ahead):.3f} s {word} Redis"
    if abs(facts.ahead) - facts.latency > SKEW:
        return Check(
            "clock", WARNING, found, "let NTP set both: Celery's expiry and time limits go by the machines' clocks"
        )
    return Check("clock", OK, found)


def versions(installed: Mapping[str, str], rows: Iterable[Host]) -> Check:
    """Judge whether the whole fleet and this machine run one celeriac."""
    found = ", ".join(f"{name} {version}" for name, version in installed.items())
    fleet: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        fleet[row.identity.version].add(row.host)
    if not fleet.keys() - {installed["celeriac"]}:
        return Check("versions", OK, found)
    mixed = "; ".join(f"{version} on {listed(sorted(names))}" for version, names in sorted(fleet.items()))
    return Check("versions", WARNING, f"{found}; the fleet runs {mixed}", "bring all to one version, schedulers first")
