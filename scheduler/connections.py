"""Connections to the Redis that holds the capability table."""

from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from scheduler.errors import TableUnavailable

#: Seconds to wait for an answer: without it a frozen connection hangs for ever.
SOCKET_TIMEOUT = 3.0

#: The table of a single process, for eager mode and tests: a Redis in memory, Lua included.
MEMORY_URL = "memory://"


def connect(url: str) -> "redis.Redis":
    """Return a client of the Redis at *url*; connects on first use, safe to use in several threads.

    ``memory://NAME`` is a Redis inside this process, shared by all who use the same NAME (extra ``celeriac[testing]``).
    """
    if url.startswith(MEMORY_URL):
        return _in_memory(url)
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        socket_keepalive=True,
        health_check_interval=10,
        # one more try over a new connection: the pooled one may have died while nobody looked
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
    )


def shown(url: str) -> str:
    """Return *url* without its user, password and options, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that can't be read"
    secret, _, place = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{'***@' if secret else ''}{place}{parts.path}" if url else ""


_servers: dict[str, Any] = {}


def _in_memory(url: str) -> "redis.Redis":
    try:
        import fakeredis  # noqa: PLC0415  # only tests and eager mode have it
    except ImportError as error:
        raise TableUnavailable(f"a table at {url} needs the extra celeriac[testing]: {error}") from error
    server = _servers.setdefault(url, fakeredis.FakeServer(server_type="redis"))
    client: redis.Redis = fakeredis.FakeRedis(server=server, decode_responses=True)
    return client
