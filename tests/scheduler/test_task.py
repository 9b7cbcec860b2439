"""ScheduledTask without any placement: what it adds to an application that knows no managers, and what it refuses."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task
from kombu import Queue

from managers.errors import NotAdopted
from scheduler.errors import InvalidPlacement, InvalidRequirement
from scheduler.task import ScheduledTask


def make_app(task_cls: Any) -> Celery:
    app = Celery("plain", broker="memory://", backend="cache+memory://", task_cls=task_cls, set_as_current=False)
    app.conf.update(task_default_queue="plain", task_send_sent_event=True)
    return app


@pytest.fixture
def apps() -> Iterator[list[Celery]]:
    """One application of ordinary tasks, and one of scheduled ones."""
    apps = [make_app(Task), make_app(ScheduledTask)]
    yield apps
    for app in apps:
        app.close()


def taken(app: Celery, queue: str) -> list[Any]:
    with app.connection_for_read() as connection:
        bound = Queue(queue)(connection.default_channel)
        bound.declare()
        return list(iter(lambda: bound.get(no_ack=True), None))


def sent_by(app: Celery, options: dict[str, Any], **of_task: Any) -> tuple[Any, ...]:
    """Return what is sent where for a task with the options *of_task* that is called with *options*."""

    @app.task(name="tasks.render", shared=False, **of_task)
    def render(scene: str, *, size: int = 1) -> str:
        return f"{scene} {size}"

    queue = options.get("queue") or "plain"
    taken(app, queue)
    result = render.apply_async(("a.blend",), {"size": 2}, task_id="t1", **options)
    (message,) = taken(app, queue)
    headers = {name: value for name, value in message.headers.items() if name not in {"eta", "expires"}}
    properties = {name: value for name, value in message.properties.items() if name not in {"delivery_tag", "reply_to"}}
    times = {name: bool(message.headers[name]) for name in ("eta", "expires")}
    return result.id, message.body, message.content_type, headers, properties, times


@pytest.mark.parametrize(
    ("options", "of_task"),
    [
        ({}, {}),
        ({"queue": "mine"}, {}),
        ({"priority": 3}, {"ignore_result": True}),
        ({"countdown": 30, "expires": 60, "priority": 7}, {"acks_late": True}),
        ({"serializer": "yaml", "compression": "gzip", "headers": {"mark": 1}}, {}),
        ({"ignore_result": True, "time_limit": 9, "soft_time_limit": 8, "shadow": "other"}, {}),
        ({"link": None, "reply_to": "me", "retries": 2}, {}),
    ],
)
def test_with_none_of_the_options_the_same_message_goes_to_the_same_place(
    apps: list[Celery], options: dict[str, Any], of_task: dict[str, Any]
) -> None:
    plain, scheduled = (sent_by(app, options, **of_task) for app in apps)

    assert scheduled == plain
    assert "celeriac_placement" not in scheduled[3]


@pytest.mark.parametrize("is_eager", [True, False])
def test_with_none_of_the_options_it_runs_as_ever(apps: list[Celery], is_eager: bool) -> None:  # noqa: FBT001
    for app in apps:
        app.conf.task_always_eager = is_eager
        seen: list[Any] = []

        @app.task(bind=True, shared=False, max_retries=2, default_retry_delay=0)
        def flaky(self: Any, word: str, seen: list[Any] = seen) -> str:
            seen.append((self.request.id, self.request.retries, self.request.called_directly))
            if self.request.retries < 1 and not self.request.called_directly:
                raise self.retry(exc=OSError("busy"))
            return word

        result = flaky.apply(("done",), task_id="t1")

        assert result.get() == flaky("done") == "done"
        assert seen == [("t1", 0, False), ("t1", 1, False), (None, 0, True)]


def test_who_asks_for_a_place_in_an_application_without_managers_is_told_what_to_do(apps: list[Celery]) -> None:
    @apps[1].task(shared=False, claims={"gpus": 1})
    def render() -> None: ...

    taken(apps[1], "scheduler")  # the broker in memory is everybody's

    for send in (render.delay, render.s().delay, lambda: render.apply_async(queue=None)):
        with pytest.raises(NotAdopted, match=r"can't place tasks; call workers\.celeriac_app\(plain\) first"):
            send()
    assert taken(apps[1], "plain") == taken(apps[1], "scheduler") == []


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("claim", "claims"), ("cliams", "claims"), ("require", "requires"), ("required", "requires"),
        ("prefer", "prefers"), ("max_attempt", "max_attempts"), ("placement_timout", "placement_timeout"),
        ("same_hosts", "same_host"), ("stiky", "sticky"), ("counts", "count"), ("excludes", "exclude"),
    ],
)  # fmt: skip
def test_an_option_that_is_misspelt_is_refused_with_the_nearest(apps: list[Celery], option: str, near: str) -> None:
    with pytest.raises(TypeError, match=f"has an option '{option}', which means nothing; did you mean '{near}'"):
        type("Mine", (ScheduledTask,), {option: {"gpus": 1}})

    def render() -> None: ...

    with pytest.raises(TypeError, match=f"did you mean '{near}'"):
        apps[1].task(shared=False, lazy=False, **{option: 1})(render)
    render = apps[1].task(shared=False)(render)

    with pytest.raises(TypeError, match=rf"render has no option '{option}'; did you mean '{near}'\?"):
        render.apply_async(**{option: 1})


@pytest.mark.parametrize(
    "name", ["counter", "account", "mount", "_count", "_claim", "device", "server", "chain", "rate"]
)
def test_an_attribute_that_only_looks_a_little_like_an_option_is_the_users_own(apps: list[Celery], name: str) -> None:
    mine = type("Mine", (ScheduledTask,), {name: 0})

    @apps[1].task(base=mine, shared=False)
    def render() -> str:
        return "done"

    assert render() == "done"


def test_a_method_may_have_any_name() -> None:
    class Mine(ScheduledTask):
        def claim(self) -> str:
            return "mine"

    assert Mine().claim() == "mine"


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("requires", "zone =", InvalidRequirement), ("claims", {"gpus": -1}, InvalidPlacement),
        ("prefers", {"a": "b"}, InvalidPlacement), ("only", "a b", ValueError), ("sticky", 7, InvalidPlacement),
        ("strategy", "x", InvalidPlacement), ("count", 0, InvalidPlacement), ("max_attempts", 0, InvalidPlacement),
        ("start_deadline", 0, InvalidPlacement), ("placement_timeout", -1, InvalidPlacement),
        ("must_stick", "yes", InvalidPlacement), ("same_host", 7, InvalidPlacement), ("service", "a b", ValueError),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_used_is_refused_where_the_class_is_made(
    option: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        type("Mine", (ScheduledTask,), {option: value})


def test_a_subclass_may_say_all_of_them() -> None:
    class Mine(ScheduledTask):
        requires = {"zone": "a"}  # noqa: RUF012
        claims = {"gpus": 1}  # noqa: RUF012
        must_stick = False

    assert Mine().is_placed({})
    assert not Mine().is_placed({"queue": "mine"})
    assert not ScheduledTask().is_placed({})


@pytest.mark.parametrize("address", ["queue", "exchange", "routing_key"])
def test_who_names_an_address_is_not_placed(address: str) -> None:
    mine: Any = type("Mine", (ScheduledTask,), {"claims": {"gpus": 1}})
    addressed: Any = type("Addressed", (ScheduledTask,), {"claims": {"gpus": 1}, address: "mine"})

    assert mine().is_placed({address: None})
    assert not mine().is_placed({address: "mine"})
    assert not addressed().is_placed({})
