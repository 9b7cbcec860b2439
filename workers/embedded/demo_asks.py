"""What the demo's parts ask of a host, and how it came out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery.result import AsyncResult
from rich.table import Table

from scheduler.errors import NoValidHost
from scheduler.hosts import Host
from scheduler.requirements import Requirement


@dataclass(frozen=True, slots=True)
class Ask:
    """A requirement, "" for none, and the memory that is claimed beside one slot."""

    requires: str
    memory_mb: int

    def __str__(self) -> str:
        return ", ".join(part for part in (self.requires, f"{self.memory_mb} MB") if part)

    def fits(self, host: Host) -> bool:
        """Return whether *host* would do if nothing else ran there."""
        has_memory = host.total.get("memory_mb", 0) >= self.memory_mb
        return has_memory and Requirement.of(self.requires).matches(host.capabilities)


#: What the parts ask for, in turn.
ASKS = (Ask("", 256), Ask("zone == 'b'", 512), Ask("disk == 'ssd'", 1536), Ask("zone != 'a'", 768))

#: What no host of the demo has.
NOWHERE = Ask("zone == 'b'", 8192)


@dataclass(slots=True)
class Part:
    """Some files, sent to a host that has what they ask for."""

    ask: Ask
    result: AsyncResult[Any]
    answer: dict[str, Any] | None = None
    error: NoValidHost | None = None

    def look(self) -> bool:
        """Take the result in; return whether it is new.

        Raises:
            Exception: what went wrong, unless that was to find a host.
        """
        if not self.is_open or not self.result.ready():
            return False
        try:
            self.answer = self.result.get()
        except NoValidHost as error:
            self.error = error
        return True

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of its end yet."""
        return self.answer is None and self.error is None


def host_table(rows: Sequence[Host], parts: Sequence[Part]) -> Table:
    """Return the hosts with what is free, and how much each has done."""
    table = Table(title="hosts, as the capability table knows them")
    for column in ("host", "state", "seen", "zone", "disk"):
        table.add_column(column)
    for column in ("free slots", "free memory", "parts done"):
        table.add_column(column, justify="right")
    ran = Counter(part.answer["host"] for part in parts if part.answer is not None)
    for row in rows:
        if row.service == "host":
            said = [str(row.capabilities.get(key, "")) for key in ("zone", "disk")]
            left = [f"{row.free.get(key, 0):g} of {row.total.get(key, 0):g}" for key in ("slots", "memory_mb")]
            left[1] += " MB"
            table.add_row(row.host, row.state, f"{row.seen_seconds_ago:.1f} s ago", *said, *left, str(ran[row.host]))
    return table


def ask_table(rows: Sequence[Host], parts: Sequence[Part]) -> Table:
    """Return what was asked for, which hosts have it, and where it ran."""
    hosts = [row for row in rows if row.service == "host"]
    table = Table(
        title="what parts asked for, and where they ran",
        caption="each claims a slot besides; who asks for no SSD leaves the only one free while it can",
    )
    for column in ("asked for", "hosts that have it"):
        table.add_column(column)
    for host in hosts:
        table.add_column(f"ran on {host.host}", justify="right")
    for ask in (*ASKS, NOWHERE):
        asking = [part for part in parts if part.ask == ask]
        if asking:
            ran = Counter(part.answer["host"] for part in asking if part.answer is not None)
            having = ", ".join(host.host for host in hosts if ask.fits(host)) or "none"
            table.add_row(str(ask), having, *(str(ran[host.host] or "") for host in hosts))
    return table


def strayed(rows: Sequence[Host], parts: Sequence[Part]) -> list[str]:
    """Return what ran where it should not have."""
    hosts = {row.host: row for row in rows if row.service == "host"}
    done = [(part.ask, part.answer["host"]) for part in parts if part.answer is not None]
    return [f"{ask} on {host}" for ask, host in done if host not in hosts or not ask.fits(hosts[host])]
