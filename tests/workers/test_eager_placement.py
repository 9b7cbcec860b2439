"""With task_always_eager tasks are placed too: each runs at once, acting as the host that it is placed on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group

from managers import SchedulerDependentManager, db, expose
from managers.host import HostManager
from scheduler.errors import InvalidPlacement, NoValidHost
from scheduler.pending import Pending
from scheduler.requests import Request, check_options
from scheduler.task import ScheduledTask
from workers import celeriac_app, load_settings
from workers.registry import registry_of
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class Rooms(SchedulerDependentManager[None], service_name="rooms"):
    """Has rooms, and says which it gave away."""

    def init_host(self) -> None:
        self.update_service_capabilities({"rooms": 2})

    @expose
    def book(self, guest: str) -> list[str]:
        return [self.host, guest]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, state_dir: Path) -> Iterator[Celery]:
    """An eager application, adopted with a table in memory and nothing else that answers."""

    def refuse(*_: Any) -> None:
        raise AssertionError("somebody opens a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("CELERIAC_TABLE_URL", f"memory://{request.node.nodeid}")
    app = Celery("users", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.task_always_eager = True
    app.conf.accept_content = ["json"]
    celeriac_app(app, managers=[HostManager, Rooms], settings=load_settings(host="here", labels="zone=a"))
    yield app
    app.close()
    db.use(None)


@pytest.fixture
def place(app: Celery) -> Callable[..., Any]:
    """Make a task with these options, that returns the host it acts as."""

    def make(**options: Any) -> Any:
        @app.task(bind=True, base=ScheduledTask, shared=False, name=f"tests.{len(app.tasks)}", **options)
        def where(_: Any, *args: Any) -> str:
            return registry_of(app).host

        return where

    return make


@pytest.fixture
def reported(app: Celery) -> None:
    """The process has reported what it has."""
    registry_of(app).local("host").periodic_tasks()


@pytest.mark.usefixtures("reported")
def test_a_task_that_this_process_can_take_runs_in_it(place: Callable[..., Any]) -> None:
    assert place(requires="zone == 'a'", claims={"memory_mb": 1}).delay().get() == "here"


@pytest.mark.usefixtures("reported")
def test_a_task_that_it_can_not_take_has_no_valid_host_for_its_result(place: Callable[..., Any]) -> None:
    result = place(requires="zone == 'b'").delay()

    assert result.state == "FAILURE"
    with pytest.raises(NoValidHost, match=r"0/1 hosts: 1 zone == 'b'") as caught:
        result.get()
    assert caught.value.reasons == ["1 zone == 'b'"]


@pytest.mark.usefixtures("reported")
def test_no_valid_host_is_raised_where_eager_errors_are(app: Celery, place: Callable[..., Any]) -> None:
    app.conf.task_eager_propagates = True

    with pytest.raises(NoValidHost):
        place(requires="zone == 'b'").delay()


@pytest.mark.usefixtures("reported")
def test_an_errback_is_told_of_no_valid_host(app: Celery, place: Callable[..., Any]) -> None:
    told: list[str] = []

    @app.task(shared=False)
    def errback(request: Any, error: Any, traceback: Any) -> None:
        told.append(type(error).__name__)

    place(requires="zone == 'b'").apply_async(link_error=errback.s())

    assert told == ["NoValidHost"]


def test_where_no_host_is_known_a_task_just_runs(place: Callable[..., Any]) -> None:
    assert place(requires="zone == 'nowhere'", claims={"gpus": 9}).delay().get() == "here"


@pytest.mark.usefixtures("reported")
def test_what_makes_no_sense_is_refused_at_the_call(place: Callable[..., Any]) -> None:
    with pytest.raises(InvalidPlacement, match="claims ask for gpus"):
        place().apply_async(claims={"gpus": -1})
    with pytest.raises(InvalidPlacement, match="eager mode runs one after another"):
        place(count=2).apply_async(throw=True)


@pytest.mark.usefixtures("reported")
def test_the_parts_of_a_canvas_are_placed_one_by_one(place: Callable[..., Any]) -> None:
    good, bad = place(requires="zone == 'a'"), place(requires="zone == 'b'")

    assert chain(good.s(), good.s()).apply_async().get() == "here"
    assert group(good.s(), good.s()).apply_async().get() == ["here", "here"]
    assert chord([good.s(), good.s()], good.s()).apply_async().get() == "here"
    assert chain(good.s(), bad.s()).apply_async().state == "FAILURE"
    parts: Any = group(good.s().set(requires="zone == 'c'")).apply_async()
    assert parts.results[0].state == "FAILURE"


@pytest.mark.usefixtures("reported")
def test_a_retry_is_placed_by_what_its_call_asked(app: Celery) -> None:
    tries: list[int] = []

    @app.task(bind=True, base=ScheduledTask, shared=False, max_retries=3)
    def flaky(task: Any) -> str:
        tries.append(task.request.retries)
        if len(tries) == 1:
            raise task.retry()
        if len(tries) == 2:
            local: Any = registry_of(app).local("host")
            local.labels = {"zone": "b"}
            local.periodic_tasks()
            raise task.retry()
        return "never"

    result = flaky.apply_async(requires="zone == 'a'")

    assert isinstance(result.result, NoValidHost)
    assert tries == [0, 1]


@pytest.mark.usefixtures("reported")
def test_a_task_that_sends_another_leaves_it_all_the_room(app: Celery, place: Callable[..., Any]) -> None:
    cpus = registry_of(app).table.host("here")[0].capabilities["cpus"]
    inner = place(claims={"cpus": cpus})

    @app.task(base=ScheduledTask, shared=False, claims={"cpus": cpus})
    def outer() -> str:
        state: str = inner.delay().state
        return state

    assert outer.delay().get() == "SUCCESS"


@pytest.mark.usefixtures("reported")
def test_what_others_have_waiting_in_the_same_table_is_left_alone(app: Celery, place: Callable[..., Any]) -> None:
    pending = Pending(registry_of(app).table)
    theirs = Request(id="1", task_id="theirs", task="theirs", service="host", **check_options({"claims": {"slots": 0}}))
    pending.submit([(theirs, {})], timeout=0.0)

    place(requires="zone == 'a'").delay().get()

    assert [unit.request.task_id for unit in pending.all()] == ["theirs"]
    assert pending.failing() == []


def test_a_method_runs_on_the_host_that_where_finds(app: Celery) -> None:
    manager: Any = registry_of(app).local("rooms")
    manager.init_host()
    manager.periodic_tasks()

    book = Rooms.book.using(app)
    assert book.where("rooms > 1", claims={"rooms": 1}).call("ann") == ["here", "ann"]
    assert book.where("rooms > 2").delay("ann").state == "FAILURE"
    with pytest.raises(NoValidHost):
        book.where(claims={"rooms": 3}).call("ann")


@pytest.mark.usefixtures("reported")
def test_what_apply_runs_outside_eager_mode_is_not_placed(app: Celery, place: Callable[..., Any]) -> None:
    app.conf.task_always_eager = False

    assert place(requires="zone == 'b'").apply().get() == "here"


@pytest.fixture
def eager_cluster(cluster: Cluster) -> Cluster:
    """A cluster of three hosts, whose application is eager."""
    cluster.app.conf.task_always_eager = True
    cluster.start(Rooms, hosts=["a", "b"])
    cluster.add_host("a", {"zone": "a", "gpus": 1})
    cluster.add_host("b", {"zone": "b", "gpus": 2})
    return cluster


def test_on_a_cluster_an_eager_task_acts_as_the_host_it_is_placed_on(eager_cluster: Cluster) -> None:
    there = registry_of(eager_cluster.app)

    @eager_cluster.app.task(base=ScheduledTask, claims={"gpus": 2})
    def which() -> list[str]:
        return [there.host, there.local("rooms").host]

    assert which.delay().get() == ["b", "b"]
    assert which.apply_async(claims={"gpus": 1}, requires={"zone": "a"}).get() == ["a", "a"]
    assert isinstance(which.apply_async(claims={"gpus": 3}).result, NoValidHost)
    assert which.apply_async(only="a", claims={"gpus": 1}).get() == ["a", "a"]
    assert eager_cluster.claims == eager_cluster.pending == []


def test_on_a_cluster_an_eager_method_is_placed_too(eager_cluster: Cluster) -> None:
    assert Rooms.book.where("zone == 'b'").call("ann") == ["b", "ann"]
    assert Rooms.book.where("zone == 'a'", claims={"rooms": 2}).delay("ann").get() == ["a", "ann"]


def test_on_a_cluster_sticky_and_same_host_remember_eager_tasks(eager_cluster: Cluster) -> None:
    @eager_cluster.app.task(base=ScheduledTask)
    def which() -> str:
        return registry_of(eager_cluster.app).host

    first = which.apply_async(requires={"zone": "b"}, sticky="model")

    assert which.apply_async(same_host=first.id).get() == "b"
    assert which.apply_async(different_host=first.id).get() == "a"
    assert which.apply_async(sticky="model", must_stick=True).get() == "b"
