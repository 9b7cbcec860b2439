"""An existing application adopts Celeriac in one call and keeps all that it had; two of them share nothing."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, current_app
from celery.signals import worker_process_init
from kombu import Queue

from managers.errors import DriverNotFound
from managers.host import HostManager
from managers.manager import Manager
from managers.methods import expose
from managers.reports import REPORT_TASK
from workers.adoption import celeriac_app
from workers.beat import Periods
from workers.config import load_settings
from workers.errors import AlreadyAdopted, InvalidSettings, UnknownService
from workers.listening import FanoutStep
from workers.registry import is_adopted, registry_of
from workers.steps import HostStep

MakeApp = Callable[..., Celery]


class Volumes(Manager[None], service_name="volume"):
    """A manager."""


class Network(Manager[None], service_name="network"):
    """A manager."""


@pytest.fixture(autouse=True)
def _current_application_stays() -> Iterator[None]:
    before: Any = current_app._get_current_object()  # type: ignore[attr-defined]
    yield
    before.set_current()


@pytest.fixture
def mine() -> Celery:
    """An application that existed before."""
    app = Celery("mine", broker="memory://", set_as_current=False)
    app.conf.update(
        task_default_queue="mine",
        task_queues=[Queue("mine"), Queue("slow")],
        task_routes={"mine.slow": {"queue": "slow"}},
        task_serializer="pickle",
        accept_content=["pickle", "json"],
        worker_prefetch_multiplier=7,
        beat_schedule={"mine": {"task": "mine.slow", "schedule": 30.0}},
    )

    def slow() -> int:
        return 7

    app.task(name="mine.slow", shared=False)(slow)
    return app


def test_the_application_itself_is_given_back(make_app: MakeApp, mine: Celery) -> None:
    assert make_app(Volumes, app=mine) is mine


def test_an_applications_own_queues_routes_serializer_and_schedule_stay(make_app: MakeApp, mine: Celery) -> None:
    before = {
        name: mine.conf[name]
        for name in (
            "broker_url", "task_default_queue", "task_queues", "task_routes", "task_serializer", "accept_content",
            "worker_prefetch_multiplier", "imports", "include", "beat_scheduler", "result_backend",
        )
    }  # fmt: skip

    make_app(Volumes, app=mine)

    assert {name: mine.conf[name] for name in before} == before
    assert set(mine.amqp.queues) == {"mine", "slow"}
    assert mine.amqp.router.route({}, "mine.slow")["queue"].name == "slow"
    assert mine.amqp.router.route({}, "mine.other")["queue"].name == "mine"
    assert mine.conf.beat_schedule["mine"] == {"task": "mine.slow", "schedule": 30.0}
    assert mine.tasks["mine.slow"]() == 7


def test_each_service_gets_a_tick_and_an_entry_of_beat(make_app: MakeApp, mine: Celery) -> None:
    make_app(Volumes, Network, app=mine, periodic_interval=20)

    added = {name: entry for name, entry in mine.conf.beat_schedule.items() if name != "mine"}
    assert set(added) == {f"celeriac: {service}.periodic_tasks" for service in ("volume", "network", "scheduler")}
    for entry in added.values():
        assert entry["task"] in mine.tasks
        assert isinstance(entry["schedule"], Periods)
        assert entry["schedule"].run_every == timedelta(seconds=20)
    assert REPORT_TASK in mine.tasks


def test_its_workers_get_the_steps_that_run_the_managers(make_app: MakeApp, mine: Celery) -> None:
    make_app(app=mine)

    assert HostStep in mine.steps["worker"]
    assert FanoutStep in mine.steps["consumer"]


def test_managers_come_from_the_setting_and_from_the_call(make_app: MakeApp, mine: Celery) -> None:
    make_app(Volumes, app=mine, managers=("managers.host:HostManager",))

    assert list(registry_of(mine).managers) == ["host", "volume", "scheduler"]
    assert registry_of(mine).managers["host"] is HostManager


@pytest.mark.parametrize(
    ("path", "error", "why"),
    [
        ("managers.host:NoSuchManager", DriverNotFound, "CELERIAC_MANAGERS names 'managers.host:NoSuchManager'"),
        ("nowhere:Manager", DriverNotFound, "CELERIAC_MANAGERS names 'nowhere:Manager'"),
        ("managers.machine:Machine", InvalidSettings, "no Manager"),
        ("managers.host", DriverNotFound, "package.module:Class"),
    ],
)
def test_a_wrong_manager_is_refused_by_its_setting(
    make_app: MakeApp, path: str, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        make_app(managers=(path,))


def test_duplicate_services_are_refused_before_the_application_is_touched(make_app: MakeApp, mine: Celery) -> None:
    class Others(Manager[None], service_name="volume"):
        """Claims the same service."""

    with pytest.raises(UnknownService, match="both claim the service 'volume'"):
        make_app(Volumes, Others, app=mine)

    assert list(mine.conf.beat_schedule) == ["mine"]
    assert not mine.steps["worker"]
    assert not [name for name in mine.tasks if name.endswith(".periodic_tasks")]


def test_two_applications_of_one_process_do_not_mix(make_app: MakeApp) -> None:
    one = make_app(Volumes, name="one", host="a", periodic_interval=20)
    other = make_app(Network, name="other", host="b", periodic_interval=30)
    plain = Celery("plain", set_as_current=False)

    assert set(registry_of(one).managers) == {"volume", "scheduler"}
    assert set(registry_of(other).managers) == {"network", "scheduler"}
    assert "volume.periodic_tasks" in one.tasks
    assert "volume.periodic_tasks" not in other.tasks
    assert "network.periodic_tasks" not in one.tasks
    assert one.tasks["scheduler.periodic_tasks"] is not other.tasks["scheduler.periodic_tasks"]
    assert one.tasks[REPORT_TASK].app is one
    assert not [name for name in plain.tasks if name.startswith(("volume.", "network.", "scheduler."))]
    assert HostStep not in plain.steps["worker"]
    assert not plain.conf.beat_schedule
    assert {str(entry["schedule"].run_every) for entry in one.conf.beat_schedule.values()} == {"0:00:20"}
    assert registry_of(one).local("scheduler") is not registry_of(other).local("scheduler")
    assert registry_of(one).table is not registry_of(other).table
    assert registry_of(one).clock is not registry_of(other).clock
    assert (registry_of(one).local("volume").host, registry_of(other).local("network").host) == ("a", "b")


def test_reports_of_two_applications_reach_the_table_of_their_own(make_app: MakeApp) -> None:
    apps = [make_app(HostManager, name=name, host=name) for name in ("one", "other")]
    for app in apps:
        app.conf.task_always_eager = True
        registry_of(app).local("host").periodic_tasks()

    assert [[row.host for row in registry_of(app).table.hosts()] for app in apps] == [["one"], ["other"]]


def test_managers_of_two_applications_use_the_database_of_their_own(make_app: MakeApp, tmp_path: Path) -> None:
    class Keeper(Manager[None], service_name="keeper"):
        @expose
        def register(self) -> list[str]:
            self.db.upgrade()
            self.db.service_register("keeper", self.host, version="1")
            return [record.host for record in self.db.service_get_all()]

    apps = [make_app(Keeper, name=name, host=name) for name in ("one", "other")]
    for app in apps:
        app.conf.task_always_eager = True

    answers = [Keeper.register.using(app).call() for app in apps]

    assert answers == [["one"], ["other"]]
    assert all((tmp_path / name / "celeriac.db").exists() for name in ("one", "other"))


def test_an_option_that_no_task_knows_is_refused_with_the_nearest(make_app: MakeApp, mine: Celery) -> None:
    class Hasty(Manager[None], service_name="hasty"):
        @expose(acks_lat=True)
        def work(self) -> None: ...

    with pytest.raises(TypeError, match=r"Hasty\.work is exposed with 'acks_lat', .*did you mean 'acks_late'"):
        make_app(Hasty, app=mine)
    assert not is_adopted(mine)


def test_an_application_that_takes_no_json_takes_it_for_celeriacs_own_messages(make_app: MakeApp, mine: Celery) -> None:
    mine.conf.update(task_serializer="pickle", accept_content=["pickle"])

    make_app(Volumes, app=mine)

    assert mine.conf.accept_content == ["pickle", "json"]
    assert mine.conf.task_serializer == "pickle"


def test_a_pool_child_belongs_to_the_application_whose_worker_forked_it(make_app: MakeApp) -> None:
    one, other = make_app(name="one"), make_app(name="other")
    plain = Celery("plain", set_as_current=False)

    plain.set_current()
    worker_process_init.send(sender=None)
    assert [registry_of(app).in_worker for app in (one, other)] == [False, False]

    one.set_current()
    worker_process_init.send(sender=None)
    assert [registry_of(app).in_worker for app in (one, other)] == [True, False]


def test_a_pool_child_builds_managers_of_its_own(make_app: MakeApp) -> None:
    app = make_app(Volumes)
    inherited = registry_of(app).local("volume")
    app.set_current()

    worker_process_init.send(sender=None)

    assert registry_of(app).local("volume") is not inherited
    assert registry_of(app).settings.host_dir.is_dir()


def test_adopting_connects_to_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody opens a connection")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("sqlite3.connect", refuse)
    settings = load_settings(dir=tmp_path / "state", broker_url="redis://192.0.2.1/0", host="a")
    app = Celery("lazy", broker="redis://192.0.2.1/0", set_as_current=False)

    celeriac_app(app, managers=[Volumes], settings=settings)
    app.finalize()
    registry_of(app).local("volume")

    assert not (tmp_path / "state").exists()


def test_an_application_is_adopted_once(make_app: MakeApp) -> None:
    app = make_app(Volumes)

    with pytest.raises(AlreadyAdopted, match="one call"):
        celeriac_app(app, managers=[Network])

    assert set(registry_of(app).managers) == {"volume", "scheduler"}


def test_the_fleet_is_where_the_application_is_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    def addresses(**settings: Any) -> tuple[str, str]:
        app = Celery("users", broker="redis://prod:6379/3", set_as_current=False)
        celeriac_app(app, settings=load_settings(dir=tmp_path, managers=(), **settings))
        known = registry_of(app).settings
        return known.broker_url, known.table_address

    assert addresses() == ("redis://prod:6379/3", "redis://prod:6379/3")
    assert addresses(table_url="redis://table:1/0") == ("redis://prod:6379/3", "redis://table:1/0")
    assert addresses(broker_url="redis://other:1/0") == ("redis://other:1/0", "redis://other:1/0")


def test_an_application_of_the_old_protocol_is_refused_and_stays_as_it_was(make_app: MakeApp, mine: Celery) -> None:
    mine.conf.task_protocol = 1

    with pytest.raises(InvalidSettings, match="task_protocol 1"):
        make_app(Volumes, app=mine)

    assert set(mine.conf.beat_schedule) == {"mine"}
