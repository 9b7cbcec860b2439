"""A table that can't be reached says so within its time-out, by address and without the password."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

import scheduler.connections
from managers.reports import Report
from scheduler.connections import connect, shown
from scheduler.errors import TableUnavailable
from scheduler.hosts import Identity
from scheduler.table import Table

IDENTITY = Identity("i", "vm", 1, 2.5, "0.1.0", 10, 60)
REPORT = Report("a", 1, 1, 60.0, "0.1.0", {"volume": {}})

QUESTIONS: dict[str, Callable[[Table], Any]] = {
    "join": lambda table: table.join(IDENTITY, ["volume/a"]),
    "heartbeat": lambda table: table.heartbeat("i", 10, ["volume/a"]),
    "leave": lambda table: table.leave("i", ["volume/a"]),
    "store": lambda table: table.store([REPORT]),
    "count": lambda table: table.count("reports_refused"),
    "prune": lambda table: table.prune(),
    "drain": lambda table: table.drain("i", ["volume/a"], "why"),
    "disable": lambda table: table.disable("volume/a", "why"),
    "enable": lambda table: table.enable("volume/a"),
    "hosts": lambda table: table.hosts(),
    "snapshot": lambda table: table.snapshot(),
    "aggregate": lambda table: table.aggregate(),
    "readiness": lambda table: table.readiness(),
    "counters": lambda table: table.counters(),
    "now": lambda table: table.now(),
}


@pytest.fixture
def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """A port where somebody listens and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_every_question_to_a_redis_that_is_down_names_its_address_and_no_password(
    question: str, closed_port: int
) -> None:
    url = f"redis://user:se@cret@127.0.0.1:{closed_port}/3"
    table = Table(connect(f"redis://user:secret@127.0.0.1:{closed_port}/3"), url=url)

    with pytest.raises(TableUnavailable) as raised:
        QUESTIONS[question](table)

    message = str(raised.value)
    assert f"redis://***@127.0.0.1:{closed_port}/3" in message
    assert "CELERIAC_TABLE_URL" in message
    assert "cret" not in message
    assert "user" not in message


@pytest.mark.parametrize("question", ["hosts", "heartbeat"])
def test_a_redis_that_hangs_is_given_up_after_the_time_out(
    question: str, hanging_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler.connections, "SOCKET_TIMEOUT", 0.1)
    url = f"redis://:secret@127.0.0.1:{hanging_port}/0"
    table = Table(connect(url), url=url)

    with pytest.raises(TableUnavailable, match=rf"\*\*\*@127\.0\.0\.1:{hanging_port}.*[Tt]imeout") as raised:
        QUESTIONS[question](table)

    assert "secret" not in str(raised.value)


def test_every_connection_has_time_outs_and_is_checked_before_it_is_trusted() -> None:
    options = connect("redis://127.0.0.1:1/0").connection_pool.connection_kwargs

    assert options["socket_timeout"] == options["socket_connect_timeout"] == scheduler.connections.SOCKET_TIMEOUT
    assert options["socket_keepalive"] is True
    assert options["health_check_interval"] > 0


def test_a_connection_that_died_while_nobody_looked_is_replaced_without_an_error(valkey_url: str) -> None:
    client = connect(valkey_url)
    client.ping()
    (connection,) = client.connection_pool._available_connections
    connection._sock.shutdown(socket.SHUT_RDWR)

    assert Table(client).now() > 0
    client.close()


def test_a_connection_that_dies_under_a_question_is_replaced_and_the_question_asked_again(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(valkey_url)
    client.ping()
    (connection,) = client.connection_pool._available_connections
    faults = [RedisConnectionError("closed by server")]
    read = connection.read_response

    def unless_dead(*args: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return read(*args, **options)

    monkeypatch.setattr(connection, "read_response", unless_dead)

    assert Table(client).now() > 0
    client.close()


def test_a_table_is_there_again_as_soon_as_its_redis_is(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(connect("memory://comes-back"))
    with monkeypatch.context() as patched:

        def fail(*_: Any, **__: Any) -> None:
            raise RedisConnectionError("gone")

        patched.setattr(table.redis, "hgetall", fail)
        with pytest.raises(TableUnavailable, match="its address"):
            table.counters()

    assert table.counters() == {}


def test_memory_tables_are_shared_by_name() -> None:
    Table(connect("memory://shared")).count("reports_refused")

    assert Table(connect("memory://shared")).counters() == {"reports_refused": 1}
    assert Table(connect("memory://apart")).counters() == {}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@redis:6379/0", "redis://***@redis:6379/0"),
        ("redis://user:secret@redis/1", "redis://***@redis/1"),
        ("rediss://user@redis/1", "rediss://***@redis/1"),
        ("redis://:s@e@cret@redis:6379/0", "redis://***@redis:6379/0"),
        ("redis://redis:6379/0?password=secret&db=1", "redis://redis:6379/0"),
        ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock"),
        ("redis://[secret", "an address that can't be read"),
        ("memory://name", "memory://name"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_user_password_and_options(url: str, expected: str) -> None:
    assert shown(url) == expected
