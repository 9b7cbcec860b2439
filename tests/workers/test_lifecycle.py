"""A host's life: names first and last, init_host once, ticks and one report per period, and nothing left at the end."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

import managers.db.api
from managers.context import RequestContext, get_admin_context
from managers.errors import DatabaseError
from managers.host import HostManager
from managers.manager import Manager, SchedulerDependentManager
from managers.periods import Tick, host_offset, period_number
from managers.reports import Report
from scheduler.errors import NameTaken, TableUnavailable
from scheduler.hosts import Host
from workers.lifecycle import Lifecycle
from workers.registry import Registry, registry_of

CONTEXT = get_admin_context()
INTERVAL = 3600.0


class Story:
    """What happened, in order; shared by the managers of a test."""

    def __init__(self, told: Any) -> None:
        self.told = told
        self.fails: set[str] = set()

    def tell(self, what: str) -> None:
        self.told.put(what)
        if what in self.fails:
            raise RuntimeError(f"{what} fails")


def teller(service: str, story: Story) -> type[SchedulerDependentManager[None]]:
    """Make a manager class that tells of its hooks."""

    class Teller(SchedulerDependentManager[None], service_name=service):
        runs = 0

        def init_host(self) -> None:
            story.tell(f"{service} init")

        def periodic_tasks(self, context: RequestContext | None = None) -> None:
            self.runs += 1
            story.tell(f"{service} run")
            self.update_service_capabilities({"runs": self.runs})
            super().periodic_tasks(context)

        def cleanup_host(self) -> None:
            story.tell(f"{service} cleanup")

    return Teller


class Bench:
    """The life of host "a" with services "volume" and "network", and the reports it sends."""

    def __init__(self, app: Celery, story: Story, reports: Any) -> None:
        self.app, self.story, self.told, self.reports = app, story, story.told, reports
        self.registry: Registry = registry_of(app)
        self.table = self.registry.table
        self.registry.enter_worker()
        self.replaced = threading.Event()
        self.lives: list[Lifecycle] = []

    def life(self, slots: int = 4) -> Lifecycle:
        self.registry.forget()
        self.lives.append(Lifecycle(self.registry, slots=slots, on_replaced=self.replaced.set))
        return self.lives[-1]

    def start(self) -> Lifecycle:
        life = self.life()
        life.start()
        return life

    def tick(self, life: Lifecycle, *services: str, ahead: int = 0) -> Tick:
        now = life.registry.clock.now() - host_offset("a", INTERVAL)
        tick = Tick(period_number(now, INTERVAL) + ahead, INTERVAL)
        for service in services or ("volume", "network"):
            life.tick(service, tick, CONTEXT)
        return tick

    def rows(self) -> dict[str, Host]:
        return {host.service: host for host in self.table.hosts()}


Benches = Callable[..., Bench]


@pytest.fixture
def benches(
    make_app: Callable[..., Celery], mailbox: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Benches]:
    made: list[Bench] = []

    def make(*more: Any, **options: Any) -> Bench:
        story, reports = Story(mailbox()), mailbox()
        monkeypatch.setattr("workers.reporting.send_report", lambda _, report: reports.put(report))
        app = make_app(
            teller("volume", story), teller("network", story), *more, **{"heartbeat_interval": 0.1, **options}
        )
        made.append(Bench(app, story, reports))
        return made[-1]

    yield make

    for bench in made:
        for life in bench.lives:
            life.stop()
            life.leave()


@pytest.fixture
def bench(benches: Benches) -> Bench:
    return benches()


def test_a_start_takes_the_names_registers_and_prepares_each_manager_once(bench: Bench) -> None:
    life = bench.start()

    assert bench.told.rest() == ["volume init", "network init"]
    assert set(bench.rows()) == {"volume", "network"}
    records = {record.service: record for record in managers.db.api.service_get_all(host="a")}
    assert set(records) == {"volume", "network"}
    assert all(record.stopped_at is None for record in records.values())
    assert set(life.managers) == {"volume", "network"}
    assert life.managers["volume"] is bench.registry.local("volume")


def test_the_names_are_taken_before_anything_is_prepared(bench: Bench) -> None:
    seen: list[set[str]] = []
    bench.story.tell = lambda _: seen.append(set(bench.rows()))  # type: ignore[method-assign]

    bench.start()

    assert seen == [{"volume", "network"}] * 2


def test_the_host_manager_learns_how_many_tasks_run_at_once(benches: Benches) -> None:
    life = benches(HostManager).life(slots=7)

    life.start()

    host: Any = life.managers["host"]
    assert host.last_capabilities["slots"] == 7


def test_a_second_live_worker_of_the_same_host_is_refused_and_disturbs_nothing(bench: Bench) -> None:
    first = bench.start()
    bench.told.rest()

    with pytest.raises(NameTaken, match="another live worker is 'volume' on host 'a'"):
        bench.start()

    assert bench.told.rest() == []
    assert bench.rows()["volume"].identity.instance == first.membership.identity.instance


@pytest.mark.parametrize("fails", ["volume init", "network init"])
def test_a_failing_init_host_ends_the_start_and_leaves_nothing_behind(bench: Bench, fails: str) -> None:
    bench.story.fails.add(fails)
    life = bench.life()

    with pytest.raises(RuntimeError, match=f"{fails} fails"):
        life.start()

    prepared = ["volume init", "network init"][: ["volume init", "network init"].index(fails) + 1]
    cleaned = ["volume cleanup"] if fails == "network init" else []
    assert bench.told.rest() == prepared + cleaned
    assert bench.rows() == {}
    assert not life._presence._thread.is_alive()
    assert all(record.stopped_at is not None for record in managers.db.api.service_get_all(host="a"))


def test_a_constructor_that_fails_leaves_nothing_behind(benches: Benches) -> None:
    class Broken(Manager[None], service_name="broken"):
        def __init__(self, host: str | None = None, db_driver: str | None = None) -> None:
            raise LookupError("no such disk")

    bench = benches(Broken)

    with pytest.raises(LookupError, match="no such disk"):
        bench.start()

    assert bench.rows() == {}


def test_a_db_driver_that_lacks_functions_ends_the_start_with_its_own_error_and_frees_the_names(
    benches: Benches,
) -> None:
    bench = benches(db_driver="managers.db.models")

    with pytest.raises(AttributeError, match="upgrade"):
        bench.start()

    assert bench.rows() == {}


def test_a_redis_that_is_away_at_the_start_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.lifecycle.RETRY", 0.001)
    faults = [TableUnavailable("the table's Redis does not answer")] * 3
    join = bench.table.join

    def unless_away(*args: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return join(*args, **options)

    monkeypatch.setattr(bench.table, "join", unless_away)

    bench.start()

    assert set(bench.rows()) == {"volume", "network"}
    assert caplog.text.count("the table's Redis does not answer. Trying again") == 1


def test_a_tick_runs_every_service_and_makes_one_report_of_the_period(bench: Bench) -> None:
    life = bench.start()
    bench.told.rest()

    bench.tick(life)

    report: Report = bench.reports.get()
    assert (report.host, report.boot, report.sequence) == ("a", life.membership.boot, 1)
    assert report.services == {"volume": {"runs": 1}, "network": {"runs": 1}}
    assert sorted(bench.told.rest()) == ["network run", "volume run"]


def test_a_repeated_tick_does_nothing(bench: Bench) -> None:
    life = bench.start()
    bench.tick(life)
    bench.reports.get()
    bench.told.rest()

    bench.tick(life)
    bench.tick(life, ahead=-1)
    bench.tick(life, ahead=5)

    life.stop()
    assert bench.told.rest() == ["network cleanup", "volume cleanup"]
    assert bench.reports.rest() == []


def test_a_service_whose_run_fails_is_reported_with_what_it_last_remembered(bench: Bench) -> None:
    life = bench.start()
    volume: Any = life.managers["volume"]
    volume.update_service_capabilities({"gb": 9})
    bench.story.fails.add("volume run")

    bench.tick(life)

    assert bench.reports.get().services == {"volume": {"gb": 9}, "network": {"runs": 1}}


def test_a_tick_for_a_service_of_another_host_is_passed_over(bench: Bench) -> None:
    bench.start().tick("scheduler", Tick(1, INTERVAL), CONTEXT)


def test_a_run_is_noted_in_the_database(bench: Bench) -> None:
    life = bench.start()
    before = managers.db.api.service_get("volume", "a").last_seen_at
    bench.tick(life)
    bench.reports.get()
    life.stop()

    assert managers.db.api.service_get("volume", "a").last_seen_at > before


def test_a_database_that_fails_after_a_run_holds_up_no_report(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("no such function")

    life = bench.start()
    monkeypatch.setattr(managers.db.api, "service_seen", fail)

    bench.tick(life)

    assert bench.reports.get().services["volume"] == {"runs": 1}


def test_opening_the_queues_reports_at_once_and_again_after_each_reconnection(bench: Bench) -> None:
    life = bench.start()

    life.consuming()
    assert bench.reports.get().services == {"volume": None, "network": None}
    life.consuming()
    assert bench.reports.get().sequence == 2


def test_what_an_earlier_life_remembered_is_not_reported_by_the_next(bench: Bench) -> None:
    first = bench.start()
    volume: Any = first.managers["volume"]
    volume.update_service_capabilities({"gb": 1})
    first.stop()

    bench.start().consuming()

    assert bench.reports.get().services["volume"] is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a worker with threads forks too
def test_what_a_pool_child_learns_is_in_the_next_report(bench: Bench) -> None:
    life = bench.start()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            bench.registry.enter_worker()
            manager: Any = bench.registry.local("volume")
            manager.update_service_capabilities({"from": "child"})
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    life.consuming()

    assert bench.reports.get().services["volume"] == {"from": "child"}


def test_a_stop_waits_for_the_run_under_way_before_anything_is_cleaned_up(bench: Bench) -> None:
    life = bench.start()
    bench.told.rest()
    may_end, happened = threading.Event(), bench.told

    def tell(what: str) -> None:
        happened.put(what)
        if what == "volume run":
            assert may_end.wait(10)
            happened.put("volume run is over")

    bench.story.tell = tell  # type: ignore[method-assign]
    bench.tick(life, "volume")
    assert happened.get() == "volume run"
    life.drain()
    stopping = threading.Thread(target=life.stop)
    stopping.start()

    may_end.set()
    stopping.join(10)

    assert happened.rest() == ["volume run is over", "network cleanup", "volume cleanup"]


def test_a_stop_cleans_up_backwards_and_leaves_no_trace(bench: Bench) -> None:
    life = bench.start()
    bench.told.rest()

    life.drain()
    assert {host.state for host in bench.rows().values()} == {"draining"}
    bench.tick(life)
    life.stop()

    assert bench.told.rest() == ["network cleanup", "volume cleanup"]
    assert bench.rows() == {}
    records = managers.db.api.service_get_all(host="a")
    assert len(records) == 2
    assert all(record.stopped_at is not None for record in records)
    assert not life._presence._thread.is_alive()


def test_the_heart_beats_while_the_managers_clean_up(bench: Bench) -> None:
    life = bench.start()
    alive: list[bool] = []
    bench.story.tell = lambda _: alive.append(life._presence._thread.is_alive())  # type: ignore[method-assign]

    life.stop()

    assert alive == [True, True]


def test_a_failing_cleanup_is_logged_and_stops_none_of_the_others(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    life = bench.start()
    bench.told.rest()
    bench.story.fails |= {"network cleanup", "volume cleanup"}

    life.stop()

    assert bench.told.rest() == ["network cleanup", "volume cleanup"]
    assert bench.rows() == {}
    assert caplog.text.count("cleanup_host of") == 2


def test_a_database_or_redis_that_is_away_at_the_end_is_told_of_and_stops_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = bench.start()
    bench.told.rest()

    def no_database(*_: Any) -> None:
        raise DatabaseError("no answer")

    def no_table(*_: Any) -> None:
        raise TableUnavailable("no answer either")

    with monkeypatch.context() as patched:
        patched.setattr(managers.db.api, "service_stopped", no_database)
        patched.setattr(bench.table, "leave", no_table)
        patched.setattr(bench.table, "drain", no_table)
        life.drain()
        life.stop()

    assert bench.told.rest() == ["network cleanup", "volume cleanup"]
    assert caplog.text.count("no answer either") == 2
    assert caplog.text.count("no answer") == 4
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


def test_stopping_twice_or_without_a_start_is_harmless(bench: Bench) -> None:
    never = bench.life()
    never.stop()
    never.stop()
    life = bench.start()
    bench.told.rest()

    life.stop()
    life.stop()
    life.leave()

    assert bench.told.rest() == ["network cleanup", "volume cleanup"]


def test_a_hard_stop_gives_the_names_back_without_cleaning_up(bench: Bench) -> None:
    life = bench.start()
    bench.told.rest()

    life.leave()
    life.stop()

    assert bench.told.rest() == []
    assert bench.rows() == {}


def test_what_an_operator_disabled_in_the_database_is_disabled_in_the_table_from_the_start(bench: Bench) -> None:
    bench.start().stop()
    managers.db.api.service_update("volume", "a", disabled=True, disabled_reason="disk errors")
    bench.table.disable("network/a", "of long ago")

    bench.start()

    rows = bench.rows()
    assert (rows["volume"].state, rows["volume"].reasons) == ("disabled", ("disabled: disk errors",))
    assert rows["network"].state == "up"


def flush(bench: Bench) -> None:
    bench.table.redis.delete(*bench.table.redis.keys(f"{bench.table._prefix}*"))


def test_a_table_that_was_emptied_is_whole_again_with_the_next_heartbeat(bench: Bench) -> None:
    life = bench.start()
    managers.db.api.service_update("volume", "a", disabled=True, disabled_reason="disk errors")
    registered = threading.Event()
    disable = bench.table.disable
    bench.table.disable = lambda *args: (disable(*args), registered.set())  # type: ignore[method-assign,assignment]
    boot = life.membership.boot

    flush(bench)

    assert bench.reports.get().boot == boot
    assert registered.wait(10)
    rows = bench.rows()
    assert {service: row.identity.boot for service, row in rows.items()} == {"volume": boot, "network": boot}
    assert rows["volume"].state == "disabled"


def test_a_database_that_hangs_stops_neither_the_heart_nor_the_report_of_an_emptied_table(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.start()
    asked, answer, beats = threading.Event(), threading.Event(), threading.Semaphore(0)

    def hang(*_: Any, **__: Any) -> None:
        asked.set()
        answer.wait(30)
        raise DatabaseError("too late")

    monkeypatch.setattr(managers.db.api, "service_get", hang)
    heartbeat = bench.table.heartbeat

    def beat(*args: Any) -> tuple[float, str]:
        said = heartbeat(*args)
        if asked.is_set() and said[1] == "ok":
            beats.release()
        return said

    monkeypatch.setattr(bench.table, "heartbeat", beat)
    flush(bench)

    try:
        assert asked.wait(10)
        assert bench.reports.get()
        for _ in range(3):
            assert beats.acquire(timeout=10)
    finally:
        answer.set()


def test_a_worker_that_was_replaced_stops_and_leaves_the_name_to_its_successor(bench: Bench) -> None:
    life = bench.start()
    successor = bench.registry.membership(bench.registry.services)
    bench.table.join(successor.identity, successor.members, replaces=[life.membership.identity.instance])

    assert bench.replaced.wait(10)
    life.drain()
    life.stop()

    assert {host.identity.instance for host in bench.rows().values()} == {successor.identity.instance}
    assert {host.state for host in bench.rows().values()} == {"up"}
    assert all(record.stopped_at is None for record in managers.db.api.service_get_all(host="a"))


def test_a_manager_without_capabilities_is_reported_alive(benches: Benches) -> None:
    class Plain(Manager[None], service_name="plain"):
        """A manager."""

    bench = benches(Plain)
    bench.start().consuming()

    assert bench.reports.get().services == {"volume": None, "network": None, "plain": None}
