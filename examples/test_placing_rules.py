from typing import Any

from placing_rules import idle, reserved

from scheduler import Candidate, No, Request, Requirement, Snapshot
from scheduler.hosts import Readiness


def host(name: str, **capabilities: Any) -> Candidate:
    nothing: dict[str, int] = {}
    return Candidate(name, "host", "up", 1, capabilities, changed={}, owners={}, total=nothing, used=nothing)


def asking(requires: str) -> Request:
    return Request(id="1", task_id="t", task="tasks.t", service="host", requires=Requirement.of(requires))


def test_a_reserved_host_is_for_those_who_say_so() -> None:
    kept = host("gpu-1", reserved=True)

    assert reserved(asking("zone == 'a'"), kept) == No("reserved")
    assert reserved(asking("reserved and zone == 'a'"), kept) is None
    assert reserved(asking("zone == 'a'"), host("cpu-1")) is None


def test_the_idler_host_is_preferred() -> None:
    fleet = Snapshot([], Readiness(ready=True))
    calm, busy = (idle(asking(""), host("cpu", load_1m=load), fleet) for load in (0.5, 3))

    assert calm > busy
