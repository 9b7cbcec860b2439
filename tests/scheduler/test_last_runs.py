"""The last run of a fleet's task is one for all hosts, and whoever replaces it first has the period."""

import threading
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scheduler.connections import connect
from scheduler.errors import TableUnavailable
from scheduler.table import Table


def test_a_task_that_never_ran_has_no_last_run(table: Table) -> None:
    assert table.last_run("volume", "sweep") is None


def test_the_first_to_replace_what_it_saw_has_the_period_and_the_others_do_not(table: Table) -> None:
    assert table.advance("volume", "sweep", None, 60.0) is True
    assert table.advance("volume", "sweep", None, 60.0) is False
    assert table.advance("volume", "sweep", 60.0, 120.0) is True
    assert table.advance("volume", "sweep", 60.0, 180.0) is False

    assert table.last_run("volume", "sweep") == 120.0


def test_a_host_that_saw_an_older_run_does_not_turn_the_time_back(table: Table) -> None:
    table.advance("volume", "sweep", None, 120.0)

    assert table.advance("volume", "sweep", None, 60.0) is False
    assert table.advance("volume", "sweep", 60.0, 61.0) is False

    assert table.last_run("volume", "sweep") == 120.0


@pytest.mark.parametrize("at", [1_800_000_030.123457, 0.1 + 0.2, 0.0, 1e-9, 2.0**52 + 0.5])
def test_a_last_run_is_the_same_number_when_it_is_read_again(table: Table, at: float) -> None:
    table.advance("volume", "sweep", None, at)

    last = table.last_run("volume", "sweep")

    assert last == at
    assert table.advance("volume", "sweep", last, at + 1) is True


def test_tasks_of_one_name_in_two_services_and_two_tasks_of_one_are_apart(table: Table) -> None:
    table.advance("volume", "sweep", None, 1.0)

    assert table.last_run("network", "sweep") is None
    assert table.last_run("volume", "mend") is None
    assert table.advance("network", "sweep", None, 2.0) is True
    assert table.last_run("volume", "sweep") == 1.0


def test_after_redis_was_emptied_a_host_that_saw_a_run_yields_to_what_is_there(table: Table) -> None:
    table.advance("volume", "sweep", None, 60.0)
    table.redis.delete(table.key("runs"))

    assert table.advance("volume", "sweep", 60.0, 120.0) is False
    assert table.last_run("volume", "sweep") is None
    assert table.advance("volume", "sweep", None, 120.0) is True


def test_a_last_run_outlives_the_hosts(table: Table, joined: Any) -> None:
    one = joined("a")
    table.advance("volume", "sweep", None, 60.0)

    one.leave()

    assert table.last_run("volume", "sweep") == 60.0


def test_of_many_hosts_that_try_at_once_one_has_the_period(table: Table, table_url: str) -> None:
    together, won = threading.Barrier(8), []

    def take(number: int) -> None:
        client: Any = connect(table_url)
        mine = Table(client, fleet=table._prefix.split("{")[1].split("}")[0], now=lambda: 0.0)
        together.wait(10)
        won.extend(period for period in range(20) if mine.advance("volume", f"sweep{period}", None, 60.0))
        client.close()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(won) == list(range(20))


def test_a_redis_that_does_not_answer_is_told_so() -> None:
    table = Table(redis.Redis(port=1, retry=Retry(NoBackoff(), 0)), url="redis://127.0.0.1:1/0")

    for ask in (
        lambda: table.last_run("volume", "sweep"),
        lambda: table.advance("volume", "sweep", None, 1.0),
        lambda: table.present("volume"),
        lambda: table.absence("volume/a"),
    ):
        with pytest.raises(TableUnavailable, match="CELERIAC_TABLE_URL"):
            ask()
