"""Whatever hosts, schedulers, the broker, operators and time do, nothing is given away twice, lost, or run twice.

Two schedulers place by snapshots of their own, and what happens may happen inside their turns: between the choice and
the claim, and between the claim and the message. The model keeps what each host really runs.
"""

import json
import os
import uuid
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scheduler.claims import Claim, Claims
from scheduler.connections import connect
from scheduler.pending import Failing, Pending, unit_shape
from scheduler.requests import Request
from scheduler.table import Table
from tests.scheduler.bodies import (
    HEARTBEAT,
    INTERVAL,
    Body,
    Scheduler,
    candidates,
    claim,
    field_of,
    gang,
    keys_of,
    request,
    submit,
    summed,
)

HOSTS = ("a", "b", "c")
#: What tasks ask; the last fits nowhere.
ASKED: list[dict[str, Any]] = [
    {},
    {"claims": {"gpus": 0.1}},
    {"claims": {"slots": 0, "gpus": 0.7}},
    {"claims": {"mb": 3}, "requires": "zone == 'x'"},
    {"claims": {"slots": 0}},
    {"claims": {"gpus": 99}},
]
#: What hosts report, by how well they are: of the machine, and of the service.
REPORTED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"slots": 2, "mb": 4, "zone": "x"}, {"gpus": 1.5}),
    ({"slots": 1, "mb": 4, "zone": "y"}, {"gpus": 0.7}),
    ({"slots": 0, "zone": "x"}, {}),
]
hosts = st.sampled_from(HOSTS)
schedulers = st.sampled_from([0, 1])


class PlacementMachine(RuleBasedStateMachine):
    """Drives two schedulers and three hosts."""

    url = "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.client: Any = connect(self.url)
        self.table = Table(self.client, fleet=f"model-{uuid.uuid4()}", now=lambda: self.now)
        self.claims, self.pending = Claims(self.table), Pending(self.table)
        self.revoked: set[str] = set()
        self.schedulers = [Scheduler(self.table, revoked=lambda: self.revoked) for _ in range(2)]
        for scheduler in self.schedulers:
            scheduler.dispatch = self.send  # type: ignore[method-assign]
            scheduler.conclude = self.conclude  # type: ignore[method-assign]
        self.bodies: dict[str, Body] = {}
        self.grades = dict.fromkeys(HOSTS, 0)
        self.queues: dict[str, deque[dict[str, Any]]] = {host: deque() for host in HOSTS}
        self.delivered: list[tuple[str, dict[str, Any]]] = []
        self.reports: list[dict[str, Any]] = []
        self.number = 0
        self.is_broker_down = False
        self.after_claim: Callable[[], object] | None = None
        #: Whether each request that was ever submitted may be run twice.
        self.late: dict[str, bool] = {}
        self.never: set[str] = set()
        self.tasks: dict[str, str] = {}
        self.lost_in_flush: set[str] = set()
        self.ends: Counter[str] = Counter()
        self.begun: dict[str, str] = {}
        self.given_back: set[str] = set()
        #: Hosts that may hold more than they report: it shrank, or they brought back what they really run.
        self.excused: set[str] = set()
        #: Requests whose claims somebody deleted before they began.
        self.bereft: set[str] = set()
        #: Hosts whose sums somebody changed by hand.
        self.forged: set[str] = set()

    # What schedulers do

    def send(self, claim: Claim, message: Any) -> None:
        for member, resources in claim.amounts.items():
            for resource, amount in resources.items():
                if claim.host not in self.forged:
                    assert self.of("totals", member).get(resource, 0) >= self.of("used", member)[resource] >= amount
        assert message == {"body": claim.id}
        then, self.after_claim = self.after_claim, None
        if then is not None:
            then()
        if self.is_broker_down:
            raise ConnectionError("no broker")
        self.queues[claim.host].append(claim.to_header())

    def conclude(self, failing: Failing) -> None:
        if failing.request.id not in self.lost_in_flush:
            self.ends[failing.request.id] += 1

    def of(self, name: str, member: str) -> dict[str, int]:
        return dict(json.loads(self.client.hget(self.table.key(name), member) or "{}"))

    @initialize(number=st.integers(1, 3))
    def first(self, number: int) -> None:
        for host in HOSTS[:number]:
            self.join(host)
            self.report(host)
        self.advance(INTERVAL)
        for asked in range(3):
            self.submit(asked)
        self.turn(0)

    @rule(
        asked=st.integers(0, len(ASKED) - 1), is_late=st.booleans(), rank=st.sampled_from([0, 0, 5]),
        number=st.sampled_from([1, 1, 1, 2]), delay=st.sampled_from([None, None, 20.0]),
        timeout=st.sampled_from([None, None, 15.0, 100.0]), told=st.sampled_from([None, 0, 1]),
    )  # fmt: skip
    def somebody_submits(self, told: int | None, **asked: Any) -> None:
        shape = self.submit(**asked)
        if told is not None:
            self.schedulers[told].placer.notice(shape)
            self.turn(told)

    def submit(
        self, asked: int, *, is_late: bool = False, rank: int = 0, number: int = 1, delay: float | None = None,
        timeout: float | None = None,
    ) -> str:  # fmt: skip
        names = [f"{self.number + index:03}" for index in range(number)]
        self.number += number
        asked_for = {**ASKED[asked], "start_deadline": 30.0, "is_late": is_late}
        requests = gang(*names, **asked_for) if number > 1 else [request(names[0], **asked_for)]
        submit(
            self.table, *requests, rank=rank, not_before=None if delay is None else self.now + delay, timeout=timeout
        )
        for one in requests:
            self.late[one.id], self.tasks[one.id] = is_late, one.task_id
            if asked == len(ASKED) - 1:
                self.never.add(one.id)
        return unit_shape(requests[0], number)

    @rule(which=schedulers)
    def a_scheduler_places(self, which: int) -> None:
        self.turn(which)

    def turn(self, which: int) -> None:
        self.schedulers[which].turn()

    @rule(
        which=schedulers, host=hosts, asked=st.integers(0, 4), number=st.sampled_from([1, 2]),
        act=st.sampled_from([
            "turn", "claim", "claim", "shrink", "take", "crash", "leave", "restart", "end", "disable", "flush",
        ]),
        is_claimed=st.booleans(),
    )  # fmt: skip
    def something_happens_while_a_scheduler_places(
        self, which: int, host: str, asked: int, number: int, act: str, *, is_claimed: bool
    ) -> None:
        shape = self.submit(asked, number=number)
        for scheduler in self.schedulers:
            scheduler.placer.notice(shape)
        acts: dict[str, Callable[[], object]] = {
            "turn": self.schedulers[1 - which].turn,
            "claim": lambda: self.claim_all(host, asked),
            "shrink": lambda: self.report(host, 2),
            "take": lambda: self.take(host),
            "crash": lambda: self.bodies.pop(host, None),
            "leave": lambda: self.leave(host, is_soft=False),
            "restart": lambda: self.restart(host),
            "end": lambda: self.end(host, "done"),
            "disable": lambda: self.table.disable(f"render/{host}", "why"),
            "flush": self.flush,
        }  # fmt: skip
        if is_claimed:
            self.after_claim = acts[act]
        else:
            self.schedulers[which].selector.then = acts[act]
        self.schedulers[which].turn()
        self.after_claim = self.schedulers[which].selector.then = None

    def claim_all(self, host: str, asked: int) -> None:
        """Have a third scheduler, whose messages the broker loses, give away all that a host has left."""
        for _ in range(3):
            self.submit(asked)
            name = max(self.late)
            one = Request.from_json(self.client.hget(self.table.key("requests"), name))
            claim(self.table, one, offered=[found for found in candidates(self.table) if found.host == host])

    def the_reaper_dies(self) -> None:
        self.client.delete(self.table.key("reaper"), self.table.key("concluder"))

    # What hosts do

    @precondition(lambda self: len(self.bodies) < len(HOSTS))
    @rule(host=hosts)
    def a_host_joins(self, host: str) -> None:
        self.join(one_of(host, [host for host in HOSTS if host not in self.bodies]))

    def join(self, host: str) -> None:
        if host not in self.bodies:
            self.number += 1
            body = Body(self.table, host, f"{host}-{self.number}")
            if body.join():
                self.bodies[host] = body
                self.excused.add(host)

    @precondition(lambda self: self.bodies)
    @rule(host=hosts, how=st.sampled_from(["crash", "crash", "restart", "restart", "leave", "kill", "drain"]))
    def a_host_goes(self, host: str, how: str) -> None:
        host = one_of(host, sorted(self.bodies))
        if how == "restart":
            self.restart(host)
        elif how == "drain":
            self.bodies[host].drain()
        elif how == "crash":
            del self.bodies[host]
        else:
            self.leave(host, is_soft=how == "leave")

    def restart(self, host: str) -> None:
        """Another life takes the names at once: what the earlier one ran died with it."""
        self.number += 1
        old, body = self.bodies.get(host), Body(self.table, host, f"{host}-{self.number}")
        if body.join(*([old.instance] if old else [])):
            self.bodies[host] = body
            self.excused.add(host)

    @precondition(lambda self: self.bodies)
    @rule(host=hosts, grade=st.sampled_from([None, 0, 0, 1, 2]), is_kept=st.booleans(), is_null=st.booleans())
    def a_host_reports(self, host: str, grade: int | None, *, is_kept: bool, is_null: bool) -> None:
        self.report(one_of(host, sorted(self.bodies)), grade, is_kept=is_kept, is_null=is_null)

    def report(self, host: str, grade: int | None = None, *, is_kept: bool = False, is_null: bool = False) -> None:
        if host not in self.bodies:
            return
        body = self.bodies[host]
        self.grades[host] = self.grades[host] if grade is None else grade
        of_host, of_render = REPORTED[self.grades[host]]
        said = body.say(None if is_null else of_host, None if is_null else of_render).to_dict()
        body.reports_at = self.now + INTERVAL
        if is_kept:
            self.reports.append(said)
        else:
            self.store(said)

    @precondition(lambda self: self.reports)
    @rule(index=st.integers(0, 9), is_again=st.booleans())
    def an_old_report_arrives(self, index: int, *, is_again: bool) -> None:
        index %= len(self.reports)
        self.store(self.reports[index] if is_again else self.reports.pop(index))

    def store(self, said: dict[str, Any]) -> None:
        """Have a scheduler take a report in: by it a host may have less than it gave, or more than it knew of."""
        scheduler = Body(self.table, "s", "s").scheduler
        if scheduler.update_service_capabilities([said]).get("stored"):
            self.forged.discard(said["host"])
            self.excused.add(said["host"])

    @precondition(lambda self: self.sent_to())
    @rule(host=hosts, is_slow=st.booleans(), is_repeated=st.booleans())
    def a_message_arrives(self, host: str, *, is_slow: bool, is_repeated: bool) -> None:
        host = one_of(host, self.sent_to())
        if is_repeated:
            self.queues[host].append(self.queues[host][0])
        self.take(host, is_slow=is_slow)

    def sent_to(self) -> list[str]:
        return [host for host in HOSTS if host in self.bodies and self.queues[host]]

    def take(self, host: str, *, is_slow: bool = False) -> None:
        """Take a message: hand it to the pool, which asks to begin, now or later."""
        if host in self.bodies and self.queues[host]:
            claim = self.queues[host].popleft()
            self.delivered.append((host, claim))
            self.bodies[host].accepted.append(claim)
            if not is_slow:
                self.begin(host)

    @precondition(lambda self: self.accepting())
    @rule(host=hosts)
    def a_slow_one_begins(self, host: str) -> None:
        self.begin(one_of(host, self.accepting()))

    def accepting(self) -> list[str]:
        return [host for host in HOSTS if host in self.bodies and self.bodies[host].accepted]

    def begin(self, host: str) -> None:
        if host not in self.bodies or not self.bodies[host].accepted:
            return
        body = self.bodies[host]
        claim = body.accepted.pop()
        was_running = field_of(claim) in body.running
        if body.start(claim) == "go":
            name, field = claim["id"], field_of(claim)
            assert not was_running, f"{field} runs twice at once"
            assert field not in self.begun.values() or field in self.given_back, f"{field} was begun twice"
            before = self.begun.get(name)
            assert before is None or self.late[name] or before in self.given_back, f"{name} ran as {before}"
            self.given_back.discard(field)
            self.begun[name] = field

    @rule(act=st.sampled_from(["repeats", "repeats", "repeats", "loses", "goes", "comes"]), index=st.integers(0, 30))
    def the_broker(self, act: str, index: int) -> None:
        waiting = [host for host in HOSTS if self.queues[host]]
        if act == "repeats" and self.delivered:
            host, claim = self.delivered[index % len(self.delivered)]
            self.queues[host].append(claim)
        elif act == "loses" and waiting:
            self.queues[waiting[index % len(waiting)]].popleft()
        else:
            self.is_broker_down = act == "goes"

    @precondition(lambda self: self.busy())
    @rule(host=hosts, outcome=st.sampled_from(["done", "failed", "retried", "lost", "returned"]), is_told=st.booleans())
    def a_task_ends(self, host: str, outcome: str, *, is_told: bool) -> None:
        self.end(one_of(host, self.busy()), outcome, is_told=is_told)

    def busy(self) -> list[str]:
        return [host for host in HOSTS if host in self.bodies and self.bodies[host].running]

    def end(self, host: str, outcome: str, *, is_told: bool = True) -> None:
        body = self.bodies.get(host)
        if body is None or not body.running:
            return
        field, claim = min(body.running.items())
        if outcome == "lost" and not claim["is_late"]:
            outcome = "failed"
        then = {"lost": "again", "returned": "anew"}.get(outcome, "over")
        del body.running[field]
        body.untold.append((claim, outcome, then))
        if outcome == "returned":
            self.queues[host].append(claim)
            is_told = True
        if is_told:
            self.tell(host)

    @precondition(lambda self: any(body.untold for body in self.bodies.values()))
    @rule(host=hosts)
    def tell(self, host: str) -> None:
        body = self.bodies.get(host)
        while body is not None and body.untold:
            claim, outcome, then = body.untold.pop(0)
            was_open = self.client.hexists(self.table.key("requests"), claim["id"])
            if then in {"anew", "again"}:
                self.given_back.add(field_of(claim))
            body.end(claim, outcome, then)
            if was_open and not self.client.hexists(self.table.key("requests"), claim["id"]):
                self.ends[claim["id"]] += 1

    def leave(self, host: str, *, is_soft: bool) -> None:
        """Stop: with patience, after the last task; without it, at once."""
        if host in self.bodies:
            while is_soft and self.bodies[host].running:
                self.end(host, "done")
            self.tell(host)
            self.bodies.pop(host).leave()

    # What people and time do

    @rule(
        host=hosts, index=st.integers(0, 30),
        act=st.sampled_from(["disable", "enable", "revoke", "revoke", "delete a claim", "change a sum", "flush"]),
    )  # fmt: skip
    def somebody_may(self, host: str, index: int, act: str) -> None:
        if act == "disable":
            self.table.disable(f"render/{host}", "why")
        elif act == "enable":
            self.table.enable(f"render/{host}")
        elif act == "revoke":
            self.revoked.add(sorted(self.tasks.values())[index % len(self.tasks)])
        elif act == "delete a claim":
            self.delete_a_claim(host, index)
        elif act == "change a sum":
            self.client.hset(self.table.key("used"), f"host/{host}", json.dumps({"slots": 300 * (index % 7)}))
            self.forged.add(host)
            self.excused.add(host)
        else:
            self.flush()

    def delete_a_claim(self, host: str, index: int) -> None:
        key = self.table.key(f"claims:{host}")
        if fields := sorted(self.client.hkeys(key)):
            field = fields[index % len(fields)]
            self.client.hdel(key, field)
            if host not in self.bodies or field not in self.bodies[host].running:
                self.bereft.add(field.partition(":")[0])
            self.forged.add(host)
            self.excused.add(host)
            self.report(host)

    @rule(
        seconds=st.sampled_from([0.5, 1.5, 6, 6, 31, 65, 200]), silent=st.sets(hosts, max_size=2),
        is_pruned=st.booleans(),
    )  # fmt: skip
    def time_passes(self, seconds: float, silent: set[str], *, is_pruned: bool) -> None:
        self.advance(seconds, silent)
        self.the_reaper_dies()
        if is_pruned:
            self.table.prune()

    def advance(self, seconds: float, silent: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + HEARTBEAT)
            for host in sorted(set(self.bodies) - silent):
                self.beat(host)

    def beat(self, host: str) -> None:
        body = self.bodies[host]
        word = body.beat()
        if word == "unknown":
            word = "ok" if body.join() else "replaced"
            body.reports_at = self.now
        if word == "replaced":
            del self.bodies[host]
        elif body.reports_at <= self.now:
            self.report(host)

    def flush(self) -> None:
        for key in self.client.keys(f"{self.table.key('')}*"):
            self.client.delete(key)
        self.lost_in_flush |= set(self.late)
        self.excused |= set(HOSTS)
        self.forged.clear()

    # What is always true

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.client.delete(*(self.client.keys(f"{self.table.key('')}*") or ["none"]))
            self.client.close()

    def settle(self) -> None:
        """Let every host live and time pass: then everything ends, once, and nothing is left of it."""
        self.is_broker_down = False
        for host in HOSTS:
            self.table.enable(f"render/{host}")
            self.restart(host)
            self.join(host)
            self.report(host, 0)
        for _ in range(60):
            self.live_on()
            waiting = set(self.client.hkeys(self.table.key("requests"))) - self.never
            if not waiting and not any(self.queues.values()) and len(self.bodies) == len(HOSTS):
                break
            self.advance(HEARTBEAT)
        else:
            pytest.fail(f"these wait although hosts have room: {waiting}")
        self.revoked |= set(self.tasks.values())
        self.the_reaper_dies()
        for scheduler in self.schedulers * 2:
            self.now += 1.0
            scheduler.turn()
        for host in HOSTS:
            self.advance(HEARTBEAT)
            self.report(host, 0)
        found = keys_of(self.table)
        assert found.get("requests", {}) == {}
        assert [key for key in found if key.startswith("claims:")] == []
        assert "used" not in found
        for name in set(self.late) - self.lost_in_flush:
            assert self.ends[name] == 1, f"{name} ended {self.ends[name]} times"

    def live_on(self) -> None:
        """Have every host do what it was sent, and every scheduler what there is to do."""
        self.the_reaper_dies()
        self.table.prune()
        for host in HOSTS:
            self.join(host)
            self.report(host, 0)
            while host in self.sent_to() or host in self.accepting():
                self.take(host)
                self.begin(host)
            while host in self.busy():
                self.end(host, "done")
        for scheduler in self.schedulers:
            scheduler.turn()
        self.all_is_well()

    @invariant()
    def all_is_well(self) -> None:
        found = keys_of(self.table)
        claims = {
            key.removeprefix("claims:"): [Claim.from_json(text) for text in held.values()]
            for key, held in found.items()
            if key.startswith("claims:")
        }
        self.sums_are_right(found, claims)
        self.every_request_is_in_one_place(found, claims)
        self.nothing_is_left_of_what_is_over(found)

    def sums_are_right(self, found: dict[str, Any], claims: dict[str, list[Claim]]) -> None:
        used = {member: json.loads(text) for member, text in found.get("used", {}).items()}
        totals = {member: json.loads(text) for member, text in found.get("totals", {}).items()}
        for host in HOSTS:
            body = self.bodies.get(host)
            sums = summed(claims.get(host, []))
            runs = summed(
                [
                    Claim.from_json(json.dumps({**claim, "state": "running", "placed_at": 0}))
                    for claim in (body.running.values() if body else ())
                ]
            )
            is_short = False
            if f"host/{host}" not in totals:  # it is gone, or has yet to report
                self.excused.add(host)
            for member in (f"host/{host}", f"render/{host}"):
                if host not in self.forged:
                    assert used.get(member, {}) == sums.get(member, {}), member
                for held in (used, runs):
                    for resource, amount in held.get(member, {}).items():
                        is_short |= totals.get(member, {}).get(resource, 0) < amount
            assert host in self.excused or not is_short, f"{host} has {totals}, of which {used}"
            if not is_short and host not in self.forged:
                self.excused.discard(host)
            for held in claims.get(host, []):
                assert f"{held.service}/{host}" in found.get("hosts", {}), f"{held} outlives its host"

    def every_request_is_in_one_place(self, found: dict[str, Any], claims: dict[str, list[Claim]]) -> None:
        gangs = {unit: json.loads(ids) for unit, ids in found.get("gangs", {}).items()}
        units = [unit for key, waiting in found.items() if key.startswith("pending:") for unit in waiting]
        units += [entry.split()[0] for entry in found.get("delayed", {})]
        places = Counter(one for unit in units for one in gangs.get(unit, [unit]))
        places.update(list(found.get("placed", {})))
        places.update(list(found.get("failing", {})))
        assert places == Counter(dict.fromkeys(found.get("requests", {}), 1))
        for name, host in found.get("placed", {}).items():
            attempt = int(found["attempts"][name])
            assert name in self.bereft or any(c.id == name and c.attempt == attempt for c in claims.get(host, [])), name
        assert set(found.get("shapes", {})) == {key[8:] for key in found if key.startswith("pending:")}

    def nothing_is_left_of_what_is_over(self, found: dict[str, Any]) -> None:
        known = set(found.get("requests", {}))
        for name in (
            "messages",
            "submitted",
            "orders",
            "until",
            "attempts",
            "strikes",
            "avoided",
            "placed",
            "gangs",
            "failing",
            "timeouts",
        ):
            assert set(found.get(name, {})) <= known, name
        assert set(found.get("open", {}).values()) <= known
        assert {entry.split()[0] for entry in found.get("delayed", {})} <= known
        for name in set(self.late) - self.lost_in_flush:
            assert (name in known) == (not self.ends[name]), f"{name} is lost"
            assert self.ends[name] <= 1


def one_of(host: str, those: list[str]) -> str:
    return host if host in those else those[0]


#: Whether to take the time for many more examples, as ``make machine`` does.
IS_LONG = os.environ.get("CELERIAC_TEST_MACHINE") == "long"


@pytest.mark.parametrize(("kind", "examples"), [("memory", 15), ("redis", 15)])
def test_nothing_is_given_away_twice_or_lost_or_run_twice(
    kind: str, examples: int, request: pytest.FixtureRequest
) -> None:
    class Machine(PlacementMachine):
        url = f"memory://{uuid.uuid4()}" if kind == "memory" else request.getfixturevalue("redis_url")

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=20 * examples if IS_LONG else examples,
            stateful_step_count=60 if IS_LONG else 40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
