"""What the processes of a fleet share, where they are one: a registry that knows each host's, and a Redis."""

from collections.abc import Collection, Mapping
from typing import Any

from celery import Celery

from workers.config import Settings
from workers.registry import Registry
from workers.testing.hosts import InlineHost


class ClusterRegistry(Registry):
    """Knows what runs on each of *hosts*, where a worker's knows its own."""

    def __init__(self, app: Celery, settings: Settings, hosts: Mapping[str, InlineHost]) -> None:
        super().__init__(app, settings, ())
        self._hosts = hosts

    def running(self) -> Collection[str] | None:
        """Return the services of the host whose turn it is; None where that is the test."""
        return self._hosts[self.host].managers if self.host in self._hosts else None


def redis_in_memory() -> Any:
    """Return a client of a Redis of this process's own."""
    try:
        import fakeredis  # noqa: PLC0415  # only who tests has it
        import lupa  # type: ignore[import-untyped]  # noqa: F401, PLC0415  # without it fakeredis knows no scripts
    except ImportError as error:
        raise ModuleNotFoundError(
            f"workers.testing needs a Redis in memory, and {error}: install the extra celeriac[testing]"
        ) from error
    return fakeredis.FakeRedis(server=fakeredis.FakeServer(server_type="redis"), decode_responses=True)
