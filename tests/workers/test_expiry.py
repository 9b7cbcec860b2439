"""Whose expiry the broker sees: that of all messages but those of managers for one host."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery.signals import before_task_publish

from managers import RequestContext
from tests.workers.network import NetworkManager
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


@pytest.fixture
def properties() -> Iterator[list[dict[str, Any]]]:
    """Those of each message, as the broker is to see them."""
    seen: list[dict[str, Any]] = []

    def note(*, properties: dict[str, Any], **_: Any) -> None:
        seen.append(properties)

    before_task_publish.connect(note)
    yield seen
    before_task_publish.disconnect(note)


def test_a_message_for_one_host_never_expires_in_the_broker(
    here: NetworkManager, properties: list[dict[str, Any]]
) -> None:
    NetworkManager.attach.on("here").set(expires=30).cast(7)
    NetworkManager.attach.on("here").s(7).apply_async(expires=30)
    NetworkManager.attach.set(expires=30).cast(7)
    NetworkManager.attach.set(expires=30).fanout(7)

    assert ["expiration" in each for each in properties] == [False, False, True, True]
    assert not [name for each in properties for name in each if name.startswith("celeriac")]


def test_a_task_of_the_applications_own_expires_in_the_broker_wherever_it_goes(
    cluster: Cluster, here: NetworkManager, properties: list[dict[str, Any]]
) -> None:
    @cluster.app.task(name="network.mail.send")
    def send() -> None:
        """Be an ordinary task, named like a method."""

    with RequestContext().as_current():
        for queue in ("network.mail", "network.here"):
            send.apply_async(queue=queue, expires=30)

    assert ["expiration" in each for each in properties] == [True, True]
