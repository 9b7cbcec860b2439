"""A fleet of real processes for one test, on each broker."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.fleet.harness import BROKER, Harness, Server, empty_rabbitmq, forget_queues


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def a_server(directory: Path) -> Iterator[Server]:
    directory.mkdir()
    server = Server(directory, free_port()).start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def fleets_in(directory: Path, server: Server) -> Iterator[Callable[..., Harness]]:
    """Make fleets whose processes end with the block."""
    fleets: list[Harness] = []

    def start(broker: str | None = None, *, interval: float = 1.0, heartbeat: float = 0.5) -> Harness:
        folder = directory / f"fleet-{len(fleets)}"
        folder.mkdir()
        fleets.append(
            Harness(folder, broker=broker or server.url, table=server.url, interval=interval, heartbeat=heartbeat)
        )
        return fleets[-1]

    try:
        yield start
    finally:
        for fleet in fleets:
            fleet.end()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis of the test's own."""
    with a_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def start_fleet(tmp_path: Path, server: Server) -> Iterator[Callable[..., Harness]]:
    """Make fleets whose processes end with the test."""
    with fleets_in(tmp_path, server) as start:
        yield start


@pytest.fixture
def fleet(request: pytest.FixtureRequest, start_fleet: Callable[..., Harness]) -> Harness:
    """A fleet on Redis, or on the broker that CELERIAC_TEST_BROKER names."""
    return on_broker(BROKER, request, start_fleet)


@pytest.fixture(params=["redis", "rabbitmq"])
def any_fleet(request: pytest.FixtureRequest, start_fleet: Callable[..., Harness]) -> Harness:
    """A fleet on each broker; the table is in Redis either way."""
    return on_broker(request.param, request, start_fleet)


@pytest.fixture(scope="module")
def standing_fleets(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Harness]]:
    """Give the fleet on a broker that the module's tests share: a scheduler and a beat, to which they add hosts.

    Nobody else in the module may use RabbitMQ then.
    """
    with ExitStack() as stack:

        @cache
        def start(broker: str, *, beats: int = 1, interval: float = 1.0) -> Harness:
            directory = tmp_path_factory.mktemp(f"standing-{broker}")
            server = stack.enter_context(a_server(directory / "redis"))
            fleet = on_broker(broker, request, stack.enter_context(fleets_in(directory, server)), interval=interval)
            fleet.scheduler()
            for number in range(beats):
                fleet.beat(f"beat-{number + 1}")
            return fleet

        yield start


@pytest.fixture
def standing(standing_fleets: Callable[..., Harness]) -> Iterator[Harness]:
    """The module's standing fleet, on Redis or the broker that CELERIAC_TEST_BROKER names; cleared after the test."""
    with cleared(standing_fleets(BROKER)) as fleet:
        yield fleet


@pytest.fixture(params=["redis", "rabbitmq"])
def any_standing(request: pytest.FixtureRequest, standing_fleets: Callable[..., Harness]) -> Iterator[Harness]:
    """The module's standing fleet on each broker; cleared after the test."""
    with cleared(standing_fleets(request.param)) as fleet:
        yield fleet


@contextmanager
def cleared(fleet: Harness) -> Iterator[Harness]:
    """End the processes that the block added to *fleet*."""
    count = len(fleet.processes)
    yield fleet
    fleet.end_since(count)


def on_broker(
    broker: str, request: pytest.FixtureRequest, start_fleet: Callable[..., Harness], **options: float
) -> Harness:
    if broker == "redis":
        return start_fleet(**options)
    url: str = request.getfixturevalue("rabbitmq_url")
    empty_rabbitmq(url)
    return start_fleet(url, **options)


@contextmanager
def caller_fleet(
    request: pytest.FixtureRequest, broker: str, *hosts: str, interval: float = 1.0, **settings: str
) -> Iterator[Harness]:
    """A fleet of caller managers for several tests, with a Redis of its own; *hosts* are those that it will start."""
    settings = {
        "managers": "managers.host:HostManager,tests.fleet.caller:CallerManager",
        "tasks": "tests.fleet.caller",
        **settings,
    }
    with own_fleet(request, broker, ("host", "caller", "scheduler"), hosts, interval=interval, **settings) as fleet:
        yield fleet


@contextmanager
def own_fleet(
    request: pytest.FixtureRequest,
    broker: str,
    services: Iterable[str],
    hosts: Iterable[str],
    *,
    interval: float = 1.0,
    **settings: str,
) -> Iterator[Harness]:
    """A fleet for several tests, with a Redis of its own, its ``server``; *hosts* are those that it will start."""
    directory: Path = request.getfixturevalue("tmp_path_factory").mktemp("fleet")
    rabbitmq: str = "" if broker == "redis" else request.getfixturevalue("rabbitmq_url")  # before there is what to end
    server = Server(directory, free_port()).start()
    url = rabbitmq or server.url
    if rabbitmq:
        forget_queues(url, services, (*hosts, "scheduler-1"))
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("CELERIAC_") and "_TEST_" not in name:
                patch.delenv(name)
        fleet = Harness(directory, broker=url, table=server.url, interval=interval, heartbeat=1.0, **settings)
        fleet.server = server
        try:
            yield fleet
        finally:
            fleet.end()
            if broker != "redis":
                forget_queues(url, services, (*hosts, "scheduler-1"))
            server.stop()
