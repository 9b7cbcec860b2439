"""Rules of one's own for the choice of hosts, named by CELERIAC_FILTERS and CELERIAC_WEIGHERS."""

from scheduler import Candidate, No, Request, Snapshot


def reserved(request: Request, candidate: Candidate) -> No | None:
    """Keep hosts that are reserved to those who ask for that."""
    if candidate.capabilities.get("reserved") and "reserved" not in request.keys:
        return No("reserved")
    return None


def idle(request: Request, candidate: Candidate, snapshot: Snapshot) -> float:
    """Prefer the host whose machine has least to do, whoever gave it that."""
    load = candidate.capabilities.get("load_1m")
    return -load if isinstance(load, int | float) else 0.0
