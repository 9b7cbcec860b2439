"""Tasks of a cluster are placed as a fleet's are: by what hosts have, what is left of it, and who is alive."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import Ignore, Reject, TaskRevokedError
from celery.exceptions import TimeoutError as ResultTimeout

from managers import Manager, expose
from managers.host import HostManager
from scheduler.errors import HostLost, InvalidPlacement, NoValidHost
from scheduler.task import ScheduledTask
from workers.registry import registry_of
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]

Maker = Callable[..., Any]


@pytest.fixture
def ran() -> list[tuple[str, Any]]:
    """The hosts that tasks ran on, and what each was given."""
    return []


@pytest.fixture
def placed(cluster: Cluster, ran: list[tuple[str, Any]]) -> Maker:
    """Make a task with these options, that writes down where it ran and returns its host."""

    def make(**options: Any) -> Any:
        name = options.pop("name", f"tests.placed{len(cluster.app.tasks)}")

        @cluster.app.task(bind=True, base=ScheduledTask, name=name, **options)
        def note(task: Any, what: Any = None) -> str:
            host: str = task.request.hostname.removeprefix("celery@")
            ran.append((host, what))
            return host

        return note

    return make


def test_a_task_runs_on_the_host_that_has_what_it_requires(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"zone": "a"})
    cluster.add_host("b", {"zone": "b"})

    result = placed(requires="zone == 'b'").delay()

    assert result.get() == "b"
    assert cluster.errors == []


def test_a_running_task_holds_what_it_claims_and_one_slot_and_gives_it_back(cluster: Cluster) -> None:
    cluster.add_host("gpu-1", {"gpus": 2, "slots": 4})
    held: list[Any] = []

    @cluster.app.task(base=ScheduledTask, claims={"gpus": 0.5})
    def render() -> None:
        (claim,) = cluster.claims
        (row,) = cluster.table.host("gpu-1")
        held.extend([claim.task, claim.host, claim.state, claim.claims, dict(row.free)])

    result = render.delay()

    assert held == [render.name, "gpu-1", "running", {"gpus": 0.5, "slots": 1}, {"slots": 3, "gpus": 1.5}]
    assert result.successful()
    assert cluster.claims == cluster.pending == []
    assert cluster.table.host("gpu-1")[0].free == {"slots": 4, "gpus": 2}


def test_a_placed_task_acts_as_its_host(cluster: Cluster) -> None:
    cluster.add_host("a")
    b = cluster.start(Ports, hosts=["b"])
    cluster.add_host("b", {"zone": "b"})

    @cluster.app.task(base=ScheduledTask, requires={"zone": "b"})
    def which() -> bool:
        return registry_of(cluster.app).local("ports") is b[0]

    assert which.delay().get() is True


def test_what_finds_no_room_waits_and_the_first_that_ends_wakes_it(
    cluster: Cluster, placed: Maker, ran: list[Any]
) -> None:
    cluster.add_host("gpu-1", {"gpus": 1, "slots": 8})
    render = placed(claims={"gpus": 1})

    with cluster.hold("host.gpu-1"):
        results = [render.delay(number) for number in range(3)]
        assert [claim.task_id for claim in cluster.claims] == [results[0].id]
        assert [request.task_id for request in cluster.pending] == [results[1].id, results[2].id]

    assert ran == [("gpu-1", 0), ("gpu-1", 1), ("gpu-1", 2)]
    assert "requests_placed_by_sweep" not in cluster.table.counters()


@pytest.mark.parametrize("event", ["report", "add_host", "enable", "restart"])
def test_what_fits_nowhere_runs_as_soon_as_a_host_can_take_it(
    cluster: Cluster, placed: Maker, ran: list[Any], event: str
) -> None:
    cluster.add_host("old", {"gpus": 4 if event in {"enable", "restart"} else 1})
    if event == "enable":
        cluster.disable("old")
    if event == "restart":
        cluster.stop("old")
    result = placed(claims={"gpus": 2}).delay()
    cluster.advance(5)
    assert ran == []

    if event == "report":
        cluster.report("old", {"gpus": 2})
    elif event == "add_host":
        cluster.add_host("new", {"gpus": 2})
    else:
        getattr(cluster, event)("old")

    assert result.get() == ("new" if event == "add_host" else "old")
    assert "requests_placed_by_sweep" not in cluster.table.counters()


def test_who_waits_for_what_fits_nowhere_is_told_why(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1, "zone": "a"})
    cluster.add_host("b", {"gpus": 4, "zone": "b"})
    result = placed(requires="zone == 'a'", claims={"gpus": 2}).delay()

    with pytest.raises(
        ResultTimeout, match=r"it waits for a place; 0/2 hosts: .*nearest: a lacks gpus >= 2 \(free: 1\)"
    ):
        result.get()


@pytest.mark.parametrize(
    ("until", "said"), [("eta", "it waits for its eta"), ("scheduler", "it waits for a scheduler, of which none is up")]
)
def test_who_waits_for_time_or_a_scheduler_is_told_so(cluster: Cluster, placed: Maker, until: str, said: str) -> None:
    cluster.add_host("a", {"gpus": 1})
    if until == "scheduler":
        cluster.fail("scheduler")
    result = placed(claims={"gpus": 1}).apply_async(countdown=10 if until == "eta" else None)

    with pytest.raises(ResultTimeout, match=said):
        result.get()


def test_explain_says_who_fits_without_placing_anything(cluster: Cluster) -> None:
    cluster.add_host("a", {"gpus": 2, "zone": "a"})
    cluster.add_host("b", {"zone": "b"})

    found = cluster.explain("zone == 'a'", claims={"gpus": 2})

    assert (found.verdict, found.fit, found.hosts) == ("feasible", 1, 2)
    assert found.clauses == [("zone == 'a'", 1), ("gpus >= 2", 1), ("slots >= 1", 2)]
    assert cluster.explain(claims={"gpus": 3}).verdict == "infeasible"
    assert cluster.explain(count=2, claims={"gpus": 1}).verdict == "infeasible"
    assert cluster.explain(exclude="a", requires="zone == 'a'").fit == 0
    assert cluster.table.counters().keys() == {"reports_stored"}
    with pytest.raises(InvalidPlacement):
        cluster.explain(claims={"gpus": -1})


def test_an_explanation_in_an_assertion_says_what_is_missing(cluster: Cluster) -> None:
    cluster.add_host("a", {"gpus": 2})

    assert repr(cluster.explain(claims={"gpus": 3})) == (
        "<infeasible, 0/1 hosts: 1 gpus >= 3 (most free: 2); nearest: a lacks gpus >= 3 (free: 2)>"
    )


def test_claims_on_hosts_that_are_busy_are_full_and_not_infeasible(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 2})

    with cluster.hold("host.a"):
        placed(claims={"gpus": 2}).delay()

        assert cluster.explain(claims={"gpus": 1}).verdict == "full"


def test_a_task_without_options_goes_where_it_ever_went(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a")

    assert placed().delay().get() == "a"

    assert "requests_recorded" not in cluster.table.counters()
    assert cluster.sent[-1].queue == "host"


def test_an_explicit_queue_skips_the_scheduler(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1})
    cluster.add_host("b")

    assert placed(claims={"gpus": 1}).apply_async(queue="host.b").get() == "b"

    assert "requests_recorded" not in cluster.table.counters()


def test_a_call_may_ask_for_more_than_its_task(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("small", {"gpus": 1})
    cluster.add_host("large", {"gpus": 4})

    assert placed(claims={"gpus": 1}).apply_async(claims={"gpus": 2}).get() == "large"


def test_a_retry_keeps_its_id_and_what_the_call_asked_and_is_placed_anew(cluster: Cluster) -> None:
    cluster.add_host("a", {"gpus": 4})
    tries: list[tuple[str, float]] = []

    @cluster.app.task(bind=True, base=ScheduledTask, claims={"gpus": 1}, default_retry_delay=30)
    def flaky(task: Any) -> str:
        (claim,) = cluster.claims
        tries.append((task.request.id, claim.claims["gpus"]))
        if task.request.retries < 2:
            raise task.retry()
        return "done"

    result = flaky.apply_async(claims={"gpus": 3})
    assert len(tries) == 1
    assert cluster.claims == []
    cluster.advance(29)
    assert len(tries) == 1
    cluster.advance(31)

    assert tries == [(result.id, 3)] * 3
    assert result.get() == "done"
    assert cluster.errors == []


def test_the_steps_of_a_chain_are_placed_each_where_it_can_run(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"zone": "a"})
    cluster.add_host("b", {"zone": "b"})
    note = placed()

    result: Any = chain(note.s().set(requires="zone == 'a'"), note.s().set(requires="zone == 'b'")).apply_async()

    assert (result.parent.get(), result.get()) == ("a", "b")


def test_the_parts_of_a_group_and_the_body_of_a_chord_are_placed(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"zone": "a"})
    cluster.add_host("b", {"zone": "b"})
    there = placed(requires={"zone": "b"})

    @cluster.app.task(base=ScheduledTask, requires={"zone": "a"})
    def collect(hosts: list[str]) -> list[str]:
        return sorted(hosts)

    assert group(there.s(number) for number in range(3)).apply_async().get() == ["b"] * 3
    assert chord((there.s(number) for number in range(3)), collect.s()).apply_async().get() == ["b"] * 3


def test_a_link_follows_a_placed_task(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a", {"zone": "a"})
    cluster.add_host("b", {"zone": "b"})

    placed(requires={"zone": "a"}).apply_async(link=placed(requires={"zone": "b"}).s())

    assert ran == [("a", None), ("b", "a")]


def test_what_nobody_can_take_in_time_ends_with_no_valid_host_and_its_errback_is_told(
    cluster: Cluster, placed: Maker
) -> None:
    cluster.add_host("a", {"gpus": 1})
    told: list[str] = []

    @cluster.app.task
    def told_of(request: Any, error: Any, traceback: Any) -> None:
        told.append(str(error))

    result = placed(claims={"gpus": 2}).apply_async(placement_timeout=60, link_error=told_of.s())
    cluster.advance(59)
    assert result.state == "PENDING"
    cluster.advance(1)

    with pytest.raises(NoValidHost, match=r"within 60\.0 s; 0/1 hosts: 1 gpus >= 2 \(most free: 1\)"):
        result.get()
    assert len(told) == 1
    assert told[0].startswith("no valid host")
    assert cluster.pending == []


def test_a_chord_whose_part_finds_no_host_fails(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1})
    note = placed(claims={"gpus": 1}, placement_timeout=10)

    result = chord([note.s(1), note.s(2).set(claims={"gpus": 2})], note.s()).apply_async()
    cluster.advance(10)

    assert result.state == "FAILURE"


def test_a_countdown_comes_before_the_wait_for_a_place(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a", {"gpus": 1})
    result = placed(claims={"gpus": 1}).apply_async(countdown=100, placement_timeout=5)

    cluster.advance(99)
    assert (ran, cluster.claims, result.state) == ([], [], "PENDING")
    cluster.advance(1)

    assert result.get() == "a"


def test_a_countdown_ends_on_time_though_nothing_else_happens(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a")
    placed(claims={"slots": 1}).apply_async(countdown=0.5)

    cluster.advance(0.49)
    assert ran == []
    cluster.advance(0.01)

    assert ran == [("a", None)]


def test_what_expires_while_it_waits_is_revoked(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a", {"gpus": 1})
    result = placed(claims={"gpus": 2}).apply_async(expires=30)

    cluster.advance(29)
    assert result.state == "PENDING"
    cluster.advance(1)

    assert result.state == "REVOKED"
    cluster.report("a", {"gpus": 2})
    assert ran == []


def test_what_expires_in_its_hosts_queue_is_revoked_and_gives_its_claim_back(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1})

    with cluster.hold("host.a"):
        result = placed(claims={"gpus": 1}).apply_async(expires=20)
        cluster.advance(21)
        assert len(cluster.claims) == 1

    assert result.state == "REVOKED"
    assert cluster.claims == []


def test_a_revoked_task_that_waits_is_never_placed(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a", {"gpus": 1})
    result = placed(claims={"gpus": 2}).delay()

    result.revoke()

    with pytest.raises(TaskRevokedError):
        result.get()
    cluster.report("a", {"gpus": 2})
    assert (ran, cluster.pending) == ([], [])


def test_a_revoked_task_in_its_hosts_queue_is_dropped_and_gives_its_claim_back(
    cluster: Cluster, placed: Maker, ran: list[Any]
) -> None:
    cluster.add_host("a", {"gpus": 1})

    with cluster.hold("host.a"):
        result = placed(claims={"gpus": 1}).delay()
        result.revoke()

    assert result.state == "REVOKED"
    assert (ran, cluster.claims) == ([], [])


def test_a_revoked_ordinary_task_is_dropped(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a")

    with cluster.hold():
        result = placed().delay()
        result.revoke()

    assert result.state == "REVOKED"
    assert ran == []


def test_the_next_cluster_knows_nothing_of_what_this_one_revoked() -> None:
    states = []
    for _ in range(2):
        with Cluster() as cluster:
            cluster.add_host("a")

            @cluster.app.task
            def one() -> None:
                pass

            states.append(one.apply_async(task_id="the-same").state)
            cluster.app.control.revoke("the-same")

    assert states == ["SUCCESS", "SUCCESS"]


def test_the_highest_priority_is_placed_first_and_then_the_first_to_come(
    cluster: Cluster, placed: Maker, ran: list[Any]
) -> None:
    cluster.add_host("a", {"gpus": 1})
    render = placed(claims={"gpus": 1})

    with cluster.hold():
        for what, priority in [("low", 1), ("first", 5), ("second", 5), ("high", 9)]:
            render.apply_async((what,), priority=priority)

    assert [what for _, what in ran] == ["high", "first", "second", "low"]


def test_what_cant_be_placed_holds_up_nothing_that_can(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a", {"gpus": 1})

    with cluster.hold():
        placed(claims={"gpus": 9}).apply_async(("never",), priority=9)
        placed(claims={"gpus": 1}).apply_async(("now",))

    assert ran == [("a", "now")]


def test_a_gang_gets_a_host_for_each_or_none(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a", {"gpus": 1})
    cluster.add_host("b")

    result = placed(claims={"gpus": 1}, count=2).delay("part")
    assert (ran, cluster.claims) == ([], [])
    assert len(cluster.pending) == 1
    cluster.report("b", {"gpus": 1})

    assert sorted(result.get()) == ["a", "b"]
    assert sorted(ran) == [("a", "part"), ("b", "part")]


def test_tasks_stay_together_or_apart_as_they_are_told(cluster: Cluster, placed: Maker) -> None:
    for name in ("a", "b", "c"):
        cluster.add_host(name)
    note = placed()

    first = note.apply_async(requires="slots == 1")

    for _ in range(3):
        assert note.apply_async(same_host=first.id).get() == first.get()
        assert note.apply_async(different_host=[first.id]).get() != first.get()
    assert note.apply_async(same_host="never-placed", placement_timeout=1).state == "PENDING"
    assert note.apply_async(only="c").get() == "c"
    assert note.apply_async(exclude=["a", "c"]).get() == "b"


def test_sticky_prefers_the_last_host_and_must_stick_waits_for_it(cluster: Cluster, placed: Maker) -> None:
    for name in ("a", "b", "c"):
        cluster.add_host(name, {"slots": 8})
    note = placed(sticky="model-7")
    home = note.delay().get()

    assert {note.delay().get() for _ in range(5)} == {home}
    cluster.disable(home)
    waiting = note.apply_async(must_stick=True)
    assert waiting.state == "PENDING"
    cluster.enable(home)
    assert waiting.get() == home
    cluster.disable(home)
    assert note.delay().get() != home


def test_a_wish_decides_among_hosts_that_fit(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("plain", {"slots": 8})
    cluster.add_host("loaded", {"slots": 8, "model": "sdxl"})
    note = placed(prefers={"model == 'sdxl'": 10})

    assert {note.delay().get() for _ in range(5)} == {"loaded"}


class Ports(Manager[None], service_name="ports"):
    """Attaches, and says where."""

    @expose
    def attach(self, port: int) -> tuple[str, int]:
        return self.host, port


def test_a_method_goes_to_a_host_by_what_service_and_machine_have(cluster: Cluster) -> None:
    for name, ports, zone in [("one", 4, "a"), ("two", 1, "b"), ("three", 4, "b")]:
        cluster.add_host(name, {"zone": zone, "memory_mb": 100})
        cluster.add_host(name, {"ports": ports}, service="switch")
    held: list[Any] = []

    @cluster.app.task(
        base=ScheduledTask, service="switch", requires="zone == 'b'", claims={"ports": 2, "memory_mb": 60}
    )
    def attach() -> None:
        held.extend((claim.host, claim.service, claim.amounts) for claim in cluster.claims)

    attach.delay().get()

    assert held == [
        ("three", "switch", {"switch/three": {"ports": 2000}, "host/three": {"memory_mb": 60000, "slots": 1000}})
    ]


def test_where_places_a_managers_method_and_on_names_the_one_host(cluster: Cluster) -> None:
    cluster.start(Ports, hosts=["a", "b"])
    cluster.add_host("a", {"zone": "a"})
    cluster.add_host("b", {"zone": "b"})

    assert Ports.attach.where("zone == 'b'").call(7) == ["b", 7]
    assert Ports.attach.where(claims={"slots": 1}).on("a").call(7) == ["a", 7]
    Ports.attach.where("zone == 'a'").cast(8)

    assert [(sent.host, sent.args) for sent in cluster.casts] == [("b", (7,)), ("a", (7,)), ("a", (8,))]
    assert Ports.attach.where("zone == 'a'").delay(9).get() == ["a", 9]


def test_a_capability_that_no_host_ever_reported_is_named_with_the_nearest(
    cluster: Cluster, placed: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.add_host("a", {"gpu.model": "A100"})

    placed(requires="gpu.modle == 'A100'").delay()

    assert "'gpu.modle', which no host has ever reported; did you mean 'gpu.model'?" in caplog.text
    caplog.clear()
    cluster.add_host("b", {"arch": "arm64"})
    placed(requires="arch == 'arm64'").delay()
    assert "no host has ever reported" not in caplog.text


@pytest.mark.parametrize(
    ("error", "state", "counts"),
    [(ValueError("no"), "FAILURE", 1), (Ignore(), "PENDING", 0), (Reject("no"), "FAILURE", 1)],
)
def test_however_a_task_ends_its_claim_ends_with_it(
    cluster: Cluster, error: Exception, state: str, counts: int
) -> None:
    cluster.add_host("a", {"gpus": 1})

    @cluster.app.task(base=ScheduledTask, claims={"gpus": 1})
    def end() -> None:
        raise error

    result = end.delay()

    assert result.state == state
    assert (cluster.claims, cluster.pending) == ([], [])
    assert cluster.table.host("a")[0].free["gpus"] == 1
    assert registry_of(cluster.app).claims.failures().get("a", 0) == counts


def test_a_message_that_its_task_puts_back_is_placed_anew(cluster: Cluster) -> None:
    cluster.add_host("a", {"gpus": 1})
    tries: list[str] = []

    @cluster.app.task(base=ScheduledTask, claims={"gpus": 1}, acks_late=True)
    def shy() -> str:
        (claim,) = cluster.claims
        tries.append(f"{claim.state} {claim.attempt}")
        if len(tries) < 3:
            raise Reject("not now", requeue=True)
        return "done"

    assert shy.delay().get() == "done"
    assert tries == ["running 1", "running 2", "running 3"]
    assert cluster.claims == []


def test_a_task_whose_host_dies_under_it_is_lost(cluster: Cluster) -> None:
    cluster.add_host("a", {"gpus": 1})
    cluster.add_host("b")
    begun: list[str] = []

    @cluster.app.task(base=ScheduledTask, claims={"gpus": 1})
    def doomed() -> None:
        begun.append("a")
        cluster.fail("a")
        begun.append("more")

    result = doomed.delay()
    assert begun == ["a"]
    assert result.state == "PENDING"
    cluster.advance(61)

    with pytest.raises(HostLost, match=r"a was not heard of for 6 heartbeats"):
        result.get()
    assert begun == ["a"]
    assert cluster.claims == []


def test_a_late_acknowledging_task_runs_again_elsewhere_and_its_old_message_is_refused(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.add_host("a", {"gpus": 1})
    begun: list[str] = []

    @cluster.app.task(bind=True, base=ScheduledTask, claims={"gpus": 1}, acks_late=True)
    def render(task: Any) -> str:
        host: str = task.request.hostname.removeprefix("celery@")
        begun.append(host)
        if host == "a":
            cluster.fail("a")
        return host

    result = render.delay()
    cluster.add_host("b", {"gpus": 1})
    cluster.advance(61)
    assert result.get() == "b"
    cluster.restart("a")
    cluster.run()

    assert begun == ["a", "b"]
    assert "is not run here: its claim is gone" in caplog.text
    assert cluster.claims == []


def test_what_a_dead_host_had_not_begun_runs_elsewhere_and_stays_refused(
    cluster: Cluster, placed: Maker, ran: list[Any]
) -> None:
    cluster.add_host("a", {"gpus": 1})
    cluster.fail("a")
    result = placed(claims={"gpus": 1}).delay()
    assert [claim.state for claim in cluster.claims] == ["placed"]
    cluster.add_host("b", {"gpus": 1})

    cluster.advance(31)

    assert result.get() == "b"
    cluster.restart("a")
    cluster.run()
    assert ran == [("b", None)]


def test_what_a_stopping_host_had_not_begun_runs_elsewhere_at_once(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1})

    with cluster.hold("host.a"):
        result = placed(claims={"gpus": 1}).delay()
        cluster.stop("a")
        cluster.add_host("b", {"gpus": 1})

    assert result.get() == "b"


def test_a_host_that_does_not_begin_in_time_is_passed_over_and_fenced(
    cluster: Cluster, placed: Maker, ran: list[Any]
) -> None:
    cluster.add_host("a", {"fast": True})
    cluster.add_host("b")
    render = placed(prefers={"fast": 100}, claims={"slots": 1})

    with cluster.hold("host.a"):
        result = render.delay()
        assert [claim.host for claim in cluster.claims] == ["a"]
        cluster.advance(30)
        assert ran == [("b", None)]

    assert ran == [("b", None)]
    assert result.get() == "b"
    assert cluster.table.counters()["claims_fenced"] == 1


def test_what_is_never_begun_fails_after_its_attempts(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1})

    with cluster.hold("host.a"):
        result = placed(claims={"gpus": 1}, max_attempts=2, start_deadline=10).delay()
        cluster.advance(10)
        assert result.state == "PENDING"
        cluster.advance(11)

    with pytest.raises(NoValidHost, match="a did not begin it in time"):
        result.get()


def test_an_announcement_that_the_broker_loses_is_made_up_for(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    cluster.add_host("a", {"gpus": 1})

    with cluster.hold():
        result = placed(claims={"gpus": 1}).delay()
        assert [sent.task for sent in cluster.lose("scheduler")] == ["scheduler.place"]
    assert ran == []
    cluster.advance(6)

    assert result.get() == "a"
    assert len(ran) == 1


def test_a_message_to_a_host_that_the_broker_loses_is_sent_again(
    cluster: Cluster, placed: Maker, ran: list[Any]
) -> None:
    cluster.add_host("a", {"gpus": 1})
    render = placed(claims={"gpus": 1})

    with cluster.hold("host.a"):
        result = render.delay("scene")
        (lost,) = cluster.lose("host.a")
    assert (lost.task, lost.queue, lost.args, ran) == (render.name, "host.a", ("scene",), [])
    cluster.advance(31)

    assert result.get() == "a"
    assert ran == [("a", "scene")]


def test_without_a_scheduler_tasks_wait_and_one_that_starts_takes_them_up(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1})
    cluster.fail("scheduler")
    result = placed(claims={"gpus": 1}).delay()
    timed_out = placed(claims={"gpus": 2}).apply_async(placement_timeout=20)
    assert result.state == "PENDING"

    cluster.restart("scheduler")
    assert result.get() == "a"
    cluster.advance(30)

    assert timed_out.state == "FAILURE"


def test_of_two_schedulers_either_places(cluster: Cluster, placed: Maker, ran: list[Any]) -> None:
    from scheduler.manager import SchedulerManager  # noqa: PLC0415

    cluster.start(SchedulerManager, hosts=["second"])
    cluster.add_host("a", {"gpus": 1})
    cluster.fail("scheduler")

    with cluster.hold("host.a"):
        results = [placed(claims={"gpus": 1}, placement_timeout=60).delay(number) for number in range(2)]
    late = placed(claims={"gpus": 2}, placement_timeout=10).delay()
    cluster.advance(15)

    assert [result.get() for result in results] == ["a", "a"]
    assert late.state == "FAILURE"


def test_a_disabled_host_ends_what_it_runs_and_gets_nothing_new(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 2})

    with cluster.hold("host.a"):
        before = placed(claims={"gpus": 1}).delay()
        cluster.disable("a", "new disk")
        after = placed(claims={"gpus": 1}).delay()

    assert before.get() == "a"
    assert after.state == "PENDING"
    assert "1 disabled" in cluster.explain(claims={"gpus": 1}).reasons


def test_a_host_that_is_added_has_one_slot_unless_told(cluster: Cluster) -> None:
    cluster.add_host("a")
    cluster.add_host("b", {"slots": 3})
    cluster.add_host("c", {"ports": 2}, service="switch")

    rows = {(row.service, row.host): dict(row.capabilities) for row in cluster.hosts() if row.host != "scheduler"}
    assert rows == {
        ("host", "a"): {"slots": 1},
        ("host", "b"): {"slots": 3},
        ("host", "c"): {"slots": 1},
        ("switch", "c"): {"ports": 2},
    }


def test_what_a_test_says_of_a_host_stays_until_it_says_otherwise(cluster: Cluster) -> None:
    cluster.add_host("a", {"gpus": 2})
    cluster.report("a", {"gpus": 3, "zone": "a"})

    cluster.advance(120)
    assert cluster.table.host("a")[0].capabilities == {"gpus": 3, "zone": "a", "slots": 1}
    cluster.restart("a")

    assert cluster.table.host("a")[0].capabilities == {"gpus": 3, "zone": "a", "slots": 1}
    with pytest.raises(ValueError, match="'a' runs 'host' already"):
        cluster.add_host("a")
    with pytest.raises(ValueError, match="host 'a' runs host, not 'switch'"):
        cluster.report("a", {}, service="switch")


def test_hosts_that_measure_and_hosts_that_are_told_live_side_by_side(cluster: Cluster) -> None:
    cluster.start(HostManager, hosts=["real"])
    cluster.add_host("told", {"zone": "a"})

    assert "memory_mb" in cluster.table.host("real")[0].capabilities
    assert cluster.table.host("told")[0].capabilities == {"slots": 1, "zone": "a"}


def test_a_service_with_a_manager_of_its_own_is_started_and_not_added(cluster: Cluster) -> None:
    cluster.start(Ports, hosts=["a"])

    with pytest.raises(ValueError, match=r"cluster\.start\(Ports, hosts=\['b'\]\)"):
        cluster.add_host("b", {"ports": 2}, service="ports")
    with pytest.raises(TypeError, match="reports nothing"):
        cluster.report("a", {"ports": 2}, service="ports")


def test_nothing_waits_by_the_second_where_nothing_has_to(cluster: Cluster, placed: Maker) -> None:
    cluster.add_host("a", {"gpus": 1})
    placed(claims={"gpus": 1}).delay().get()
    turns: list[bool] = []
    placer = registry_of(cluster.app).placer
    turn = placer.turn
    placer.turn = lambda **options: (turns.append(True), turn(**options))  # type: ignore[method-assign,assignment]

    cluster.advance(600)

    assert len(turns) <= 1
