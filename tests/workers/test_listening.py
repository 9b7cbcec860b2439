"""Whatever arrives on a fanout exchange: ticks are heeded, methods go to the pool, all else is dropped with a line."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Message

from managers import Manager, RequestContext, expose
from managers.periods import Tick
from tests.workers.network import NetworkManager, warnings
from workers import UnknownService
from workers.fanouts import is_copy, own_id
from workers.green import GreenListener
from workers.listening import FanoutStep
from workers.registry import registry_of
from workers.steps import LIFECYCLE


class Other(Manager[None], service_name="other"):
    """A service that this host doesn't run."""

    @expose
    def poke(self) -> None:
        """Do nothing."""


class Host:
    """A host that runs the network service, and what its lifecycle and its pool were given."""

    def __init__(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.ticks: list[tuple[str, Tick, RequestContext]] = []
        self.pooled: list[tuple[str, Message]] = []
        self.offered: list[Callable[[], None]] = []
        lifecycle = SimpleNamespace(
            managers={"network": None},
            host="here",
            tick=lambda service, tick, context: self.ticks.append((service, tick, context)),
            consuming=lambda: None,
        )
        self.strategies = {
            name: lambda message, _body, ack, reject, _callbacks, name=name: self.take(name, message, ack, reject)
            for name in app.tasks
        }
        self.consumer = SimpleNamespace(
            app=app,
            controller=SimpleNamespace(**{LIFECYCLE: lifecycle}),
            connection=SimpleNamespace(channel=lambda: None, transport=None, transport_options={}),
            strategies=self.strategies,
            on_task_message=(),
            hub=object(),
        )
        monkeypatch.setattr("workers.listening.Consumer", self.consume)
        FanoutStep(self.consumer).start(self.consumer)

    def consume(self, _channel: Any, queues: list[Any], **options: Any) -> Any:
        self.queues = [queue.name for queue in queues]
        self.options = options
        return SimpleNamespace(consume=lambda: None)

    def take(self, name: str, message: Message, ack: Any, reject: Any) -> None:
        ack("logger", ())
        reject("logger", (), True)  # noqa: FBT003  # as Celery says it
        self.pooled.append((name, message))

    def receive(self, headers: Any, body: bytes = b"[[], {}, {}]") -> None:
        self.options["on_message"](
            Message(
                body=body,  # type: ignore[arg-type]  # bytes are what brokers give it
                content_type="application/json",
                content_encoding="utf-8",
                headers=headers,
                properties={"correlation_id": "shared"},
                delivery_info={"exchange": "network.fanout", "routing_key": ""},
                accept=["application/json"],
            )
        )


@pytest.fixture
def host(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Host:
    app = make_app(NetworkManager, Other, services="network", host="here")

    def ordinary() -> None:
        """Do what anybody may ask for, but not here."""

    app.task(name="ordinary", shared=False)(ordinary)
    app.finalize()
    return Host(app, monkeypatch)


def tick(**values: Any) -> bytes:
    return json.dumps([[], {"number": 30_000_000, "interval": 60.0, **values}, {}]).encode()


def test_the_step_listens_to_the_fanouts_of_its_own_services(host: Host) -> None:
    assert host.queues == ["network.fanout.here"]


def test_a_tick_is_heeded_and_never_reaches_the_pool(host: Host) -> None:
    host.receive({"task": "network.periodic_tasks", "celeriac_context": {"user": "beat"}}, tick())

    ((service, heeded, context),) = host.ticks
    assert (service, heeded, context.user) == ("network", Tick(30_000_000, 60.0), "beat")
    assert host.pooled == []


def test_an_exposed_method_goes_to_the_pool_as_the_hosts_own_copy(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.receive({"task": "network.note", "id": "shared", "root_id": "shared"})

    ((name, message),) = host.pooled
    assert name == "network.note"
    assert message.headers["id"] == message.properties["correlation_id"] == own_id("shared", "here")
    assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == ("", "network.here")
    assert is_copy(message)
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"task": "ordinary", "id": "x"},
        {"task": "no.such.task", "id": "x"},
        {"task": "other.periodic_tasks", "id": "x"},
        {"task": "other.poke", "id": "x"},
        {"task": "celery.backend_cleanup", "id": "x"},
        {"task": "network.note"},
        {"task": None, "id": "x"},
        {"task": ["network.note"], "id": "x"},
        {"task": {"network": "note"}, "id": "x"},
        {"id": "x"},
        {},
        None,
    ],
    ids=repr,
)
def test_what_is_neither_a_tick_nor_a_method_of_this_host_is_dropped_with_a_line(
    host: Host, headers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    host.receive(headers)

    assert (host.ticks, host.pooled) == ([], [])
    (line,) = warnings(caplog)
    assert line.startswith("neither a tick nor a method: ")


@pytest.mark.parametrize("limits", [["x", None], [None, -1], [1], [1, 2, 3], "ab", 7, [True, None], [float("nan"), 1]])
def test_a_method_whose_time_limits_would_end_the_workers_loop_is_dropped_with_a_line(
    host: Host, limits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    host.receive({"task": "network.whoami", "id": "x", "timelimit": limits})

    assert host.pooled == []
    assert "its time limits are" in warnings(caplog)[-1]


@pytest.mark.parametrize("limits", [None, [None, None], [1, 0.5], [None, 3]])
def test_a_method_with_time_limits_goes_to_the_pool(host: Host, limits: Any) -> None:
    host.receive({"task": "network.whoami", "id": "x", "timelimit": limits})

    assert len(host.pooled) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"5",
        b"[]",
        b"[[], {}, {}]",
        b"[[], [], {}]",
        tick(number="soon"),
        tick(number=None),
        tick(number=10**400),
        tick(interval=0),
        tick(interval=-60.0),
        tick(interval=float("nan")),
        tick(interval=float("inf")),
        tick(number=1, interval=1e9),
        tick(number=-1),
    ],
    ids=lambda body: body[:60].decode(),
)
def test_a_tick_that_is_none_is_dropped_with_a_line(host: Host, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    host.receive({"task": "network.periodic_tasks"}, body)

    assert host.ticks == []
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("context", [{"roles": 5}, {"deadline": float("nan")}, {"user": "x" * 10_000_000}])
def test_a_tick_with_a_malformed_context_is_dropped_with_a_short_line(
    host: Host, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    host.receive({"task": "network.periodic_tasks", "celeriac_context": context}, tick())

    assert host.ticks == []
    (line,) = warnings(caplog)
    assert len(line) < 1000


def test_a_pool_that_refuses_a_message_does_not_stop_the_listening(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no pool")

    take, host.strategies["network.note"] = host.strategies["network.note"], fail
    host.receive({"task": "network.note", "id": "first"})
    host.strategies["network.note"] = take
    host.receive({"task": "network.note", "id": "second"})

    assert len(host.pooled) == 1
    assert "no pool" in warnings(caplog)[0]


def test_a_worker_that_does_not_run_the_service_refuses_its_methods(host: Host) -> None:
    registry = registry_of(host.app)
    registry.enter_worker()

    with pytest.raises(UnknownService, match="host 'here' runs network, not 'other'"):
        registry.own("other")
    assert isinstance(registry.own("network"), NetworkManager)


def test_a_greenlet_that_listens_beats_for_rabbitmq_however_much_it_hears(host: Host) -> None:
    beats: list[str] = []
    busy = SimpleNamespace(transport=None, transport_options={}, heartbeat_check=lambda: beats.append("beat"))
    listener = GreenListener(host.app, [], lambda _: None)
    listener.on_consume_ready(busy)

    listener.on_iteration()  # before each message

    assert beats == ["beat"]
