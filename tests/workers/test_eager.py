import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import EncodeError

from managers import RequestContext, SchedulerDependentManager, db
from managers.errors import InvalidReport
from scheduler.errors import NameTaken
from scheduler.table import Table
from workers import celeriac_app, load_settings
from workers.registry import registry_of


class Counting(SchedulerDependentManager[Any], service_name="counting"):
    """Reports how often its periodic tasks ran."""

    runs = 0

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        self.runs += 1
        self.update_service_capabilities({"runs": self.runs})
        super().periodic_tasks(context)


class Quiet(SchedulerDependentManager[Any], service_name="quiet"):
    """Has nothing to say until somebody asks it to learn something."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody opens a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def make_app(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, state_dir: Path
) -> Iterator[Callable[..., Celery]]:
    """Make applications that are eager and know nothing of a broker, as a user's tests would."""
    monkeypatch.setenv("CELERIAC_TABLE_URL", f"memory://{request.node.nodeid}")
    made = []

    def make(host: str = "here") -> Celery:
        app = Celery("users", broker="redis://127.0.0.1:1/0", set_as_current=False)
        app.conf.task_always_eager = True
        made.append(app)
        return celeriac_app(app, managers=[Counting, Quiet], settings=load_settings(host=host))

    yield make
    for app in made:
        app.close()
    db.use(None)


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


@pytest.fixture
def eager_table(app: Celery) -> Table:
    return registry_of(app).table


def known(table: Table, service: str) -> dict[str, Any]:
    return {row.host: dict(row.capabilities) for row in table.hosts(service)}


def test_the_periodic_tasks_run_in_this_process_and_the_report_reaches_the_table(
    app: Celery, eager_table: Table
) -> None:
    app.tasks["counting.periodic_tasks"].delay()

    assert registry_of(app).local("counting").runs == 1  # type: ignore[attr-defined]
    (row,) = eager_table.hosts()
    assert (row.service, row.host, row.state, row.capabilities) == ("counting", "here", "up", {"runs": 1})


def test_every_further_run_replaces_the_report(app: Celery, eager_table: Table) -> None:
    for _ in range(5):
        app.tasks["counting.periodic_tasks"].delay()

    assert known(eager_table, "counting") == {"here": {"runs": 5}}
    assert eager_table.counters() == {"reports_stored": 5}


def test_a_run_by_apply_is_the_same(app: Celery, eager_table: Table) -> None:
    app.tasks["counting.periodic_tasks"].apply(kwargs={"number": 1, "interval": 60.0})

    assert known(eager_table, "counting") == {"here": {"runs": 1}}


def test_the_services_of_one_process_do_not_disturb_each_other(app: Celery, eager_table: Table) -> None:
    for _ in range(2):
        app.tasks["counting.periodic_tasks"].delay()
        app.tasks["quiet.periodic_tasks"].delay()

    assert known(eager_table, "counting") == {"here": {"runs": 2}}
    assert known(eager_table, "quiet") == {"here": {}}
    assert eager_table.counters() == {"reports_stored": 4}


def test_what_a_manager_learns_between_two_runs_is_in_the_next_report(app: Celery, eager_table: Table) -> None:
    manager: Any = registry_of(app).local("quiet")
    app.tasks["quiet.periodic_tasks"].delay()

    manager.update_service_capabilities({"colour": "red"})
    assert known(eager_table, "quiet") == {"here": {}}
    app.tasks["quiet.periodic_tasks"].delay()
    assert known(eager_table, "quiet") == {"here": {"colour": "red"}}
    manager.update_service_capabilities({})
    app.tasks["quiet.periodic_tasks"].delay()

    assert known(eager_table, "quiet") == {"here": {}}


def test_a_manager_asked_for_in_this_process_reports_when_it_is_run_directly(app: Celery, eager_table: Table) -> None:
    registry_of(app).local("counting").periodic_tasks()

    assert known(eager_table, "counting") == {"here": {"runs": 1}}


def test_an_emptied_table_knows_the_host_again_after_the_next_run(app: Celery, eager_table: Table) -> None:
    app.tasks["counting.periodic_tasks"].delay()
    eager_table.redis.flushall()

    app.tasks["counting.periodic_tasks"].delay()

    assert known(eager_table, "counting") == {"here": {"runs": 2}}


def test_a_process_whose_name_another_took_says_so_instead_of_reporting(app: Celery, eager_table: Table) -> None:
    manager = registry_of(app).local("counting")
    manager.periodic_tasks()
    holder = eager_table.host("here")[0].identity
    eager_table.join(replace(holder, instance="another"), ["counting/here"], replaces=[holder.instance])

    with pytest.raises(NameTaken, match="another process"):
        manager.periodic_tasks()

    assert eager_table.host("here")[0].capabilities == {}


def test_the_scheduler_prunes_in_eager_mode_too(app: Celery, eager_table: Table) -> None:
    app.tasks["counting.periodic_tasks"].delay()
    eager_table.redis.zadd(eager_table.key("presence"), {"counting/here": 1.0})

    app.tasks["scheduler.periodic_tasks"].delay()

    assert eager_table.hosts() == []


def test_two_eager_applications_are_two_hosts_of_one_table(make_app: Callable[..., Celery]) -> None:
    here, there = make_app("here"), make_app("there")

    here.tasks["counting.periodic_tasks"].delay()
    for _ in range(2):
        there.tasks["counting.periodic_tasks"].delay()

    assert known(registry_of(here).table, "counting") == {"here": {"runs": 1}, "there": {"runs": 2}}


def test_an_argument_that_can_not_travel_raises_in_eager_mode_too(app: Celery) -> None:
    with pytest.raises(EncodeError):
        app.tasks["scheduler.update_service_capabilities"].delay({1, 2})


def test_a_refused_report_is_counted_and_leaves_the_table_alone(app: Celery, eager_table: Table) -> None:
    app.tasks["counting.periodic_tasks"].delay()

    app.tasks["scheduler.update_service_capabilities"].delay({"host": "here"})

    assert eager_table.counters()["reports_refused"] == 1
    assert known(eager_table, "counting") == {"here": {"runs": 1}}


def test_a_plain_instance_works_with_no_application_at_all_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody sends")

    monkeypatch.setattr(Celery, "send_task", refuse)
    manager = Counting(host="here")

    manager.init_host()
    for _ in range(3):
        manager.periodic_tasks()
    manager.cleanup_host()

    assert manager.last_capabilities == {"runs": 3}
    with pytest.raises(InvalidReport, match=r"counting\.runs"):
        manager.update_service_capabilities({"runs": float("nan")})
