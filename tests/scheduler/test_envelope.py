"""Envelopes: what a host receives in the end is what Celery would have sent it at once."""

import base64
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection, Producer, Queue
from kombu.compression import register

from scheduler.envelope import Recording, body_of, check_envelope, envelope, from_json, to_json
from scheduler.errors import InvalidPlacement

SERIALIZERS = ("json", "pickle", "yaml")
#: What kombu's JSON carries and the standard library's doesn't.
AT, ID = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), UUID(int=7)
COMPRESSIONS = (None, "gzip", "bzip2", "zlib", "application/x-gzip")
BODIES = [
    (("a.blend", 7, 1.5, None, True), {"word": "naïve 日本 \x00"}, {"callbacks": None}),
    ((), {}, {}),
    (["x" * 100_000], {}, {}),
]


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://") as connection:
        yield connection


def received(connection: Connection, body: Any, **options: Any) -> Any:
    """Return the message that *body* becomes for the worker that takes it from a queue."""
    queue = Queue("envelopes")(connection.default_channel)
    queue.declare()
    producer = Producer(connection, auto_declare=False)
    producer.publish(body, exchange="", routing_key="envelopes", **options)
    message = queue.get(no_ack=True)
    assert message is not None
    return message


def sent_on(connection: Connection, taken_down: dict[str, Any]) -> Any:
    """Return what becomes of an envelope that was kept as JSON in between."""
    kept = from_json(to_json(taken_down))
    return received(
        connection,
        body_of(kept),
        content_type=kept["content_type"],
        content_encoding=kept["content_encoding"],
        headers=kept["headers"],
        **kept["properties"],
    )


def facts(message: Any) -> Any:
    of_the_way = {"delivery_tag", "delivery_info"}
    properties = {name: value for name, value in message.properties.items() if name not in of_the_way}
    return (
        bytes(message.body, "utf-8") if isinstance(message.body, str) else message.body,
        message.content_type, message.content_encoding, message.headers, properties,
    )  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=["words", "nothing", "much"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_every_serializer_and_compression_arrives_as_if_sent_at_once(
    connection: Connection, serializer: str, compression: str | None, body: Any
) -> None:
    options = {
        "headers": {"id": "t1", "task": "tasks.render", "mark": ["é", 1], "at": AT, "stamps": {"of": ID}},
        "serializer": serializer,
        "correlation_id": "t1",
        "reply_to": "me",
        "priority": 3,
    }
    if serializer == "yaml":
        body = json.loads(json.dumps(body))

    at_once = received(connection, body, compression=compression, **{**options, "headers": dict(options["headers"])})
    later = sent_on(connection, envelope(body, compression=compression, **options))

    assert facts(later) == facts(at_once)
    accept = {"application/json", "application/x-python-serialize", "application/x-yaml"}
    at_once.accept = later.accept = accept
    assert later.decode() == at_once.decode()


def test_the_caller_keeps_its_headers_as_they_were() -> None:
    headers = {"id": "t1"}

    taken_down = envelope(((), {}, {}), headers=headers, serializer="json", compression="gzip")

    assert headers == {"id": "t1"}
    assert taken_down["headers"] == {"id": "t1", "compression": "application/x-gzip"}


@given(st.binary(max_size=200))
def test_a_body_of_any_bytes_survives(body: bytes) -> None:
    class Odd:
        def __init__(self) -> None:
            register(lambda _: body, lambda data: data, "application/x-odd", aliases=["odd"])

    Odd()
    taken_down = json.loads(json.dumps(envelope({}, headers={}, serializer="json", compression="odd")))

    assert body_of(taken_down) == body
    assert taken_down["is_base64"] is (not is_text(body))


def is_text(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def test_what_only_counts_at_the_moment_of_sending_is_left_out() -> None:
    taken_down = envelope(
        {}, headers={"id": "t1"}, serializer="json", exchange="e", routing_key="r", declare=[object()], retry=True,
        retry_policy={"max_retries": 1}, expiration=3, timeout=1, confirm_timeout=2, mandatory=True, immediate=False,
        delivery_mode=2, priority=None, correlation_id="t1",
    )  # fmt: skip

    assert taken_down["properties"] == {"delivery_mode": 2, "correlation_id": "t1"}


class Behind:
    """A producer that writes down what it is given to publish."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.connection, self.channel, self.serializer = object(), object(), "json"

    def publish(self, body: Any, **options: Any) -> str:
        self.published.append((body, options))
        return "published"


def test_a_task_is_taken_down_and_anything_else_goes_on() -> None:
    behind, taken_down = Behind(), []
    recording = Recording(behind, taken_down.append)

    assert recording.publish(((), {}, {}), headers={"id": "t1"}, serializer="json") is None
    assert recording.publish({"type": "task-sent"}, headers={"hostname": "me"}, routing_key="task.sent") == "published"
    assert recording.publish({"type": "task-sent"}, headers=None) == "published"

    assert [message["headers"]["id"] for message in taken_down] == ["t1"]
    assert len(behind.published) == 2


def test_it_passes_for_the_producer_behind_it() -> None:
    behind = Behind()
    recording = Recording(behind, lambda _: None)

    assert recording.connection is behind.connection
    assert recording.channel is behind.channel
    assert recording.serializer == "json"


GOOD = {
    "body": "[]", "is_base64": False, "content_type": "application/json", "content_encoding": "utf-8", "headers": {},
    "properties": {},
}  # fmt: skip


def test_an_envelope_from_elsewhere_is_taken_as_it_is() -> None:
    binary = {**GOOD, "is_base64": True, "body": base64.b64encode(zlib.compress(b"x")).decode()}

    assert check_envelope(GOOD) == GOOD
    assert check_envelope(binary) == binary


@pytest.mark.parametrize(
    "message",
    [
        None, 7, "text", [], {}, [GOOD], *({**GOOD, name: None} for name in GOOD), {**GOOD, "body": b"[]"},
        {**GOOD, "is_base64": True, "body": "abc"}, {**GOOD, "body": "\ud800"},
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(message: Any) -> None:
    with pytest.raises(InvalidPlacement, match="this is no message of a task"):
        check_envelope(message)


def test_celerys_own_message_is_an_envelope() -> None:
    app, taken_down = Celery("plain", broker="memory://", set_as_current=False), []

    @app.task(shared=False)
    def render(scene: str) -> None: ...

    with app.producer_or_acquire() as producer:
        render.apply_async(("a.blend",), producer=Recording(producer, taken_down.append), ignore_result=True)

    (message,) = taken_down
    assert check_envelope(json.loads(json.dumps(message))) == message
    assert json.loads(body_of(message))[0] == ["a.blend"]
    app.close()
