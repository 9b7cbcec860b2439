"""A Celery message on its way through the scheduler: taken down where it was to be published, published later."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from kombu import compression as compressions
from kombu.serialization import dumps

#: Properties that mean something only to the broker that a message is handed to at once.
_OF_THE_MOMENT = ("expiration", "timeout", "confirm_timeout", "mandatory", "immediate")


class Recording:
    """What Celery takes for a producer: has *record* take task messages down, and leaves the others to *producer*."""

    def __init__(self, producer: Any, record: Callable[[dict[str, Any]], None]) -> None:
        self._producer = producer
        self._record = record

    @property
    def connection(self) -> Any:
        """The connection of the producer behind it."""
        return self._producer.connection

    @property
    def channel(self) -> Any:
        """The channel of the producer behind it."""
        return self._producer.channel

    @property
    def serializer(self) -> Any:
        """The serializer of the producer behind it."""
        return self._producer.serializer

    def publish(self, body: Any, **options: Any) -> Any:
        """Take a task's message down; an event of Celery's is published."""
        if "id" not in (options.get("headers") or {}):
            return self._producer.publish(body, **options)
        return self._record(envelope(body, **options))


def envelope(
    body: Any,
    *,
    headers: Mapping[str, Any],
    serializer: str | None = None,
    compression: str | None = None,
    exchange: Any = None,  # noqa: ARG001  # where it would have gone
    routing_key: Any = None,  # noqa: ARG001
    declare: Any = None,  # noqa: ARG001
    retry: Any = None,  # noqa: ARG001
    retry_policy: Any = None,  # noqa: ARG001
    **properties: Any,
) -> dict[str, Any]:
    """Return the message as plain data, encoded as kombu would send it."""
    content_type, content_encoding, data = dumps(body, serializer=serializer)
    headers = dict(headers)
    raw: bytes = data if isinstance(data, bytes) else data.encode("utf-8")
    if compression:
        raw, headers["compression"] = compressions.compress(raw, compression)
    try:
        text, is_base64 = raw.decode("utf-8"), False
    except UnicodeDecodeError:
        text, is_base64 = base64.b64encode(raw).decode("ascii"), True
    return {
        "body": text,
        "is_base64": is_base64,
        "content_type": content_type,
        "content_encoding": content_encoding,
        "headers": headers,
        "properties": {
            name: value for name, value in properties.items() if value is not None and name not in _OF_THE_MOMENT
        },
    }


def body_of(message: Mapping[str, Any]) -> bytes:
    """Return the encoded body of *message*, an envelope."""
    body: str = message["body"]
    return base64.b64decode(body) if message["is_base64"] else body.encode("utf-8")
