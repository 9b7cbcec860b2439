"""What the bootsteps make of a worker and of the application it belongs to."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue

from managers.host import HostManager
from managers.manager import Manager
from managers.methods import expose
from workers.errors import InvalidSettings
from workers.registry import registry_of
from workers.steps import LIFECYCLE, HostStep, _slots

MakeApp = Callable[..., Celery]


def consumed(app: Celery) -> dict[str, Any]:
    """Return what a worker of *app* would consume."""
    HostStep(SimpleNamespace(app=app))
    return dict(app.amqp.queues.consume_from)


def test_a_worker_consumes_its_services_queues_beside_the_applications_own(make_app: MakeApp) -> None:
    app = make_app(HostManager, host="h1")

    assert set(consumed(app)) == {"celery", "host", "host.h1"}
    assert registry_of(app).in_worker
    assert registry_of(app).settings.host_dir.is_dir()


def test_a_host_is_cleaned_up_and_leaves_whatever_its_pool_stumbles_over(make_app: MakeApp) -> None:
    done: list[str] = []
    step = HostStep(SimpleNamespace(app=make_app(HostManager, host="h1")))
    step._stopping = SimpleNamespace(join=lambda: 1 / 0)
    worker = SimpleNamespace(
        **{LIFECYCLE: SimpleNamespace(stop=lambda: done.append("stopped"), leave=lambda: done.append("left"))}
    )

    for end in (step.stop, step.terminate):
        with pytest.raises(ZeroDivisionError):
            end(worker)

    assert done == ["stopped", "left"]


def test_our_queues_keep_their_arguments_whatever_the_application_gives_its_own(
    make_app: MakeApp,
) -> None:
    app = make_app(HostManager, host="h1")
    app.conf.update(task_queue_max_priority=10, task_default_exchange="users", task_create_missing_queue_type="quorum")

    queues = consumed(app)

    for name in ("host", "host.h1"):
        assert (queues[name].exchange.name, queues[name].routing_key) == ("", name)
        assert not queues[name].queue_arguments


def test_a_queue_of_the_application_that_bears_a_services_name_is_refused(make_app: MakeApp) -> None:
    app = make_app(HostManager, host="h1")
    app.conf.task_queues = [Queue("scheduler", Exchange("users"), "scheduler")]

    with pytest.raises(InvalidSettings, match="queue of its own named 'scheduler'"):
        consumed(app)


def test_a_task_of_the_application_that_bears_an_exposed_methods_name_is_refused(make_app: MakeApp) -> None:
    class Volumes(Manager[None], service_name="volume"):
        @expose
        def create(self) -> None: ...

    def create() -> None: ...

    users = Celery("users", broker="memory://", set_as_current=False)
    users.task(name="volume.create", shared=False)(create)
    users.finalize()
    with pytest.warns(Warning, match=r"volume\.create"):
        app = make_app(Volumes, app=users, host="h1")

    with pytest.raises(InvalidSettings, match=r"task of its own named 'volume\.create'"):
        consumed(app)


@pytest.mark.parametrize(
    ("pool", "most", "now", "slots"), [("solo", None, 4, 1), ("prefork", None, 4, 4), ("prefork", 10, 2, 10)]
)
def test_slots_are_what_the_pool_runs_at_most(pool: str, most: int | None, now: int, slots: int) -> None:
    pool_cls = type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})

    assert _slots(SimpleNamespace(pool_cls=pool_cls, max_concurrency=most, concurrency=now)) == slots
