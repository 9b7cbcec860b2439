"""Tasks that are placed, from the call to the host that runs them, and back to whoever waits for the result."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signals
from celery.result import GroupResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Queue
from kombu.exceptions import OperationalError

from managers.errors import DriverNotFound
from scheduler.envelope import body_of
from scheduler.errors import InvalidPlacement, TableUnavailable
from scheduler.filters import No
from scheduler.pending import Pending
from scheduler.placing import CLAIM_HEADER, PLACE_TASK, PLACEMENT_HEADER, placing_of
from scheduler.requests import Request
from scheduler.requirements import Requirement
from scheduler.select import Selector
from scheduler.table import Table
from scheduler.task import ScheduledTask
from tests.workers.placement import NOW, Fleet
from workers import carried
from workers.errors import InvalidSettings
from workers.placed import PlacedRequest
from workers.placing import place_strategy, selector
from workers.registry import registry_of


@pytest.fixture
def fleet(make_app: Callable[..., Celery]) -> Iterator[Fleet]:
    app = make_app()
    yield Fleet(app)
    app.close()


def task(fleet: Fleet, function: Callable[..., Any] | None = None, **options: Any) -> Any:
    def render(scene: str = "a.blend", *, size: int = 1) -> str:
        return f"{scene} {size}"

    options = {"base": ScheduledTask, "claims": {"gpus": 1}, "name": "tasks.render", **options}
    made = fleet.app.task(shared=False, **options)(function or render)
    assert made.name == options["name"]  # Celery makes it when it is first looked at
    return made


class Ran(ScheduledTask):
    """Runs by itself, as Celery's documentation shows it."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["own", self.run(*args, **kwargs)]


class Parent(ScheduledTask):
    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["own", super().__call__(*args, **kwargs)]


class Child(Parent):
    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["child", super().__call__(*args, **kwargs)]


class Mixin:
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return ["mixed in", self.run(*args, **kwargs)]  # type: ignore[attr-defined]


class Mixed(Mixin, ScheduledTask):
    abstract = True


@pytest.mark.parametrize(
    ("base", "returned"),
    [
        (Ran, ["own", True]), (Parent, ["own", True]), (Child, ["child", ["own", True]]), (Mixed, ["mixed in", True]),
    ],
)  # fmt: skip
def test_a_task_with_a_call_of_its_own_runs_once_for_its_claim(
    fleet: Fleet, base: type[ScheduledTask], returned: Any
) -> None:
    fleet.host("a", gpus=1)

    def is_known(self: Any) -> bool:
        return self.request.id is not None

    result = task(fleet, is_known, bind=True, base=base).delay()
    fleet.place()
    messages = fleet.taken("host.a")
    fleet.execute(messages, "a")
    assert [claim.state for claim in fleet.registry.claims.of("a")] == ["running"]
    fleet.execute(messages, "a")

    assert result.get(timeout=1) == returned
    assert fleet.table.counters()["claims_fenced"] == 1


@pytest.mark.parametrize("base", [ScheduledTask, Ran, Parent])
def test_a_task_that_calls_itself_runs_on_under_its_claim(fleet: Fleet, base: type[ScheduledTask]) -> None:
    fleet.host("a", gpus=1)
    seen: list[Any] = []

    def count(self: Any, number: int) -> None:
        seen.append((number, self.request.args))
        if number:
            self(number - 1)
            self(0)

    result = task(fleet, count, bind=True, base=base).delay(2)
    assert fleet.settle("a") == ["tasks.render"]

    result.get(timeout=1)
    assert [number for number, _ in seen] == [2, 1, 0, 0, 0]
    assert base is Ran or seen[1] == (1, (1,))


@pytest.mark.parametrize("limit", ["10/m", 5, 0.5])
def test_a_placed_task_has_no_rate_limit_since_it_would_miss_its_start_deadline(fleet: Fleet, limit: Any) -> None:
    with pytest.raises(TypeError, match=r"tasks\.render is placed, and has the rate limit .*claim a resource"):
        task(fleet, rate_limit=limit)

    assert task(fleet, rate_limit=0, name="tasks.free").delay().id


def test_a_placed_task_takes_no_rate_limit_from_the_configuration(fleet: Fleet) -> None:
    fleet.app.conf.task_default_rate_limit = "10/m"

    with pytest.raises(TypeError, match=r"tasks\.render is placed, and has the rate limit '10/m'"):
        task(fleet)


def test_a_task_with_a_rate_limit_is_not_placed_by_a_call_either(fleet: Fleet) -> None:
    plain = task(fleet, claims=None, rate_limit="10/m", name="tasks.plain")

    with pytest.raises(InvalidPlacement, match=r"tasks\.plain is placed, and has the rate limit '10/m'.*claim"):
        plain.apply_async(claims={"gpus": 1})
    plain.apply_async(queue="plain")

    assert [message.headers["task"] for message in fleet.taken("plain")] == ["tasks.plain"]


# What is recorded, and what is announced.


def test_the_task_keeps_its_id_from_the_call_to_the_result(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    render = task(fleet)

    result = render.delay("b.blend", size=2)

    request, message = fleet.waits()
    assert request.task_id == message["headers"]["id"] == message["properties"]["correlation_id"] == result.id
    assert (request.task, request.service, request.claims) == ("tasks.render", "host", {"gpus": 1000, "slots": 1000})
    assert fleet.announced() == [{"shape": request.shape}]
    assert fleet.settle("a") == ["tasks.render"]
    assert result.get(timeout=1) == "b.blend 2"


def test_the_message_is_the_one_that_celery_would_have_sent(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    options: dict[str, Any] = {"task_id": "t1", "priority": 4, "headers": {"mark": 1}, "time_limit": 9}
    task(fleet).apply_async(("b.blend",), **options)
    task(fleet, name="tasks.plain", claims=None).apply_async(("b.blend",), queue="plain", **options)
    fleet.place()

    (placed,), (plain,) = fleet.taken("host.a"), fleet.taken("plain")

    claim = placed.headers.pop(CLAIM_HEADER)
    placed.headers["task"] = "tasks.plain"
    assert placed.headers == plain.headers
    assert placed.body == plain.body
    properties = [
        {name: value for name, value in message.properties.items() if name not in {"delivery_tag", "delivery_info"}}
        for message in (placed, plain)
    ]
    assert properties[0] == properties[1]
    assert (claim["host"], claim["task_id"]) == ("a", "t1")


def test_a_call_has_the_last_word_on_each_option(fleet: Fleet) -> None:
    render = task(fleet, requires="zone == 'a'", max_attempts=2, strategy="pack")

    render.apply_async(claims={"gpus": 2}, requires=None, sticky="cache", start_deadline=5)

    request, message = fleet.waits()
    assert request.claims == {"gpus": 2000, "slots": 1000}
    assert (str(request.requires), request.max_attempts, request.strategy) == ("", 2, "pack")
    assert (request.sticky, request.start_deadline) == ("cache", 5.0)
    assert message["headers"][PLACEMENT_HEADER] == {
        "claims": {"gpus": 2}, "requires": None, "sticky": "cache", "start_deadline": 5,
    }  # fmt: skip


def test_what_a_call_said_travels_as_plain_data_whatever_it_was_said_with(fleet: Fleet) -> None:
    wish = Requirement.of({"zone": "a"})

    task(fleet).apply_async(requires=wish, prefers={wish: 2}, exclude={"b"}, same_host=("t1",))

    _, message = fleet.waits()
    assert json.loads(json.dumps(message["headers"][PLACEMENT_HEADER])) == {
        "requires": "zone == 'a'", "prefers": {"zone == 'a'": 2}, "exclude": ["b"], "same_host": ["t1"],
    }  # fmt: skip


def test_settings_say_what_neither_task_nor_call_does(make_app: Callable[..., Celery]) -> None:
    fleet = Fleet(make_app(start_deadline=7.0, max_attempts=9, placement_timeout=50.0))
    task(fleet).delay()

    request, _ = fleet.waits()

    assert (request.start_deadline, request.max_attempts) == (7.0, 9)
    assert [unit.request.id for unit in fleet.pending.overdue(NOW + 51)] == [request.id]
    assert fleet.pending.overdue(NOW + 49) == []


def test_a_placed_task_of_an_ordinary_class_is_placed_by_a_word_of_the_call(fleet: Fleet) -> None:
    render = task(fleet, claims=None)

    render.apply_async(requires="zone == 'a'")

    assert str(fleet.waits()[0].requires) == "zone == 'a'"


@pytest.mark.parametrize("how", ["call", "signature", "set"])
@pytest.mark.parametrize(
    "address", [{"queue": "mine"}, {"exchange": "mine", "routing_key": "mine"}, {"routing_key": "mine"}]
)
def test_an_address_of_the_callers_own_skips_the_scheduler(fleet: Fleet, how: str, address: dict[str, Any]) -> None:
    render = task(fleet)
    send = {
        "call": lambda: render.apply_async(**address),
        "signature": lambda: render.s().apply_async(**address),
        "set": lambda: render.s().set(**address).delay(),
    }[how]
    send()

    assert fleet.waiting() == fleet.announced() == []
    if "queue" in address:
        (message,) = fleet.taken("mine")
        assert not {PLACEMENT_HEADER, CLAIM_HEADER} & set(message.headers)


@pytest.mark.parametrize("route", [{"queue": "elsewhere"}, {"exchange": "elsewhere", "routing_key": "elsewhere"}])
def test_no_route_leads_a_placed_task_past_the_scheduler(fleet: Fleet, route: dict[str, str]) -> None:
    fleet.app.conf.task_routes = {"*": route}

    task(fleet).delay()

    assert fleet.announced() == [{"shape": fleet.waits()[0].shape}]


def test_a_connection_of_the_callers_own_is_the_brokers_and_no_way_past_the_scheduler(fleet: Fleet) -> None:
    with fleet.app.connection_for_write() as connection:
        result = task(fleet).apply_async(connection=connection)

    assert fleet.waits()[0].task_id == result.id
    assert len(fleet.announced()) == 1


def test_a_wrong_option_or_argument_is_refused_before_anything_is_recorded(fleet: Fleet) -> None:
    render = task(fleet)

    for options in ({"claims": {"gpus": -1}}, {"requires": "a ="}, {"count": 0}, {"placement_timeout": "x"}):
        with pytest.raises(ValueError, match="."):  # noqa: RUF043
            render.apply_async(**options)
    with pytest.raises(TypeError, match="no option 'claim'"):
        render.apply_async(claim={"gpus": 1})
    with pytest.raises(TypeError, match="nope"):
        render.delay(nope=1)
    assert fleet.waiting() == fleet.announced() == []


def test_a_key_that_no_host_has_reported_is_named_once_with_the_nearest(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    render = task(fleet, claims={"gpu": 1})
    render.delay()
    assert "never reported" not in caplog.text
    fleet.host("a", gpus=1, zone="x")

    for _ in range(3):
        render.delay()
    render.apply_async(prefers={"zome == 'x'": 1})

    told = [record.getMessage() for record in caplog.records if "has ever reported" in record.getMessage()]
    assert told == [
        "tasks.render asks for 'gpu', which no host has ever reported; did you mean 'gpus'?",
        "tasks.render asks for 'gpu', which no host has ever reported; did you mean 'gpus'?",
        "tasks.render asks for 'zome', which no host has ever reported; did you mean 'zone'?",
    ]


# When.


def test_a_countdown_is_waited_for_by_the_scheduler_and_not_by_a_host(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    fleet.now = datetime.now(UTC).timestamp()
    fleet.table.heartbeat("a", 1000.0, ["host/a"])
    render = task(fleet)

    render.apply_async(countdown=60)
    render.apply_async(eta=datetime.now(UTC) + timedelta(seconds=90))

    assert fleet.announced() == []
    fleet.place()
    assert fleet.taken("host.a") == []
    delayed = fleet.table.redis.zrange(fleet.table.key("delayed"), 0, -1, withscores=True)
    assert [score - fleet.now for _, score in delayed] == pytest.approx([60, 90], abs=5)


def test_the_hosts_message_has_no_eta_left_to_wait_for(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    task(fleet).apply_async(eta=datetime.fromtimestamp(NOW - 5, UTC))
    fleet.place()

    (message,) = fleet.taken("host.a")

    assert message.headers["eta"] is None


@pytest.mark.parametrize(
    "expires", [60, datetime(2027, 1, 15, 8, 30, tzinfo=UTC), "2027-01-15T08:30:00+00:00", "2027-01-15T08:30:00"]
)
def test_the_expiry_is_known_to_the_scheduler(fleet: Fleet, expires: Any) -> None:
    task(fleet).apply_async(expires=expires)

    request, message = fleet.waits()

    until = datetime.now(UTC) + timedelta(seconds=60) if expires == 60 else datetime(2027, 1, 15, 8, 30, tzinfo=UTC)
    assert request.expires_at == pytest.approx(until.timestamp(), abs=5)
    assert message["headers"]["expires"]
    assert "expiration" not in message["properties"]


@pytest.mark.parametrize(
    ("broker", "first"), [("redis://127.0.0.1:1/0", "low number"), ("amqp://127.0.0.1:1//", "high number")]
)
def test_priority_means_what_it_means_to_the_broker(make_app: Callable[..., Celery], broker: str, first: str) -> None:
    fleet = Fleet(make_app(broker_url=broker))
    render = task(fleet)

    for scene, priority in (("middle", 5), ("low number", 1), ("high number", 9), ("middle", 5)):
        render.apply_async((scene,), priority=priority)

    scenes = [json.loads(body_of(message))[0][0] for _, message in fleet.waiting()]
    last = "high number" if first == "low number" else "low number"
    assert scenes == [first, "middle", "middle", last]


# Retries and canvases.


def test_a_retry_is_placed_anew_with_what_its_call_said_and_without_the_claim(fleet: Fleet) -> None:
    fleet.host("a", gpus=2)
    fleet.host("b", gpus=2)
    seen: list[Any] = []

    def flaky(self: Any) -> str:
        seen.append(self.request.retries)
        if self.request.retries == 0:
            raise self.retry(countdown=0, exc=OSError("busy"))
        return "done"

    result = task(fleet, flaky, bind=True, max_retries=3).apply_async(only="b", claims={"gpus": 2})
    fleet.place()
    assert (fleet.run("a"), fleet.run("b")) == ([], ["tasks.render"])

    (again,) = [entry for entry in fleet.waiting() if entry[1]["headers"]["retries"] == 1]
    request, message = again
    assert (request.task_id, request.only, request.claims["gpus"]) == (result.id, ("b",), 2000)
    assert CLAIM_HEADER not in message["headers"]
    assert fleet.settle("a", "b") == ["tasks.render"]
    assert (result.get(timeout=1), seen) == ("done", [0, 1])


def test_a_retry_of_a_task_that_was_sent_to_a_queue_goes_there_again(fleet: Fleet) -> None:
    def flaky(self: Any) -> None:
        raise self.retry(countdown=0, exc=OSError("busy"))

    task(fleet, flaky, bind=True).apply_async(queue="mine")
    (message,) = fleet.taken("mine")
    PlacedRequest(message, app=fleet.app, hostname="celery@x").execute()

    assert [message.headers["retries"] for message in fleet.taken("mine")] == [1]
    assert fleet.waiting() == []


def test_callbacks_chains_groups_and_chords_are_placed_step_by_step(fleet: Fleet) -> None:
    fleet.host("a", gpus=2)

    def words(*given: Any) -> Any:
        return list(given)

    say = task(fleet, words, name="tasks.say")
    note = task(fleet, words, name="tasks.note", claims=None, requires="gpus > 1")

    def run(canvas: Any) -> Any:
        result = canvas.apply_async()
        fleet.settle("a")
        return result.get(timeout=1)

    assert run(chain(say.s(1), note.s(2), say.si(3))) == [3]
    assert run(chain(say.s(1), note.s(2))) == [[1], 2]
    assert run(group(say.s(number) for number in range(3))) == [[0], [1], [2]]
    assert run(chord([say.s(1), note.s(2)], say.s("both"))) == [[[1], [2]], "both"]
    seen: list[Any] = []

    def look(given: Any) -> None:
        seen.append(given)

    run(say.s("linked").set(link=task(fleet, look, name="tasks.look").s()))
    assert seen == [["linked"]]


def test_a_failure_is_told_to_whom_it_should(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    seen: list[Any] = []

    def fail() -> None:
        raise KeyError("missing")

    def told(task_id: str) -> None:
        seen.append(task_id)

    listener = task(fleet, told, name="tasks.told")
    result = task(fleet, fail).apply_async(link_error=listener.s())
    fleet.settle("a")

    assert seen == [result.id]
    with pytest.raises(KeyError, match="missing"):
        result.get(timeout=1)


def test_a_task_that_is_replaced_hands_its_id_on_but_neither_its_claim_nor_its_words(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    fleet.host("b", gpus=1)
    other = task(fleet, lambda_named("other", lambda: "other"), name="tasks.other", claims={"slots": 2})

    def swap(self: Any) -> Any:
        return self.replace(other.s())

    result = task(fleet, swap, bind=True).apply_async(only="b")
    fleet.place()
    fleet.run("b")

    (entry,) = [entry for entry in fleet.waiting() if entry[0].task == "tasks.other"]
    request, message = entry
    assert (request.task_id, request.only, request.claims) == (result.id, (), {"slots": 2000})
    assert not {CLAIM_HEADER, PLACEMENT_HEADER} & set(message["headers"])
    fleet.settle("a", "b")
    assert result.get(timeout=1) == "other"


def test_a_task_that_is_sent_by_another_inherits_nothing_of_its_place(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    child = task(fleet, name="tasks.child", claims={"slots": 1})

    def parent() -> None:
        child.delay()

    task(fleet, parent).apply_async(requires="gpus > 0")
    fleet.place()
    fleet.run("a")

    (entry,) = [entry for entry in fleet.waiting() if entry[0].task == "tasks.child"]
    assert str(entry[0].requires) == ""
    assert not {CLAIM_HEADER, PLACEMENT_HEADER} & set(entry[1]["headers"])


def lambda_named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = name
    return function


# Gangs.


def test_a_gang_is_as_many_results_of_one_group(fleet: Fleet) -> None:
    for name in ("a", "b", "c"):
        fleet.host(name, gpus=1)

    result = task(fleet).apply_async(("b.blend",), count=3, task_id="t1")

    assert isinstance(result, GroupResult)
    assert (result.id, [one.id for one in result.results]) == ("t1", ["t1-0", "t1-1", "t1-2"])
    (unit,) = fleet.pending.all()
    assert len(unit.ids) == 3
    assert len(fleet.announced()) == 1
    fleet.place()
    assert [fleet.run(name) for name in ("a", "b", "c")] == [["tasks.render"]] * 3
    assert result.get(timeout=1) == ["b.blend 1"] * 3


def test_a_gang_that_is_one_host_short_runs_nowhere(fleet: Fleet) -> None:
    fleet.host("a", gpus=9)
    fleet.host("b", gpus=9)

    task(fleet).apply_async(count=3)

    assert fleet.settle("a", "b") == []
    assert len(fleet.waiting()) == 3


def test_a_gang_can_be_no_part_of_a_canvas(fleet: Fleet) -> None:
    render, other = task(fleet, count=2), task(fleet, name="tasks.other")

    for canvas in (
        chain(render.si(), other.si()), group([render.si(), other.si()]), chord([render.si(), other.si()], other.si()),
        render.s().set(link=other.si()), render.s().set(link_error=other.si()),
    ):  # fmt: skip
        with pytest.raises(InvalidPlacement, match=r"render is to run on 2 hosts at once, which \w+ can't follow"):
            canvas.apply_async()
    assert [request for request, _ in fleet.waiting() if request.task == "tasks.render"] == []


def test_a_gang_at_the_end_of_a_chain_is_refused_by_the_step_before(fleet: Fleet) -> None:
    with pytest.raises(InvalidPlacement, match="which chain can't follow"):
        task(fleet, count=2).apply_async(chain=[])


# Results and encodings.


def test_an_ignored_result_is_not_kept_and_the_record_knows(fleet: Fleet) -> None:
    fleet.host("a", gpus=1)
    render = task(fleet)

    ignored, kept = render.apply_async(ignore_result=True), render.apply_async()
    recorded = {request.task_id: request.keeps_errors for request, _ in fleet.waiting()}
    fleet.settle("a")

    assert recorded == {ignored.id: False, kept.id: True}
    assert (kept.state, fleet.app.AsyncResult(ignored.id).state) == ("SUCCESS", "PENDING")


def test_a_task_that_may_run_twice_says_so_in_its_record(fleet: Fleet) -> None:
    task(fleet, acks_late=True).delay()

    assert fleet.waits()[0].is_late


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
def test_serializer_and_compression_are_kept_on_the_way_to_the_host(
    fleet: Fleet, serializer: str, compression: str | None
) -> None:
    fleet.app.conf.accept_content = ["json", "pickle"]
    fleet.host("a", gpus=1)

    result = task(fleet).apply_async(("日本" * 500,), serializer=serializer, compression=compression)
    fleet.settle("a")

    assert result.get(timeout=1) == f"{'日本' * 500} 1"


# Events and signals.


def test_signals_and_events_fire_as_for_any_task(fleet: Fleet) -> None:
    seen: list[tuple[str, str]] = []

    def before(sender: str, headers: Any, **_: Any) -> None:
        seen.append(("before", headers["id"]))
        headers["stamp"] = "from a signal"

    def after(sender: str, headers: Any, **_: Any) -> None:
        seen.append(("after", headers["id"]))

    render = task(fleet)
    fleet.app.conf.task_send_sent_event = True
    signals.before_task_publish.connect(before, sender="tasks.render")
    signals.after_task_publish.connect(after, sender="tasks.render")
    try:
        with fleet.app.connection_for_read() as connection:
            events = Queue("events", exchange=fleet.app.events.Receiver(connection).exchange, routing_key="#")
            bound = events(connection.default_channel)
            bound.declare()
            result = render.delay()
            told = [event.payload for event in iter(lambda: bound.get(no_ack=True, accept=["json"]), None)]
    finally:
        signals.before_task_publish.disconnect(before, sender="tasks.render")
        signals.after_task_publish.disconnect(after, sender="tasks.render")

    assert seen == [("before", result.id), ("after", result.id)]
    assert fleet.waits()[1]["headers"]["stamp"] == "from a signal"
    assert [event["type"] for event in told if event["uuid"] == result.id] == ["task-sent"]


# Servers that are away.


def test_where_the_table_is_away_the_announcement_carries_the_request(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise TableUnavailable("redis://x does not answer")

    render = task(fleet, requires="zone == 'a'", prefers={"has(ssd)": 2})
    with monkeypatch.context() as patch:
        patch.setattr(Pending, "submit", away)
        result = render.apply_async(("b.blend",), countdown=1, priority=3, placement_timeout=9)
    again = render.delay()  # it is not asked again at once
    assert fleet.waiting() == []

    first, second = fleet.announced()
    ((values, message),) = first["requests"]
    assert (values["task_id"], message["headers"]["id"]) == (result.id, result.id)
    assert (first["rank"], first["timeout"]) == (-3, 9)
    assert first["not_before"] == pytest.approx(datetime.now(UTC).timestamp() + 1, abs=5)
    assert second["requests"][0][0]["task_id"] == again.id
    assert "tasks.render goes to the scheduler unrecorded: redis://x does not answer" in caplog.text

    receive(fleet, second)
    request, _ = fleet.waits()
    assert request == Request.from_dict(second["requests"][0][0])


def test_where_the_broker_is_away_the_record_is_enough(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    render = task(fleet)
    monkeypatch.setattr(placing_of(fleet.app), "_announce", refuse)

    result = render.delay()

    assert fleet.waits()[0].task_id == result.id
    assert f"tasks.render[{result.id}] is recorded, but no scheduler was told, which finds it later" in caplog.text


def test_where_both_are_away_the_caller_hears_of_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise TableUnavailable("redis://x does not answer")

    render = task(fleet)
    monkeypatch.setattr(Pending, "submit", away)
    monkeypatch.setattr(placing_of(fleet.app), "_announce", refuse)

    with pytest.raises(OperationalError):
        render.delay()


def refuse(*_: Any, **__: Any) -> None:
    raise OperationalError("connection refused")


# Announcements, whatever they hold.


class Announcement:
    """A message as the scheduler's consumer gets it."""

    def __init__(self, payload: Any) -> None:
        self._payload = payload
        self.acknowledged = 0

    @property
    def payload(self) -> Any:
        if isinstance(self._payload, Exception):
            raise self._payload
        return self._payload

    def ack(self) -> None:
        self.acknowledged += 1


class Consumer:
    """A consumer whose timer calls when it is told to."""

    def __init__(self) -> None:
        self.timer = self
        self.later: list[Any] = []

    def call_after(self, seconds: float, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.later.append((seconds, function, args))

    def fire(self) -> None:
        """Call what waits, once."""
        waiting, self.later = self.later, []
        for _, function, args in waiting:
            function(*args)


def receive(fleet: Fleet, what: Any) -> Announcement:
    return deliver(fleet, Announcement([[what], {}, {}]))


def deliver(fleet: Fleet, message: Announcement) -> Announcement:
    consumer = Consumer()
    hand(fleet, message, consumer)
    fleet.registry.carried.record()
    consumer.fire()
    return message


def hand(fleet: Fleet, message: Announcement, consumer: Consumer) -> None:
    """Have *consumer* hand *message* over, and nothing more."""
    place_strategy(fleet.app.tasks[PLACE_TASK], fleet.app, consumer)(message, None, lambda *_: None, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["shape", "requests", "rank", "not_before", "timeout", "id"]), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON | st.lists(JSON, max_size=3).map(lambda listed: [[{"requests": listed, "rank": 0}], {}, {}]))
def test_junk_is_acknowledged_and_never_raises(fleet: Fleet, junk: Any) -> None:
    assert deliver(fleet, Announcement(junk)).acknowledged == 1
    assert deliver(fleet, Announcement([[junk], {}, {}])).acknowledged == 1
    fleet.place()


def good(fleet: Fleet) -> dict[str, Any]:
    """Return an announcement that carries a request."""
    (fleet.app.tasks.get("tasks.render") or task(fleet)).delay()
    request, message = fleet.waits()
    fleet.table.redis.flushall()
    return {"requests": [[request.to_dict(), message]], "rank": 0, "not_before": None, "timeout": None}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda what: {**what, "rank": "first"},
        lambda what: {**what, "rank": None},
        lambda what: {**what, "timeout": [1]},
        lambda what: {**what, "not_before": "now"},
        lambda what: {**what, "requests": []},
        lambda what: {**what, "requests": what["requests"] * 2},
        lambda what: {**what, "requests": [[what["requests"][0][0], None]]},
        lambda what: {
            **what,
            "requests": [[{**what["requests"][0][0], "sticky": 7}, what["requests"][0][1]]],
        },
        lambda what: {**what, "requests": [[what["requests"][0][0], {**what["requests"][0][1], "headers": None}]]},
        lambda what: {name: value for name, value in what.items() if name != "rank"},
    ],
)
def test_what_nearly_announces_a_request_is_refused_in_words(
    fleet: Fleet, spoil: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    what = good(fleet)

    message = receive(fleet, spoil(what))

    assert message.acknowledged == 1
    assert "announcement refused: this " in caplog.text
    assert fleet.waiting() == []
    assert receive(fleet, what).acknowledged == 1
    assert len(fleet.waiting()) == 1


def test_what_can_not_be_decoded_is_refused_too(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    assert deliver(fleet, Announcement(ValueError("no JSON"))).acknowledged == 1
    assert "announcement refused: no JSON" in caplog.text


def test_a_channel_that_is_dead_can_not_be_acknowledged_on_and_that_is_all(fleet: Fleet) -> None:
    message = Announcement([[{"shape": "x"}], {}, {}])
    message.ack = refuse  # type: ignore[method-assign]

    deliver(fleet, message)


def test_what_can_not_be_recorded_now_is_kept_and_tried_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise TableUnavailable("redis://x does not answer")

    consumer, message = Consumer(), Announcement([[good(fleet)], {}, {}])
    hand(fleet, message, consumer)
    with monkeypatch.context() as patch:
        patch.setattr(Pending, "submit", away)
        with pytest.raises(TableUnavailable):
            fleet.registry.carried.record()
    consumer.fire()
    assert message.acknowledged == 0

    fleet.registry.carried.record()
    consumer.fire()

    assert message.acknowledged == 1
    assert len(fleet.waiting()) == 1


def test_a_consumer_never_waits_for_the_table_and_acknowledges_what_was_recorded_meanwhile(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer, message = Consumer(), Announcement([[good(fleet)], {}, {}])
    with monkeypatch.context() as patch:
        patch.setattr(Table, "reached", refuse)
        patch.setattr(Table, "script", refuse)
        hand(fleet, message, consumer)
        consumer.fire()
    assert message.acknowledged == 0

    fleet.registry.carried.record()
    assert message.acknowledged == 0
    consumer.fire()

    assert message.acknowledged == 1
    assert consumer.later == []


def test_what_comes_again_before_it_is_recorded_is_kept_once_and_acknowledged_twice(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    what, consumer = good(fleet), Consumer()
    messages = [Announcement([[what], {}, {}]) for _ in range(2)]
    monkeypatch.setattr(carried, "LIMIT", 1)
    for message in messages:
        hand(fleet, message, consumer)

    fleet.registry.carried.record()
    consumer.fire()

    assert [message.acknowledged for message in messages] == [1, 1]


def test_what_finds_no_room_stays_with_the_consumer_until_there_is_some(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer()
    messages = [Announcement([[good(fleet)], {}, {}]) for _ in range(2)]
    monkeypatch.setattr(carried, "LIMIT", 1)
    for message in messages:
        hand(fleet, message, consumer)

    fleet.registry.carried.record()
    consumer.fire()
    assert [message.acknowledged for message in messages] == [1, 0]
    fleet.registry.carried.record()
    consumer.fire()

    assert [message.acknowledged for message in messages] == [1, 1]
    assert len(fleet.waiting()) == 2


# Filters and weighers of the settings.


def made_filter(request: Any, candidate: Any) -> No | None:
    return No("not on a Monday")


def made_weigher(request: Any, candidate: Any, snapshot: Any) -> float:
    return 1.0


PATH = f"{__name__}:made_weigher"


def chosen(make_app: Callable[..., Celery], **options: Any) -> Selector:
    return selector(registry_of(make_app(**options)).settings)


def test_filters_of_the_settings_come_after_the_built_in_ones(make_app: Callable[..., Celery]) -> None:
    filters = chosen(make_app, filters=(f"{__name__}:made_filter",)).filters

    assert [one.__name__ for one in filters][-1] == "made_filter"
    assert [one.__name__ for one in filters][:-1] == ["state", "names", "relations", "requires", "room"]


def test_weighers_of_the_settings_are_new_ones_or_new_multipliers(make_app: Callable[..., Celery]) -> None:
    weighers = chosen(make_app, weighers=("free=-1.5", "sticky=0", f"{PATH}=3", "plain")).weighers

    assert {name: multiplier for name, (_, multiplier) in weighers.items()} == {
        "free": -1.5, "prefers": 4.0, "sticky": 0.0, "reliable": 10.0, "plain": 1.0, PATH: 3.0,
    }  # fmt: skip
    assert weighers[PATH][0](None, None, None) == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize("multiplier", ["much", "nan", "inf", "-inf", "1,5"])
def test_a_multiplier_that_is_no_number_is_refused_with_its_setting(
    make_app: Callable[..., Celery], multiplier: str
) -> None:
    with pytest.raises(InvalidSettings, match=rf"CELERIAC_WEIGHERS has 'free={multiplier}'; write NAME=MULTIPLIER"):
        make_app(weighers=(f"free={multiplier}",))


@pytest.mark.parametrize("path", ["no.such:module", "managers:nothing", "plain-text", "managers.errors:__doc__"])
def test_a_path_that_leads_nowhere_is_refused_with_its_setting(make_app: Callable[..., Celery], path: str) -> None:
    with pytest.raises(DriverNotFound, match=rf"CELERIAC_FILTERS names '{path}', which can't be loaded"):
        make_app(name="filtering", filters=(path,))
    with pytest.raises(DriverNotFound, match=rf"CELERIAC_WEIGHERS names '{path}', which can't be loaded"):
        make_app(name="weighing", weighers=(f"{path}=2",))
