"""What a host costs the table's Redis: bytes, and the server's CPU time for a heartbeat and for a report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sample import INTERVAL, identity_of, name_of, report_of

from scheduler.hosts import Joined
from scheduler.table import Table

#: Reports in one call, as a scheduler gathers them.
BATCH = 64
#: Heartbeats and reports to measure at least, however few the hosts.
LEAST = 2000


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost per host in a table of *hosts* with one service each.

    ``*_script_us`` is the time in the Lua script alone (INFO commandstats), ``*_cpu_us`` all CPU time that the server
    spent meanwhile, network and protocol included (INFO cpu); ``batched`` is with 64 reports in a call.
    """

    hosts: int
    bytes_per_host: float
    heartbeat_script_us: float
    heartbeat_cpu_us: float
    report_script_us: float
    report_cpu_us: float
    batched_report_script_us: float
    batched_report_cpu_us: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


def measure(client: Any, hosts: int) -> Cost:
    """Fill the table with *hosts*, let them beat and report, and empty it again."""
    client.flushdb()
    table = Table(client)
    _fill(table, 1)  # the scripts are loaded
    client.flushdb()
    empty = _memory(client)
    boots = _fill(table, hosts)
    filled = _memory(client)

    def beat(call: int) -> None:
        number = call % hosts
        table.heartbeat(identity_of(number).instance, INTERVAL, [f"host/{name_of(number)}"])

    def report(call: int) -> None:
        sequence, number = divmod(call, hosts)
        table.store([report_of(number, boot=boots[number], sequence=sequence + 2)])

    calls = max(hosts, LEAST)
    reported = -(-calls // hosts)

    def report_many(call: int) -> None:
        taken = (divmod(message, hosts) for message in range(call * BATCH, (call + 1) * BATCH))
        table.store(
            [report_of(number, boot=boots[number], sequence=sequence + 2 + reported) for sequence, number in taken]
        )

    beats = _cpu(client, beat, calls)
    singles = _cpu(client, report, calls)
    batches = _cpu(client, report_many, -(-calls // BATCH))
    counted = table.counters()
    client.flushdb()
    if counted.keys() != {"reports_stored"}:
        raise RuntimeError(f"not every report became a row: {counted}")
    return Cost(hosts, (filled - empty) / hosts, *beats, *singles, *(time / BATCH for time in batches))


def _fill(table: Table, hosts: int) -> list[int]:
    boots = []
    for number in range(hosts):
        identity = identity_of(number)
        joined = table.join(identity, [f"host/{name_of(number)}"])
        if not isinstance(joined, Joined):
            raise TypeError(f"{name_of(number)} can't join: {joined}")
        boots.append(joined.boot)
        table.heartbeat(identity.instance, INTERVAL, [f"host/{name_of(number)}"])
        table.store([report_of(number, boot=joined.boot, sequence=1)])
    return boots


def _memory(client: Any) -> int:
    """Return the bytes that hold keys: all that is allocated but the buffers of connections."""
    known = client.info("memory")
    return int(known["used_memory"]) - int(known["mem_clients_normal"])


def _cpu(client: Any, act: Callable[[int], None], calls: int) -> tuple[float, float]:
    """Return the microseconds of script and of server CPU that one call of *act* took."""
    scripts, cpu = _spent(client)
    for call in range(calls):
        act(call)
    scripts_after, cpu_after = _spent(client)
    return (scripts_after - scripts) / calls, (cpu_after - cpu) / calls


def _spent(client: Any) -> tuple[float, float]:
    """Return the microseconds spent in scripts and on the CPU since the server began."""
    scripts = client.info("commandstats").get("cmdstat_evalsha", {"usec": 0})["usec"]
    cpu = client.info("cpu")
    return float(scripts), 1e6 * (cpu["used_cpu_user"] + cpu["used_cpu_sys"])
