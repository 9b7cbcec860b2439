"""What Celeriac knows of one application: its managers, one instance each per process."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from managers.errors import InvalidName, NotAdopted
from managers.host import HostManager
from managers.manager import Manager, SchedulerDependentManager
from managers.memory import HostMemory
from managers.periodic import periodic_task
from managers.runs import ProcessRuns
from scheduler.manager import SchedulerManager
from workers.adoption import celeriac_app
from workers.config import load_settings
from workers.errors import UnknownService
from workers.registry import registry_of

MakeApp = Callable[..., Celery]


class Volumes(SchedulerDependentManager[None], service_name="volume"):
    """A manager that knows something from its beginning."""

    def __init__(self, host: str | None = None, db_driver: str | None = None) -> None:
        super().__init__(host, db_driver)
        self.update_service_capabilities({"gb": 1})


class OtherVolumes(SchedulerDependentManager[None], service_name="volume"):
    """Claims the same service."""


class Plain(Manager[None], service_name="plain"):
    """A manager."""


def test_the_scheduler_is_known_besides_the_applications_managers(make_app: MakeApp) -> None:
    registry = registry_of(make_app(Volumes, Plain))

    assert registry.managers == {"volume": Volumes, "plain": Plain, "scheduler": SchedulerManager}


def test_a_worker_runs_all_services_but_the_schedulers_unless_it_is_told_which(make_app: MakeApp) -> None:
    assert registry_of(make_app(Volumes, Plain)).services == ("volume", "plain")
    assert registry_of(make_app(Volumes, Plain, services="scheduler,plain")).services == ("scheduler", "plain")


def test_two_managers_of_one_service_are_refused_by_name(make_app: MakeApp) -> None:
    with pytest.raises(UnknownService, match="OtherVolumes and Volumes both claim the service 'volume'"):
        make_app(Volumes, OtherVolumes)


def test_a_manager_named_twice_is_one(make_app: MakeApp) -> None:
    assert len(registry_of(make_app(Volumes, Volumes, SchedulerManager)).managers) == 2


def test_a_manager_without_a_service_name_is_refused(make_app: MakeApp) -> None:
    class Nameless(Manager[None]):
        pass

    with pytest.raises(InvalidName, match="service_name='mine'"):
        make_app(Nameless)


def test_a_service_nobody_manages_is_answered_with_the_known_ones(make_app: MakeApp) -> None:
    message = "no manager for service 'network': the application knows scheduler, volume; .*CELERIAC_MANAGERS"
    with pytest.raises(UnknownService, match=message):
        make_app(Volumes, services="network")
    with pytest.raises(UnknownService, match=message):
        registry_of(make_app(Volumes)).local("network")


def test_an_application_that_was_not_adopted_is_told_what_to_call() -> None:
    with pytest.raises(NotAdopted, match=r"workers\.celeriac_app\(plain\)"):
        registry_of(Celery("plain", set_as_current=False))


def test_a_manager_is_built_once_per_process_whichever_thread_asks_first(
    make_app: MakeApp, stress: Callable[..., None]
) -> None:
    built = threading.Semaphore(0)

    class Slow(Manager[None], service_name="slow"):
        def __init__(self, host: str | None = None, db_driver: str | None = None) -> None:
            super().__init__(host, db_driver)
            built.release()

    registry = registry_of(make_app(Slow))
    found: set[int] = set()

    stress(lambda: found.add(id(registry.local("slow"))), lambda: registry.local("slow"), rounds=3)

    assert len(found) == 1
    assert built.acquire(blocking=False)
    assert not built.acquire(blocking=False)


def test_a_manager_is_built_for_the_settings_host_and_database(make_app: MakeApp) -> None:
    manager = registry_of(make_app(Plain, host="rack1-07", db_driver="managers.db.models")).local("plain")

    assert manager.host == "rack1-07"
    assert manager.db.__name__ == "managers.db.models"


def test_the_host_manager_gets_the_operators_labels(make_app: MakeApp) -> None:
    manager = registry_of(make_app(HostManager, labels="zone=a,disk=ssd")).local("host")

    assert isinstance(manager, HostManager)
    assert manager.labels == {"zone": "a", "disk": "ssd"}


def test_the_scheduler_gets_the_table(make_app: MakeApp) -> None:
    registry = registry_of(make_app())

    assert registry.scheduler().table is registry.table
    assert registry.scheduler() is registry.local("scheduler")


def test_outside_a_worker_a_manager_reports_by_itself_and_remembers_in_the_process(make_app: MakeApp) -> None:
    manager = registry_of(make_app(Volumes)).local("volume")

    assert isinstance(manager, SchedulerDependentManager)
    assert manager.reporter is not None
    assert not isinstance(manager.memory, HostMemory)


def test_in_a_worker_managers_of_all_its_processes_share_one_memory_and_do_not_report(make_app: MakeApp) -> None:
    registry = registry_of(make_app(Volumes))
    before = registry.local("volume")
    registry.enter_worker()
    main: Any = registry.local("volume")
    registry.forget()  # as a pool child does
    child: Any = registry.local("volume")

    assert len({id(before), id(main), id(child)}) == 3
    assert main.reporter is child.reporter is None
    child.update_service_capabilities({"gb": 2})
    assert main.last_capabilities == {"gb": 2}


def test_what_a_constructor_learnt_is_remembered_but_never_instead_of_what_came_later(make_app: MakeApp) -> None:
    registry = registry_of(make_app(Volumes))
    registry.enter_worker()
    main: Any = registry.local("volume")
    assert main.last_capabilities == {"gb": 1}

    main.update_service_capabilities({"gb": 2})
    registry.forget()
    child: Any = registry.local("volume")

    assert child.last_capabilities == {"gb": 2}


def test_hosts_of_one_process_have_managers_of_their_own(make_app: MakeApp) -> None:
    registry = registry_of(make_app(Plain, host="a"))

    with registry.acting_as("b"):
        other = registry.local("plain")
        assert registry.local("plain") is other

    assert (registry.local("plain").host, other.host) == ("a", "b")


def test_a_membership_is_for_this_host_and_its_settings(make_app: MakeApp) -> None:
    membership = registry_of(make_app(host="rack1-07", heartbeat_interval=2, periodic_interval=7)).membership(
        ("volume", "network")
    )

    assert membership.members == ("volume/rack1-07", "network/rack1-07")
    assert (membership.identity.heartbeat_interval, membership.identity.interval) == (2, 7)
    assert membership.boot == 0


def test_nothing_is_connected_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody opens a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    settings = load_settings(dir=tmp_path, broker_url="redis://192.0.2.1/0", database_url="postgresql://192.0.2.1/c")
    app = celeriac_app(Celery("lazy", broker="redis://192.0.2.1/0", set_as_current=False), settings=settings)

    registry = registry_of(app)
    registry.membership(registry.services)
    app.finalize()

    assert registry.clock.now() > 0
    assert list(tmp_path.iterdir()) == []


def test_a_message_of_a_service_that_this_worker_does_not_run_is_refused(make_app: MakeApp) -> None:
    registry = registry_of(make_app(Volumes, Plain, services="plain", host="h1"))
    assert isinstance(registry.own("volume"), Volumes)
    registry.enter_worker()

    with pytest.raises(UnknownService, match="host 'h1' runs plain, not 'volume'"):
        registry.own("volume")
    assert isinstance(registry.own("plain"), Plain)


def test_outside_a_worker_nobody_else_can_be_in_a_task_of_the_pool(make_app: MakeApp) -> None:
    registry = registry_of(make_app(Plain))

    with registry.alone("plain", "lift") as first, registry.alone("plain", "lift") as second:
        assert first is second is True


def test_in_a_worker_one_at_a_time_is_in_a_task_of_the_pool(make_app: MakeApp) -> None:
    registry = registry_of(make_app(Plain))
    registry.enter_worker()

    with (
        registry.alone("plain", "lift") as first,
        registry.alone("plain", "lift") as second,
        registry.alone("plain", "other") as other,
    ):
        assert (first, second, other) == (True, False, True)
    with registry.alone("plain", "lift") as again:
        assert again is True


def test_a_manager_of_a_worker_keeps_last_runs_on_its_host_and_those_of_the_fleet_in_the_table(
    make_app: MakeApp,
) -> None:
    class Sweeping(Manager[None], service_name="sweeping"):
        @periodic_task(scope="fleet")
        def sweep(self) -> None:
            """Sweep."""

    registry = registry_of(make_app(Plain, Sweeping))
    assert isinstance(registry.local("plain").schedule.runs, ProcessRuns)
    assert registry.local("plain").schedule.send is None
    registry.enter_worker()

    plain, sweeping = registry.local("plain").schedule, registry.local("sweeping").schedule
    assert plain.runs.advance("plain", "dust", None, 60.0)
    registry.forget()
    assert registry.local("plain").schedule.runs.last_run("plain", "dust") == 60.0
    assert plain.send is not None
    assert sweeping.fleet_runs is registry.table
