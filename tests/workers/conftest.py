"""Applications, clocks and threads under the test's control."""

import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from managers import db
from tests.workers.network import NetworkManager
from workers.adoption import celeriac_app
from workers.config import load_settings
from workers.testing import Cluster


class HandClock:
    """The fleet's clock in the test's hand; it wakes those who wait by it."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._sleepers: list[Any] = []

    def now(self) -> float:
        return self._now

    def set(self, now: float) -> None:
        self._now = now
        for sleeper in self._sleepers:
            with sleeper._changed:
                sleeper._changed.notify_all()

    def advance(self, seconds: float) -> None:
        self.set(self._now + seconds)

    def wakes(self, sleeper: Any) -> None:
        self._sleepers.append(sleeper)


class Mailbox:
    """What threads told the test, in order."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()

    def put(self, value: Any = None) -> None:
        self._queue.put(value)

    def get(self) -> Any:
        """Return the next word, waiting up to 10 s for it."""
        return self._queue.get(timeout=10)

    def rest(self) -> list[Any]:
        """Return what has come and was not read."""
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()


@pytest.fixture
def mailbox() -> Callable[[], Mailbox]:
    return Mailbox


@pytest.fixture
def stress() -> Callable[..., None]:
    """Call functions over and over from many threads at once; fail if one raises or never comes back."""

    def run(*functions: Callable[[], Any], rounds: int = 20) -> None:
        faults: list[BaseException] = []
        together = threading.Barrier(2 * len(functions))

        def hammer(function: Callable[[], Any]) -> None:
            try:
                together.wait(10)
                for _ in range(rounds):
                    function()
            except BaseException as error:  # noqa: BLE001  # it is raised below
                faults.append(error)

        threads = [threading.Thread(target=hammer, args=(function,)) for function in functions * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert faults == []

    return run


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., Celery]]:
    """Make an adopted application whose servers are all in this process; options are settings."""

    def make(*managers: Any, name: str = "app", app: Celery | None = None, **options: Any) -> Celery:
        known: dict[str, Any] = {
            "dir": tmp_path / name,
            "broker_url": "memory://",
            "table_url": f"memory://{uuid.uuid4()}",
            "result_backend": "cache+memory://",
            "managers": (),
            "host": "a",
        }
        settings = load_settings(**{**known, **options})
        app = app or Celery(name, broker=f"memory://{uuid.uuid4()}", set_as_current=False)
        return celeriac_app(app, managers=managers, settings=settings)

    yield make

    db.close()
    db.use(None)


@pytest.fixture
def network(cluster: Cluster) -> list[NetworkManager]:
    """Managers on the hosts "here" and "there" of the test's cluster."""
    return cluster.start(NetworkManager, hosts=["here", "there"])


@pytest.fixture
def here(network: list[NetworkManager]) -> NetworkManager:
    return network[0]


@pytest.fixture
def there(network: list[NetworkManager]) -> NetworkManager:
    return network[1]
