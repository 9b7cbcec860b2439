"""Judges a fleet by its rows in the table and its records in the registry; pure, and by Redis's clock."""

from collections import Counter
from collections.abc import Iterable, Mapping

from managers.db.records import ServiceRecord
from scheduler.hosts import MISSED, Host, Readiness
from workers.console.checks import FAILED, NAMES, OK, START_SCHEDULER, WARNING, Check, listed
from workers.console.probes import TableFacts

#: Periodic intervals after which the newest report of the fleet is late.
LATE = 1.5
#: Seconds that a request may wait for a host without anybody wondering.
PATIENCE = 60.0
#: Ends of attempts that may wait for the next batch of the history.
UNWRITTEN = 1000


def is_present(row: Host) -> bool:
    """Say whether somebody beats for *row*, however old its report is."""
    return row.seen_seconds_ago < MISSED * row.identity.heartbeat_interval


def has_scheduler(rows: Iterable[Host]) -> bool:
    """Say whether a live scheduler is among *rows*."""
    return any(row.service == "scheduler" and is_present(row) for row in rows)


def scheduler(facts: TableFacts) -> Check:
    """Judge whether anybody turns reports into rows."""
    rows = [row for row in facts.rows if row.service == "scheduler"]
    live = sorted(row.host for row in rows if is_present(row))
    if live:
        return Check("scheduler", OK, f"{len(live)} live: {listed(live)}")
    silent = f"; {listed(row.host for row in rows)} fell silent" if rows else ""
    unsure = "" if facts.readiness.ready else f" (the table is not ready: {facts.readiness.reason})"
    return Check("scheduler", FAILED, f"none is live{silent}{unsure}", START_SCHEDULER)


def beat(facts: TableFacts, *, backlog: bool) -> Check:
    """Judge the ticks by their trace: hosts that are present and report nothing are not ticked."""
    present = [row for row in facts.rows if is_present(row)]
    if not present:
        return Check("beat", WARNING, "no host is present that could be ticked", "start a host, then look again")
    age, row = min(
        ((_age(row, facts.now), row) for row in present), key=lambda pair: pair[0] / pair[1].identity.interval
    )
    interval = row.identity.interval
    newest = (
        "the newest report is" if row.reported_seconds_ago is not None else "nothing reported, and the newest host is"
    )
    found = f"{newest} {age:.1f} s old, the interval {interval:g} s"
    if age <= LATE * interval:
        return Check("beat", OK, found)
    if not has_scheduler(present) or backlog:
        return Check("beat", WARNING, f"{found}; no scheduler takes reports, so ticks leave no trace", START_SCHEDULER)
    if age <= MISSED * interval:
        return Check("beat", WARNING, f"{found}: a period was missed", "look again in an interval; is a beat running?")
    return Check(
        "beat",
        FAILED,
        f"no beat ticks: hosts are present, but {found}",
        "start one: celery -A workers beat; any number may run. If one runs, its CELERIAC_BROKER_URL is another's",
    )


def _age(row: Host, now: float) -> float:
    return now - row.identity.joined_at if row.reported_seconds_ago is None else row.reported_seconds_ago


def hosts(rows: Iterable[Host], readiness: Readiness, records: Iterable[ServiceRecord]) -> Check:
    """Judge the hosts: stale ones, and lost ones that the registry believes to run and the table has pruned."""
    rows = [row for row in rows if row.service != "scheduler"]
    if not readiness.ready:
        return Check(
            "hosts", WARNING, f"not ready: {readiness.reason}", "wait an interval: live hosts come by themselves"
        )
    states = Counter(row.state for row in rows)
    found = ", ".join(f"{states[state]} {state}" for state in ("up", "draining", "disabled", "stale") if states[state])
    known = {(row.service, row.host) for row in rows}
    lost = sorted(
        f"{record.service} on {record.host}"
        for record in records
        if record.stopped_at is None and record.service != "scheduler" and (record.service, record.host) not in known
    )
    stale = [f"{row.service} on {row.host}: {'; '.join(row.reasons)}" for row in rows if row.state == "stale"]
    said = [found or "none", *stale[:NAMES], *([f"lost without a goodbye: {listed(lost)}"] if lost else [])]
    if not rows:
        return Check("hosts", FAILED, "; ".join(said), "celeriac up starts a fleet here")
    if stale:
        advice = "look whether their workers run and reach Redis; their logs say more"
        return Check("hosts", WARNING if states["up"] else FAILED, "; ".join(said), advice)
    if not states["up"]:
        return Check("hosts", FAILED, "; ".join(said), "enable one, or wait for those that start")
    if lost:
        advice = "start their workers again; managers.db.api.service_destroy forgets what is gone for good"
        return Check("hosts", WARNING, "; ".join(said), advice)
    return Check("hosts", OK, "; ".join(said))


def placement(facts: TableFacts) -> Check:
    """Judge whether what can be placed is, and whether its ends are written down."""
    placing, counted = facts.placing, facts.counters
    waits = f"{placing.waiting} wait for a host"
    waits += f", the oldest for {placing.oldest_seconds:.0f} s" if placing.waiting else ""
    found = (
        f"{waits}; {placing.overdue} not begun in time; placed by the sweep alone"
        f" {counted.get('requests_placed_by_sweep', 0)}; sums repaired {counted.get('claims_repaired', 0)};"
        f" {placing.unwritten} ends not in the history yet"
    )
    if placing.overdue:
        return Check("placement", FAILED, found, f"no scheduler places them elsewhere; {START_SCHEDULER}")
    if dropped := counted.get("history_dropped", 0):
        said = f"{dropped} ends are lost to the history: the schedulers' logs say why they don't write it"
        return Check("placement", WARNING, found, said)
    if placing.unwritten > UNWRITTEN:
        return Check("placement", WARNING, found, "the schedulers' logs say why they don't write the history")
    if counted.get("claims_repaired", 0):
        return Check("placement", WARNING, found, "the scheduler's log says whose claims were miscounted")
    if placing.oldest_seconds > PATIENCE:
        return Check("placement", WARNING, found, "celeriac pending says why they wait")
    return Check("placement", OK, found)


def counters(counted: Mapping[str, int]) -> Check:
    """Judge what the scheduler counted since Redis was last emptied."""
    found = ", ".join(f"{name} {value}" for name, value in sorted(counted.items())) or "nothing counted yet"
    if counted.get("reports_refused", 0):
        return Check(
            "counters", WARNING, found, "the scheduler's log names the sender and the fault of each refused report"
        )
    return Check("counters", OK, found)
