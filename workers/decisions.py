"""What an operator decides about a host: that it gets no new work, and that it gets some again.

Such a word goes to two places: into the database, from which a worker of the host takes it at its start, and into the
capability table, by which placement goes at once. Where one of them doesn't take it the other still does, and HalfDone
says so.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from managers.db import ServiceNotFound, ServiceRecord
from managers.errors import ManagerError
from managers.routing import check_host
from scheduler.claims import Claim, Claims
from scheduler.errors import HostNotFound, TableUnavailable
from scheduler.hosts import Host, member_of
from scheduler.table import Table
from workers.console.reading import snapshot
from workers.errors import HalfDone, WorkerError
from workers.servers import Fleet, Servers, nearest, reach

#: Seconds between two looks at what a draining host still runs.
LOOK = 0.5

_DATABASE, _TABLE = "the database", "the capability table"


@dataclass(frozen=True, slots=True)
class Drained:
    """What ``drain`` came to: the services that get no new work, and the claims that were open at the last look."""

    services: list[str]
    left: list[Claim]


def disable(host: str, reason: str, *, service: str | None = None, fleet: Fleet = None) -> list[str]:
    """Place nothing more on *host*, over restarts too, until it is enabled; what it has runs on.

    Of all its services, or of one; return which. *fleet* is an adopted application or settings, by default those of
    this process's environment.

    Raises:
        HostNotFound: neither the table nor the database knows it; the message has the nearest name.
        HalfDone: one of them did not take it.
        ManagerError: neither took it.
    """
    if not reason.strip():
        raise ValueError("the reason is blank; say why, for those who wonder later")
    with reach(fleet) as servers:
        return _decide(servers, host, service, reason)


def enable(host: str, *, service: str | None = None, fleet: Fleet = None) -> list[str]:
    """Undo ``disable`` and ``drain``, and have looked whether what waits fits now; return of which services.

    Raises:
        HostNotFound, HalfDone, ManagerError: as of ``disable``.
    """
    with reach(fleet) as servers:
        return _decide(servers, host, service, None)


def drain(
    host: str,
    reason: str = "maintenance",
    *,
    service: str | None = None,
    wait: float | None = None,
    fleet: Fleet = None,
    on_left: Callable[[list[Claim]], object] | None = None,
    pause: Callable[[float], object] | None = None,
) -> Drained:
    """Disable *host* with a reason that says draining, then wait up to *wait* seconds until it holds no claim.

    None waits for nothing, ``math.inf`` for as long as it takes. Between two looks *on_left* hears what is left, and
    *pause* waits for so many seconds.

    Raises:
        HostNotFound, ManagerError: as of ``disable``.
        HalfDone: as of ``disable``; if the table took it, when the wait is over.
        TableUnavailable: it drains, but nobody can tell what it still runs.
    """
    fault = None
    try:
        services = disable(host, f"draining: {reason}", service=service, fleet=fleet)
    except HalfDone as error:
        if not error.in_table:
            raise
        fault, services = error, error.services
    with reach(fleet) as servers:
        table = servers.table
        try:
            until = table.now() + (wait or 0.0)
            while (left := _open(table, host, services)) and (remaining := until - table.now()) > 0:
                if on_left is not None:
                    on_left(left)
                (pause or time.sleep)(min(LOOK, remaining))
        except TableUnavailable as error:
            raise TableUnavailable(f"{host} is draining, but what it still runs is not known: {error}") from error
    if fault is not None:
        raise fault
    return Drained(services, left)


def _open(table: Table, host: str, services: Sequence[str]) -> list[Claim]:
    return [claim for claim in Claims(table).of(host) if claim.service in services]


def _decide(servers: Servers, host: str, service: str | None, reason: str | None) -> list[str]:
    """Write into database and table that *host* is disabled for *reason*, or, None, that it is enabled."""
    known, faults = _asked(servers)
    services = _services(check_host(host), service, known, faults)
    # the database first: a worker that starts just now tells the table what it reads there
    for place, write in ((_DATABASE, _write_database), (_TABLE, _write_table)):
        if place not in faults:
            try:
                write(servers, host, services, reason)
            except ManagerError as error:
                faults[place] = error
    if len(faults) == 2:
        raise _nothing_done(faults)
    if faults:
        raise _half_done(host, services, "enabled" if reason is None else "disabled", faults)
    return services


def _write_database(servers: Servers, host: str, services: Sequence[str], reason: str | None) -> None:
    """Write what the database has records of, then raise ServiceNotFound if there was one that it hasn't."""
    missing = None
    with servers.database() as module:
        for service in services:
            try:
                module.service_update(service, host, disabled=reason is not None, disabled_reason=reason)
            except ServiceNotFound as error:
                missing = error
    if missing is not None:
        raise missing


def _write_table(servers: Servers, host: str, services: Sequence[str], reason: str | None) -> None:
    for service in services:
        if reason is None:
            servers.table.enable(member_of(service, host))
        else:
            servers.table.disable(member_of(service, host), reason)


def _asked(servers: Servers) -> tuple[dict[str, set[str]], dict[str, ManagerError]]:
    """Return every host's services, as database and table know them together, and which of the two can't be asked."""
    known: dict[str, set[str]] = {}
    faults: dict[str, ManagerError] = {}
    places: dict[str, Callable[[], Iterable[ServiceRecord | Host]]] = {
        _DATABASE: servers.records,
        _TABLE: lambda: snapshot(servers.table)[0],
    }
    for place, ask in places.items():
        try:
            for entry in ask():
                known.setdefault(entry.host, set()).add(entry.service)
        except ManagerError as error:
            faults[place] = error
    return known, faults


def _services(
    host: str, service: str | None, known: Mapping[str, set[str]], faults: Mapping[str, ManagerError]
) -> list[str]:
    """Return which services of *host* are meant: all, or the one.

    Raises:
        HostNotFound: nobody who could be asked knows it.
        ManagerError: nobody could be asked.
    """
    if len(faults) == 2:
        raise _nothing_done(faults)
    more = "".join(f"; {place} can't be asked: {fault}" for place, fault in faults.items())
    if host not in known:
        raise HostNotFound(f"nobody knows a host {host!r}; {nearest(host, known)}{more}")
    if service is None:
        return sorted(known[host])
    if service not in known[host]:
        raise HostNotFound(f"host {host!r} has no service {service!r}; {nearest(service, known[host])}{more}")
    return [service]


def _nothing_done(faults: Mapping[str, ManagerError]) -> ManagerError:
    return WorkerError(f"nothing is changed: {faults[_TABLE]}; and {faults[_DATABASE]}")


def _half_done(host: str, services: Sequence[str], word: str, faults: Mapping[str, ManagerError]) -> HalfDone:
    ((place, fault),) = faults.items()
    if place == _TABLE:
        said = (
            f"{host} is {word} in {_DATABASE} only; placement goes by the table, which hears of it at the next start of"
            " the host's worker"
        )
    elif isinstance(fault, ServiceNotFound):
        said = (
            f"{host} is {word} in {_TABLE}, but {_DATABASE} has no record of {fault.service!r} there, so that ends with"
            " the next start of its worker; does CELERIAC_DATABASE_URL name the fleet's?"
        )
    else:
        said = f"{host} is {word} in {_TABLE} only, and that ends with the next start of its worker"
    return HalfDone(f"{said}; {fault}", services, in_table=place != _TABLE)
