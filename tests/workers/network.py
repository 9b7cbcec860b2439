"""A manager with exposed methods, a driver that remembers what it was asked, and what tests look at."""

import logging
from datetime import datetime
from typing import Any

import pytest

from managers import Manager, current_context, expose
from workers.testing import Cluster


class Ports:
    """A driver that remembers the ports it attached."""

    def __init__(self) -> None:
        self.ports: set[int] = set()


class NetworkManager(Manager[Ports], service_name="network"):
    """Has a method for each thing that can happen to one."""

    def __init__(self, host: str | None = None, db_driver: str | None = None, *, driver: Any = Ports) -> None:
        super().__init__(host, db_driver, driver=driver)
        self.calls: list[Any] = []
        self.faults: list[Exception] = []

    @expose
    def attach(self, port: int) -> str:
        """Attach a port and say where."""
        self.driver.ports.add(port)
        return self.host

    @expose
    def note(self, *words: Any) -> list[Any]:
        """Write the words down and give them back, the host's name first."""
        self.calls.append(list(words))
        return [self.host, *words]

    @expose
    def fail(self, word: str = "missing") -> None:
        """Fail."""
        raise KeyError(word)

    @expose(autoretry_for=(OSError,), max_retries=3, default_retry_delay=30)
    def insist(self, word: str = "") -> str:
        """Fail as often as there are faults, then answer."""
        self.calls.append(word)
        if self.faults:
            raise self.faults.pop(0)
        return self.host

    @expose
    def whoami(self) -> dict[str, Any] | None:
        """Give back the context that is current."""
        context = current_context()
        self.calls.append(context)
        return context and context.to_dict()

    def secret(self) -> None:
        """Do what nobody else may ask for."""


def last_expires(cluster: Cluster) -> float:
    """Return in how many seconds the message sent last expires."""
    return datetime.fromisoformat(cluster.casts[-1].headers["expires"]).timestamp() - cluster.app.now().timestamp()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
