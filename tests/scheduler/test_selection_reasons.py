"""What is said of a request for more hosts than there are."""

from scheduler.explain import explain
from scheduler.hosts import Host, Identity, Readiness
from scheduler.requests import Request, check_options
from scheduler.select import INFEASIBLE, Selector
from scheduler.snapshot import Snapshot


def host(name: str) -> Host:
    identity = Identity("i", "m", 1, 0.0, "0", heartbeat_interval=10.0, interval=60.0)
    return Host("host", name, "up", (), 0.0, 0.0, {"slots": 1}, identity)


def test_who_asks_for_more_hosts_than_there_are_is_told_so() -> None:
    snapshot = Snapshot([host("a"), host("b")], Readiness(ready=True))
    request = Request(id="1", task_id="t", task="tasks.t", service="host", claims=check_options({})["claims"])

    enough = Selector().select(request, snapshot, count=2)
    too_many = Selector().select(request, snapshot, count=3)

    assert str(enough) == "2/2 hosts: all fit"
    assert (str(too_many), too_many.verdict) == ("2/2 hosts: 3 are needed at once", INFEASIBLE)
    assert explain(request, snapshot, Selector(), count=3).reasons == ["3 are needed at once"]
