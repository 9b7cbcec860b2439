"""What is told of a request that fits nowhere: the line, and the reasons that are taken out of it again."""

from typing import Any

import pytest

from scheduler.explain import explain, parts
from scheduler.hosts import Host, Identity, Readiness
from scheduler.requests import Request, check_options
from scheduler.select import Selector
from scheduler.snapshot import Snapshot

IDENTITY = Identity("i", "vm", 1, 2.5, "0.1.0", 10.0, 60.0, 7, 0.0)
READY = Readiness(ready=True)


def line(*capabilities: dict[str, Any], readiness: Readiness = READY, **asked: Any) -> str:
    rows = [
        Host("host", f"h-{number}", "up", (), 1.0, 1.0, {"slots": 4, **known}, IDENTITY)
        for number, known in enumerate(capabilities)
    ]
    request = Request("1", "t", "render", "host", **check_options(asked))
    return str(explain(request, Snapshot(rows, readiness), Selector()))


@pytest.mark.parametrize(
    ("requires", "reasons"),
    [
        ("gpu.model in ('A100', 'H100') and zone != 'c'", ["2 gpu.model in ('A100', 'H100')"]),
        ("zone in (1, 2, 3) or has(disk)", ["2 has(disk) or zone in (1, 2, 3)"]),
        ("zone == 'a'", ["1 gpus >= 1 (most free: 0)", "1 zone == 'a'"]),
    ],
)
def test_a_clause_with_commas_is_one_reason(requires: str, reasons: list[str]) -> None:
    said = line({"zone": "a"}, {"zone": "b"}, requires=requires, claims={"gpus": 1})

    assert sorted(parts(f"no valid host for render within 2.0 s; {said}")) == reasons


def test_a_service_without_hosts_is_not_said_to_fit() -> None:
    assert line() == "0/0 hosts: none is known of that service"


def test_a_table_that_is_not_ready_says_why_and_counts_nobody() -> None:
    assert line(readiness=Readiness(ready=False, reason="the table is empty")) == "0/0 hosts: the table is empty"
