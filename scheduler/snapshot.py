"""What the table said at one moment, as requests see it: hosts of a service, with what is free."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from managers.reports import Capabilities, Value
from scheduler.amounts import Amounts, totals
from scheduler.hosts import Host, Readiness, member_of

#: The service whose capabilities every other service's hosts have too: slots, zones and what else is the machine's.
HOST_SERVICE = "host"


@dataclass(slots=True)
class Candidate:
    """A host as a request for one service sees it: that service's capabilities, then the machine's.

    ``total`` and ``used`` are thousandths by resource; ``members`` are the rows it was made from, by what they are in
    the table. ``used`` follows the claims that are made after the snapshot.
    """

    host: str
    service: str
    state: str
    boot: int
    capabilities: Capabilities
    changed: Mapping[str, int]
    owners: Mapping[str, str]
    total: Amounts
    used: dict[str, int]
    failures: int = 0

    def free(self, resource: str) -> int:
        """Return how much of *resource* is left, in thousandths."""
        return self.total.get(resource, 0) - self.used.get(resource, 0)

    def has_free(self, claims: Amounts) -> bool:
        """Return whether *claims* fit in what is left."""
        return all(self.free(resource) >= amount for resource, amount in claims.items())

    def withdraw(self, claims: Amounts) -> None:
        """Note that *claims* were made."""
        for resource, amount in claims.items():
            self.used[resource] = self.used.get(resource, 0) + amount

    def amounts(self, claims: Amounts) -> dict[str, dict[str, int]]:
        """Return *claims* by the member that has each resource, as the claim script takes them."""
        of: dict[str, dict[str, int]] = {}
        for resource, amount in claims.items():
            of.setdefault(self.owners[resource], {})[resource] = amount
        return of


@dataclass
class Snapshot:
    """The rows of one moment, and how often each host failed lately."""

    rows: list[Host]
    readiness: Readiness
    failures: Mapping[str, int] = field(default_factory=dict)
    _services: dict[str, list[Candidate]] = field(default_factory=dict)

    def candidates(self, service: str) -> list[Candidate]:
        """Return the hosts of *service*, whatever their state."""
        if service not in self._services:
            machines = {row.host: row for row in self.rows if row.service == HOST_SERVICE}
            self._services[service] = [
                _candidate(row, machines.get(row.host), self.failures.get(row.host, 0))
                for row in self.rows
                if row.service == service
            ]
        return self._services[service]

    @cached_property
    def shares(self) -> Mapping[str, float]:
        """Return which part of the hosts has each capability: a number above 0, true, a text or a list."""
        having: dict[str, set[str]] = {}
        for row in self.rows:
            having.setdefault(row.host, set()).update(key for key, value in row.capabilities.items() if value)
        counted = Counter(key for keys in having.values() for key in keys)
        return {key: number / len(having) for key, number in counted.items()}


def _candidate(row: Host, machine: Host | None, failures: int) -> Candidate:
    rows: Iterable[Host] = (row,) if machine is None or machine is row else (machine, row)  # the later's names win
    capabilities: dict[str, Value] = {}
    owners: dict[str, str] = {}
    total: dict[str, int] = {}
    used: dict[str, int] = {}
    for part in rows:
        member = member_of(part.service, part.host)
        for name in part.capabilities:
            for known in (owners, total, used):
                known.pop(name, None)
        capabilities.update(part.capabilities)
        for resource, amount in totals(part.capabilities).items():
            owners[resource], total[resource], used[resource] = member, amount, part.used.get(resource, 0)
    return Candidate(
        host=row.host,
        service=row.service,
        state=row.state,
        boot=row.identity.boot,
        capabilities=capabilities,
        changed={member_of(part.service, part.host): part.changed for part in rows},
        owners=owners,
        total=total,
        used=used,
        failures=failures,
    )
