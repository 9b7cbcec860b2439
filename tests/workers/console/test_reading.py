"""Addresses as people may see them."""

import pytest

from workers.console.reading import begin, shown
from workers.errors import InvalidSettings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hush@h:6379/0", "redis://***@h:6379/0"),
        ("redis://me:hu%2Fsh@h/0?password=hush", "redis://***@h/0"),
        ("redis://h/0?password=hu@sh", "redis://h/0"),
        ("redis://:hu@sh@h/0", "redis://***@h/0"),
        ("amqp://u:hush@h:5672//", "amqp://***@h:5672//"),
        ("amqp://u:hush@h1//;amqp://u:hush@h2//", "amqp://***@h1//; amqp://***@h2//"),
        ("unix:///run/redis.sock?password=hush", "unix:///run/redis.sock"),
        ("memory://", "memory://"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, address: str) -> None:
    assert shown("TABLE_URL", url) == address


@pytest.mark.parametrize(
    "url",
    ["hush", "redis://:hu/sh@h/0", "redis://:hu?sh@h:1/0", "redis://:hu#sh@h/0", "redis://[hush", "redis://h:hush/0"],
)
def test_an_address_that_cannot_be_taken_apart_is_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        shown("TABLE_URL", url)

    assert "CELERIAC_TABLE_URL" in str(raised.value)
    assert "hu" not in str(raised.value)


def test_an_answer_of_a_thread_is_its_error_too() -> None:
    def breaks() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError):
        begin(breaks).result(timeout=5)
