"""A fleet of real processes for one test, on each broker."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fleet.harness import Harness, Server, empty_rabbitmq


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis of the test's own."""
    directory = tmp_path / "redis"
    directory.mkdir()
    server = Server(directory, free_port()).start()
    yield server
    server.stop()


@pytest.fixture
def start_fleet(tmp_path: Path, server: Server) -> Iterator[Callable[..., Harness]]:
    """Make fleets whose processes end with the test."""
    fleets: list[Harness] = []

    def start(broker: str | None = None, *, interval: float = 1.0, heartbeat: float = 0.5) -> Harness:
        directory = tmp_path / f"fleet-{len(fleets)}"
        directory.mkdir()
        fleets.append(
            Harness(directory, broker=broker or server.url, table=server.url, interval=interval, heartbeat=heartbeat)
        )
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.end()


@pytest.fixture
def fleet(request: pytest.FixtureRequest, start_fleet: Callable[..., Harness]) -> Harness:
    """A fleet on Redis, or on the broker that CELERIAC_TEST_BROKER names."""
    return on_broker(os.environ.get("CELERIAC_TEST_BROKER", "redis"), request, start_fleet)


@pytest.fixture(params=["redis", "rabbitmq"])
def any_fleet(request: pytest.FixtureRequest, start_fleet: Callable[..., Harness]) -> Harness:
    """A fleet on each broker; the table is in Redis either way."""
    return on_broker(request.param, request, start_fleet)


def on_broker(broker: str, request: pytest.FixtureRequest, start_fleet: Callable[..., Harness]) -> Harness:
    if broker == "redis":
        return start_fleet()
    url: str = request.getfixturevalue("rabbitmq_url")
    empty_rabbitmq(url)
    return start_fleet(url)
