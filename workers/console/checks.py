"""A check of the doctor: one thing looked at, how it is, what was found and what to do."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from workers.console.probes import Fault

OK, WARNING, FAILED = "ok", "warning", "failed"

#: What to do where no scheduler runs.
START_SCHEDULER = "start one: CELERIAC_SERVICES=scheduler celery -A workers worker"

#: Names a message lists before it only counts.
NAMES = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: its *status* is ok, warning or failed."""

    name: str
    status: str
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the JSON shape that ``celeriac doctor --json`` promises."""
        return asdict(self)


def failed(name: str, fault: Fault) -> Check:
    """Return the check of a server that can't be asked."""
    return Check(name, FAILED, fault.found, fault.advice)


def unknown(name: str, cause: str) -> Check:
    """Return the check that the failed check *cause* leaves undone."""
    return Check(name, WARNING, f"not known: {cause} failed", f"see to {cause} first")


def listed(names: Iterable[str]) -> str:
    """Return the first few of *names*, and how many more there are."""
    known = list(names)
    more = len(known) - NAMES
    return ", ".join(known[:NAMES]) + (f" and {more} more" if more > 0 else "")
