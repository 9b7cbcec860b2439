"""A Celery message on its way through the scheduler: taken down where it was to be published, published later."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, cast

from kombu import compression as compressions
from kombu.serialization import dumps
from kombu.utils import json

from managers.errors import shown
from scheduler.errors import InvalidPlacement

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


def to_json(message: Mapping[str, Any]) -> str:
    """Return *message*, an envelope, as it is recorded: by kombu's JSON, whose dates and ids its headers may hold."""
    return json.dumps(message)


def from_json(text: str) -> dict[str, Any]:
    """Return the envelope in *text*."""
    return cast("dict[str, Any]", json.loads(text))


def check_envelope(message: Any) -> dict[str, Any]:
    """Return *message*, which came from elsewhere, if it is an envelope.

    Raises:
        InvalidPlacement: it is none.
    """
    kinds = {
        "body": str, "is_base64": bool, "content_type": str, "content_encoding": str, "headers": dict,
        "properties": dict,
    }  # fmt: skip
    if not isinstance(message, dict) or not all(isinstance(message.get(name), kind) for name, kind in kinds.items()):
        raise InvalidPlacement(f"this is no message of a task: {shown(message)}")
    try:
        body_of(message)
    except ValueError as error:
        raise InvalidPlacement(f"this is no message of a task: its body is not encoded: {error}") from error
    return message


def body_of(message: Mapping[str, Any]) -> bytes:
    """Return the encoded body of *message*, an envelope."""
    body: str = message["body"]
    return base64.b64decode(body) if message["is_base64"] else body.encode("utf-8")
