"""The scheduler turns reports into rows, and a bad one costs a line and a count, never its neighbours."""

import json
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from managers.manager import Manager, SchedulerDependentManager
from scheduler.connections import connect
from scheduler.errors import TableUnavailable
from scheduler.manager import SchedulerManager
from scheduler.table import Table

Lives = Callable[..., Any]


@pytest.fixture
def scheduler(table: Table) -> SchedulerManager:
    return SchedulerManager("s", table=table)


def test_the_scheduler_is_a_manager_that_reports_no_capabilities_of_its_own(scheduler: SchedulerManager) -> None:
    assert isinstance(scheduler, Manager)
    assert not isinstance(scheduler, SchedulerDependentManager)
    assert scheduler.service_name == "scheduler"


def test_bad_reports_stop_no_good_one_of_the_same_batch(
    scheduler: SchedulerManager, joined: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = joined("a"), joined("b")
    good = [one.say({"gb": 1}).to_dict(), other.say({"gb": 2}).to_dict()]
    bad = [
        "junk",
        None,
        {**good[0], "host": "x/y"},
        {**one.say({}).to_dict(), "services": {"volume": {"gb": math.nan}}},
        {**one.say({}).to_dict(), "services": {"volume": {"gb": 10**400}}},
        {**one.say({}).to_dict(), "services": {"volume": {"gb": "x" * 70_000}}},
    ]

    fates = scheduler.update_service_capabilities([bad[0], good[0], *bad[1:4], good[1], *bad[4:]])

    assert fates == {"stored": 2, "refused": 6}
    assert scheduler.table.aggregate() == {"volume.gb": (1, 2)}
    assert scheduler.table.counters() == {"reports_stored": 2, "reports_refused": 6}
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 6
    lines = [record.getMessage() for record in caplog.records]
    assert "a report is a JSON object, not 'junk'" in lines[0]
    assert "report from 'x/y' refused: host 'x/y' is no name" in lines[2]
    assert "report from 'a' refused: volume.gb is nan" in lines[3]
    assert "report from 'a' refused: capabilities of volume take 70010 bytes" in lines[5]
    assert max(map(len, lines)) < 500


def test_a_report_for_a_foreign_service_or_boot_is_refused_by_sender_and_service(
    scheduler: SchedulerManager, joined: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    one = joined("a")
    foreign = one.say({}, services={"volume": {"gb": 1}, "network": {}}).to_dict()

    assert scheduler.update_service_capabilities([foreign]) == {"stored": 1, "unknown": 1}

    (record,) = caplog.records
    assert f"report from 'a' refused: it speaks for network as of boot {one.boot}" in record.getMessage()
    assert (record.host, record.service) == ("a", "network")  # type: ignore[attr-defined]


def test_late_and_repeated_reports_are_ordinary_and_cost_no_warning(
    scheduler: SchedulerManager, joined: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    report = joined("a").say({"gb": 1}).to_dict()

    assert scheduler.update_service_capabilities([report, report]) == {"stored": 1, "old": 1}
    assert scheduler.update_service_capabilities(iter([report])) == {"old": 1}

    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_two_schedulers_that_take_the_same_reports_agree(
    scheduler: SchedulerManager, table: Table, joined: Lives
) -> None:
    other = SchedulerManager("t", table=table)
    life = joined("a")
    first, second = life.say({"gb": 1}).to_dict(), life.say({"gb": 2}).to_dict()

    other.update_service_capabilities([json.loads(json.dumps(second))])
    scheduler.update_service_capabilities([first, second])

    assert table.aggregate() == {"volume.gb": (2, 2)}


def test_a_redis_that_is_down_stores_nothing_and_says_nothing_of_the_reports(
    joined: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    # what is given again on every try must not be logged on every try
    scheduler = SchedulerManager("s", table=Table(connect("redis://127.0.0.1:1/0"), url="redis://127.0.0.1:1/0"))
    report = joined("a").say({}).to_dict()

    for _ in range(2):
        with pytest.raises(TableUnavailable):
            scheduler.update_service_capabilities([report, "junk"])

    assert caplog.records == []


def test_what_was_refused_while_redis_was_down_is_counted_once_it_answers(
    scheduler: SchedulerManager, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TableUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(table, "count", refuse)
        assert scheduler.update_service_capabilities(["junk", 7]) == {"refused": 2}
    scheduler.update_service_capabilities([])

    assert table.counters() == {"reports_refused": 2}


def test_pruning_says_whom_it_forgot_and_only_once(
    scheduler: SchedulerManager, joined: Lives, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    life = joined("a")
    scheduler.periodic_tasks()
    assert caplog.records == []
    clock.advance(61)

    scheduler.periodic_tasks()
    scheduler.periodic_tasks()

    (record,) = caplog.records
    assert record.getMessage() == f"pruned volume on a: no heartbeat of pid {life.identity.pid} on vm for 6 intervals"
    assert (record.host, record.service) == ("a", "volume")  # type: ignore[attr-defined]
    assert scheduler.table.counters() == {"hosts_pruned": 1}
