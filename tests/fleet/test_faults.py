"""Servers that restart, connections that freeze, messages that lie: the fleet carries on by itself."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from celery.exceptions import TimeoutError  # noqa: A004
from kombu import Connection
from kombu.exceptions import OperationalError

from managers.reports import REPORT_TASK, Report
from tests.fleet.harness import PATIENCE, Harness, Server
from tests.fleet.proxy import Proxy

pytestmark = pytest.mark.fleet

#: Seconds within which everything carries on by itself.
RECOVERY = 30


@pytest.fixture
def through_proxy() -> Iterator[Callable[[str], tuple[str, Proxy]]]:
    proxies: list[Proxy] = []

    def through(url: str) -> tuple[str, Proxy]:
        parts = urlsplit(url)
        proxies.append(Proxy((parts.hostname or "", parts.port or 0)))
        login, _, _ = parts.netloc.rpartition("@")
        netloc = f"{login}@127.0.0.1" if login else "127.0.0.1"
        return urlunsplit(parts._replace(netloc=f"{netloc}:{proxies[-1].port}")), proxies[-1]

    yield through
    for proxy in proxies:
        proxy.close()


def assert_carries_on(fleet: Harness, since: float) -> None:
    """Wait until tasks run on every host, every host ticks and its reports reach the table again, all of it in time."""
    hosts = [process.name for process in fleet.processes[2:]]

    def tick() -> bool:
        return all(any(run["started"] > since + 1 for run in fleet.written(host)) for host in hosts)

    def whole() -> bool:
        rows = fleet.rows("journal")
        return set(rows) == set(hosts) and all(
            row.state == "up" and (row.reported_seconds_ago or 99) < 2 for row in rows.values()
        )

    fleet.wait(lambda: run_tasks(fleet, hosts), RECOVERY, "tasks run")
    fleet.wait(tick, RECOVERY, "ticks go on")
    fleet.wait(lambda: reached(whole), RECOVERY, "the table is whole")
    took = time.time() - since
    assert took <= RECOVERY, f"took {took:.1f} s"
    assert all(process.popen.poll() is None for process in fleet.processes)


def run_tasks(fleet: Harness, hosts: Iterable[str]) -> bool:
    """Try a task on each of *hosts*; what a dying connection had popped off Redis may be lost, so some may fail."""
    try:
        sent = {host: fleet.app.send_task("journal.hold", (0,), queue=f"host.{host}") for host in hosts}
        return all(result.get(timeout=3) == host for host, result in sent.items())
    except (TimeoutError, OperationalError):
        return False


def reached(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except ConnectionError:
        return False


def start(fleet: Harness, *pools: str) -> None:
    """Start a host of each pool, which has its pool's name, beside a scheduler and a beat."""
    fleet.scheduler()
    fleet.beat()
    for pool in pools:
        fleet.worker(pool, pool=pool)
    fleet.up(*pools, service="journal")


@pytest.mark.timeout(150)
def test_a_restarted_redis_under_load_is_survived_by_every_pool(any_fleet: Harness, server: Server) -> None:
    start(any_fleet, "prefork", "threads", "gevent")
    for _ in range(40):
        any_fleet.app.send_task("journal.hold", (0.2,), queue="host", ignore_result=True)

    server.stop()
    time.sleep(1)  # the outage itself
    server.start()

    assert_carries_on(any_fleet, time.time())


@pytest.mark.timeout(150)
def test_frozen_connections_to_redis_are_survived_by_every_pool(
    start_fleet: Callable[..., Harness], server: Server, through_proxy: Callable[[str], tuple[str, Proxy]]
) -> None:
    url, proxy = through_proxy(server.url)
    server.url = url
    fleet = start_fleet()
    start(fleet, "prefork", "threads", "gevent")

    assert proxy.freeze() > 6

    assert_carries_on(fleet, time.time())


@pytest.mark.timeout(150)
def test_frozen_connections_to_rabbitmq_are_survived(
    start_fleet: Callable[..., Harness],
    rabbitmq_url: str,
    through_proxy: Callable[[str], tuple[str, Proxy]],
) -> None:
    url, proxy = through_proxy(rabbitmq_url)
    fleet = start_fleet(url)
    start(fleet, "prefork", "threads", "gevent")

    assert proxy.freeze() > 3

    assert_carries_on(fleet, time.time())


def publish(fleet: Harness, body: Any, *, headers: dict[str, Any] | None = None, **properties: Any) -> None:
    """Put a message on the scheduler queue as anybody with the broker's password could."""
    with Connection(fleet.settings["broker_url"]) as connection:
        connection.Producer().publish(
            body,
            exchange="",
            routing_key="scheduler",
            headers={"task": REPORT_TASK, "id": "x", "origin": "liar@nowhere", **(headers or {})},
            **{"content_type": "application/json", "content_encoding": "utf-8", **properties},
        )


def task_body(*args: Any) -> str:
    return json.dumps([list(args), {}, {}])


@pytest.mark.timeout(120)
def test_bad_reports_leave_the_table_right_and_the_consumer_alive(any_fleet: Harness) -> None:
    scheduler = any_fleet.scheduler()
    any_fleet.worker("one")
    right = any_fleet.up("one")["one"]
    good = Report("one", right.identity.boot, 1000, 60.0, "0", {"host": {"cpus": 7}}).to_dict()
    publish(any_fleet, task_body(good))
    any_fleet.wait(lambda: any_fleet.rows()["one"].capabilities == {"cpus": 7}, PATIENCE, "a good report is taken")

    attacks = {
        "late": task_body({**good, "sequence": 3, "services": {"host": {"cpus": 1}}}),
        "duplicated": task_body(good),
        "of another life": task_body({**good, "boot": 12, "sequence": 10**6, "services": {"host": {"cpus": 2}}}),
        "foreign service": task_body({**good, "sequence": 2000, "services": {"volume": {"gb": 1}}}),
        "NaN": task_body({**good, "sequence": 2001, "services": {"host": {"cpus": float("nan")}}}),
        "nested": task_body({**good, "sequence": 2002, "services": {"host": {"cpus": {"a": 1}}}}),
        "no report": task_body("hello"),
        "two reports": task_body(good, good),
        "huge": task_body({**good, "sequence": 2003, "services": {"host": {"text": "x" * 2_000_000}}}),
        "over 64 kB": task_body({**good, "sequence": 2004, "services": {"host": {"text": "x" * 70_000}}}),
        "not JSON": '{"host": ',
        "deep": "[" * 100_000,
        "empty": "",
    }
    for body in attacks.values():
        publish(any_fleet, body)
    publish(any_fleet, b"\x80\x04K\x01.", content_type="application/x-python-serialize", content_encoding="binary")
    publish(any_fleet, "x", headers={"task": "no.such.task"})
    last = {**good, "sequence": 3000, "services": {"host": {"cpus": 9}}}
    publish(any_fleet, task_body(last))

    any_fleet.wait(lambda: any_fleet.rows()["one"].capabilities == {"cpus": 9}, PATIENCE, "the consumer lives")
    assert "volume" not in {row.service for row in any_fleet.table.hosts()}
    any_fleet.wait(
        lambda: any_fleet.table.counters().get("reports_refused", 0) >= 8, PATIENCE, "what was refused is counted"
    )
    counters = any_fleet.table.counters()
    assert counters["reports_old"] == 2
    assert counters["reports_unknown"] == 2
    text = scheduler.text
    assert "report from 'one' refused: host.cpus is nan: numbers are finite" in text
    assert "report from 'one' refused: capabilities of host take 70" in text
    assert "report from 'liar@nowhere' refused: it takes 2000" in text
    assert "report from 'liar@nowhere' refused: it has other arguments than one report" in text
    assert "it speaks for volume" in text
    assert "x" * 200 not in text
