"""A tick goes to every host of its service, numbered by the fleet's clock, whatever the publisher declared before."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from managers.context import RequestContext
from managers.manager import Manager
from managers.routing import fanout_queue
from scheduler.errors import TableUnavailable
from workers.registry import Registry, registry_of
from workers.ticks import CLOCK_AGE, tick_name

NOW = 1_800_000_030.0


class Watched(Manager[None], service_name="watched"):
    """A manager that keeps the contexts of its runs."""

    contexts: list[RequestContext | None]

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        self.contexts.append(context)


class Bench:
    """An application whose table's clock is the test's, and hosts that listen."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.registry: Registry = registry_of(app)
        self.registry.table._now = lambda: NOW
        self.task = app.tasks[tick_name("watched")]
        self.connection: Connection = app.connection()
        channel = self.connection.channel()
        self.queues = [fanout_queue("watched", host)(channel) for host in ("a", "b")]
        for queue in self.queues:
            queue.declare()
            queue.purge()

    def received(self) -> list[Any]:
        """Return what each host got, the first's first."""
        return [message for queue in self.queues for message in iter(lambda queue=queue: queue.get(no_ack=True), None)]


@pytest.fixture
def bench(make_app: Callable[..., Celery]) -> Any:
    made = Bench(make_app(Watched, periodic_interval=60))
    yield made
    made.connection.close()


def test_every_host_of_the_service_gets_the_tick_once(bench: Bench) -> None:
    bench.task.delay()

    messages = bench.received()
    assert [message.headers["task"] for message in messages] == ["watched.periodic_tasks"] * 2
    assert [message.payload[1] for message in messages] == [{"number": int(NOW // 60), "interval": 60.0}] * 2


def test_the_exchange_is_declared_with_each_tick_since_redis_loses_a_fanout_it_never_heard_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(bench.app.amqp, "send_task_message", lambda *_, **options: sent.append(options))

    bench.task.delay()

    (options,) = sent
    (declared,) = options["declare"]
    assert (declared.name, declared.type) == ("watched.fanout", "fanout")
    assert options["exchange"] == declared


def test_the_number_is_the_fleets_not_this_machines(bench: Bench) -> None:
    bench.registry.clock.set(600.0)

    bench.task.delay()

    assert bench.received()[0].payload[1]["number"] == 10


def test_a_tick_says_who_asks_and_expires_after_its_interval(bench: Bench) -> None:
    bench.task.apply_async()

    message = bench.received()[0]
    context = RequestContext.from_dict(message.headers["celeriac_context"])
    assert (context.is_admin, context.user) == (True, None)
    expires = datetime.fromisoformat(message.headers["expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=5)
    assert message.headers["ignore_result"] is True


def test_no_queue_or_route_takes_a_tick_from_the_hosts(bench: Bench) -> None:
    bench.app.conf.task_routes = {"*": {"queue": "elsewhere"}}

    bench.task.apply_async(queue="elsewhere", exchange="elsewhere", routing_key="elsewhere")

    assert len(bench.received()) == 2


def test_headers_of_the_caller_travel_along(bench: Bench) -> None:
    bench.task.apply_async(headers={"celery_beat_task": True})

    headers = bench.received()[0].headers
    assert headers["celery_beat_task"] is True
    assert "celeriac_context" in headers


def test_the_clock_is_read_once_in_a_while_not_for_each_tick(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ages: list[float] = []
    refresh = bench.registry.clock.refresh
    monkeypatch.setattr(bench.registry.clock, "refresh", lambda age: ages.append(age) or refresh(age))
    readings: list[float] = []
    bench.registry.clock._read = lambda: readings.append(NOW) or NOW  # type: ignore[func-returns-value]

    for _ in range(3):
        bench.task.delay()

    assert ages == [CLOCK_AGE] * 3
    assert readings == [NOW]


def test_without_redis_the_tick_goes_out_by_the_last_known_clock(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> float:
        raise TableUnavailable("the table's Redis does not answer")

    bench.registry.clock.set(600.0)
    bench.registry.clock._read_at = -1000.0
    bench.registry.clock._read = fail

    bench.task.delay()

    assert bench.received()[0].payload[1]["number"] == 10
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "ticking by the last known clock: the table's Redis does not answer"
    ]


def test_in_eager_mode_the_process_is_the_host_and_runs_the_tasks_itself(bench: Bench) -> None:
    bench.app.conf.task_always_eager = True
    manager = bench.registry.local("watched")
    assert isinstance(manager, Watched)
    manager.contexts = []

    bench.task.delay()

    assert [context.is_admin for context in manager.contexts if context] == [True]
    assert bench.received() == []
