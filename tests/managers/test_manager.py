"""Managers keep the origin's names and semantics: remember, do the due work, then report, on every run."""

import inspect
import math
import socket
from collections.abc import Callable
from typing import Any, get_args

import pytest

import managers.db.api
from managers.context import RequestContext, get_admin_context
from managers.errors import DriverNotFound, InvalidName, InvalidReport
from managers.manager import Manager, SchedulerDependentManager
from managers.methods import expose
from managers.periodic import periodic_task
from managers.reports import Capabilities


class Disk:
    """A driver."""

    def __init__(self) -> None:
        self.gb = 0


class Volumes(SchedulerDependentManager[Disk], service_name="volume"):
    """A manager that measures with its driver on each run."""

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        self.driver.gb += 1
        self.update_service_capabilities({"gb": self.driver.gb})
        super().periodic_tasks(context)


class Network(SchedulerDependentManager[None], service_name="network"):
    """A manager that only says what it was told."""


class Exposing(Manager[None], service_name="exposing"):
    """A manager that the fleet may call."""

    @expose
    def attach(self) -> None: ...


class Outbox:
    """A reporter that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Capabilities | None]] = []

    def report(self, manager: SchedulerDependentManager[Any]) -> None:
        self.sent.append((manager.service_name, manager.last_capabilities))


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def network(outbox: Outbox) -> Network:
    manager = Network("rack1-07")
    manager.reporter = outbox
    return manager


def positional(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return what can be given by position, with its default."""
    return [
        (entry.name, entry.default)
        for entry in inspect.signature(function).parameters.values()
        if entry.kind is entry.POSITIONAL_OR_KEYWORD
    ]


def test_a_manager_has_the_origins_names_and_signatures() -> None:
    assert positional(Manager) == [("host", None), ("db_driver", None)]
    assert positional(Manager.init_host) == [("self", inspect.Parameter.empty)]
    assert positional(Manager.periodic_tasks)[1:] == [("context", None)]
    assert positional(Manager.cleanup_host) == [("self", inspect.Parameter.empty)]


def test_a_scheduler_dependent_manager_has_the_origins_names_and_signatures() -> None:
    assert issubclass(SchedulerDependentManager, Manager)
    assert positional(SchedulerDependentManager) == [
        ("host", None),
        ("db_driver", None),
        ("service_name", "undefined"),
    ]
    assert positional(SchedulerDependentManager.update_service_capabilities)[1:] == [
        ("capabilities", inspect.Parameter.empty)
    ]
    assert positional(SchedulerDependentManager.periodic_tasks)[1:] == [("context", None)]
    assert Network("a").last_capabilities is None


def test_everything_but_the_origins_arguments_is_keyword_only() -> None:
    for manager in (Manager, SchedulerDependentManager):
        assert inspect.signature(manager).parameters["driver"].kind is inspect.Parameter.KEYWORD_ONLY


def test_the_host_is_the_argument_then_the_setting_then_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "the-machine")
    assert Manager().host == "the-machine"

    monkeypatch.setenv("CELERIAC_HOST", "the-setting")
    assert Manager().host == "the-setting"
    assert Manager("").host == "the-setting"

    assert Manager("the-argument").host == "the-argument"
    assert Manager(host="the-argument").host == "the-argument"


def test_a_host_that_is_no_name_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_HOST", "rack 1")

    with pytest.raises(InvalidName, match="rack 1"):
        Manager()


def test_the_db_driver_is_loaded_from_its_dotted_path(module: Callable[..., str]) -> None:
    path = module(service_register="mine")

    assert Manager("a").db is managers.db.api
    assert Manager("a", path).db.service_register == "mine"
    assert Manager(db_driver=path).db.service_register == "mine"


def test_a_wrong_db_driver_fails_at_once_with_its_name() -> None:
    with pytest.raises(DriverNotFound, match=r"no database driver 'managers\.db\.nowhere'"):
        Manager("a", "managers.db.nowhere")


def test_the_service_is_named_by_a_class_keyword_and_inherited() -> None:
    class Faster(Volumes):
        pass

    class Other(Volumes, service_name="other"):
        pass

    assert (Volumes.service_name, Faster.service_name, Other.service_name) == ("volume", "volume", "other")
    assert Manager.service_name == "undefined"


def test_the_service_can_be_named_by_the_origins_argument() -> None:
    manager = SchedulerDependentManager[None]("a", None, "volume")

    assert manager.service_name == "volume"
    assert SchedulerDependentManager.service_name == "undefined"
    assert Network("a", service_name="undefined").service_name == "network"


def test_the_setting_of_a_driver_follows_the_service_named_by_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_VOLUME_DRIVER", "nowhere:Disk")

    with pytest.raises(DriverNotFound, match="CELERIAC_VOLUME_DRIVER"):
        SchedulerDependentManager[None]("a", service_name="volume")


def test_a_manager_says_which_driver_it_expects_and_holds_it() -> None:
    (base,) = Volumes.__orig_bases__  # type: ignore[attr-defined]
    assert get_args(base) == (Disk,)

    disk = Disk()
    assert Volumes("a", driver=disk).driver is disk
    assert isinstance(Volumes("a", driver=Disk).driver, Disk)
    assert Network("a").driver is None


def test_the_base_hooks_do_nothing() -> None:
    manager = Manager[None]("a")

    assert manager.init_host() is None  # type: ignore[func-returns-value]
    assert manager.periodic_tasks() is None  # type: ignore[func-returns-value]
    assert manager.periodic_tasks(get_admin_context()) is None  # type: ignore[func-returns-value]
    assert manager.cleanup_host() is None  # type: ignore[func-returns-value]


def test_an_update_is_remembered_and_sends_nothing_by_itself(network: Network, outbox: Outbox) -> None:
    network.update_service_capabilities({"ports": 4})

    assert network.last_capabilities == {"ports": 4}
    assert outbox.sent == []


def test_what_is_remembered_is_sent_on_every_run_until_replaced(network: Network, outbox: Outbox) -> None:
    network.update_service_capabilities({"ports": 4})
    for _ in range(3):
        network.periodic_tasks()
    network.update_service_capabilities({"links": 1})
    network.periodic_tasks()

    assert outbox.sent == [("network", {"ports": 4})] * 3 + [("network", {"links": 1})]


def test_none_reports_liveness_only_and_an_empty_dict_retracts(network: Network, outbox: Outbox) -> None:
    network.periodic_tasks()
    network.update_service_capabilities({})
    network.periodic_tasks()
    network.update_service_capabilities(None)
    network.periodic_tasks()

    assert outbox.sent == [("network", None), ("network", {}), ("network", None)]


def test_the_due_work_is_done_before_the_report_so_that_facts_are_fresh(outbox: Outbox) -> None:
    volumes = Volumes("a", driver=Disk)
    volumes.reporter = outbox

    volumes.periodic_tasks()
    volumes.periodic_tasks()

    assert outbox.sent == [("volume", {"gb": 1}), ("volume", {"gb": 2})]


def test_a_base_class_does_its_work_before_the_report_too(outbox: Outbox) -> None:
    class Base(Manager[None]):
        def periodic_tasks(self, context: RequestContext | None = None) -> None:
            assert outbox.sent == []
            super().periodic_tasks(context)

    class Mixed(SchedulerDependentManager[None], Base, service_name="mixed"):
        pass

    mixed = Mixed("a")
    mixed.reporter = outbox
    mixed.periodic_tasks()

    assert outbox.sent == [("mixed", None)]


def test_inside_a_worker_a_manager_sends_nothing_itself() -> None:
    manager = Network("a")
    manager.update_service_capabilities({"ports": 4})

    manager.periodic_tasks()

    assert manager.reporter is None


@pytest.mark.parametrize(
    "wrong",
    [{"size": math.nan}, {"size": 10**400}, {"a b": 1}, {"size": None}, {"size": {"gb": 1}}, ["gb"], 7, [], 0, ""],
)
def test_wrong_capabilities_are_refused_at_the_update_and_the_earlier_ones_kept(network: Network, wrong: Any) -> None:
    network.update_service_capabilities({"ports": 4})

    with pytest.raises(InvalidReport, match="network"):
        network.update_service_capabilities(wrong)

    assert network.last_capabilities == {"ports": 4}


def test_a_manager_shows_its_service_and_host() -> None:
    assert repr(Network("rack1-07")) == "<Network network on rack1-07>"


def test_a_manager_class_is_checked_where_it_is_defined() -> None:
    with pytest.raises(TypeError, match=r"Forgetful\.attach overrides an exposed method"):

        class Forgetful(Exposing):
            def attach(self) -> None: ...  # type: ignore[override]


def test_a_subclass_that_overrides_the_periodic_run_and_calls_super_runs_the_due_tasks(outbox: Outbox) -> None:
    order: list[str] = []

    class Marked(SchedulerDependentManager[None], service_name="marked"):
        @periodic_task(spacing=0)
        def measure(self) -> None:
            order.append("measured")
            self.update_service_capabilities({"gb": 1})

        def periodic_tasks(self, context: RequestContext | None = None) -> None:
            order.append("own")
            super().periodic_tasks(context)

    marked = Marked("a")
    marked.reporter = outbox
    marked.periodic_tasks(get_admin_context())

    assert order == ["own", "measured"]
    assert outbox.sent == [("marked", {"gb": 1})]


def test_a_plain_manager_runs_its_due_tasks_and_reports_nothing() -> None:
    class Plain(Manager[None], service_name="plain"):
        ran = 0

        @periodic_task(run_immediately=True)
        def measure(self) -> None:
            self.ran += 1

    plain = Plain("a")
    plain.periodic_tasks()
    plain.periodic_tasks()

    assert plain.ran == 1


def test_two_instances_of_one_class_have_last_runs_of_their_own() -> None:
    class Plain(Manager[None], service_name="plain"):
        ran = 0

        @periodic_task(run_immediately=True)
        def measure(self) -> None:
            self.ran += 1

    first, second = Plain("a"), Plain("a")
    first.periodic_tasks()
    second.periodic_tasks()

    assert (first.ran, second.ran) == (1, 1)
    assert first.schedule is not second.schedule
