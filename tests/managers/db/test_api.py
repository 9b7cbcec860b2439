"""The registry's functions, on both databases."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from managers.db import ServiceNotFound, ServiceRecord, api
from managers.errors import DatabaseError

AtOnce = Callable[..., list[str]]

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
LATER = START + timedelta(minutes=5)
LATEST = START + timedelta(hours=1)

pytestmark = pytest.mark.usefixtures("database")


def register(service: str = "volume", host: str = "here", version: str = "1.0", now: datetime = START) -> ServiceRecord:
    return api.service_register(service, host, version=version, now=now)


def test_a_new_service_is_started_seen_and_enabled() -> None:
    record = register()

    assert (record.service, record.host, record.version) == ("volume", "here", "1.0")
    assert record.created_at == record.started_at == record.last_seen_at == START
    assert (record.stopped_at, record.updated_at) == (None, None)
    assert (record.disabled, record.disabled_reason, record.forced_down) == (False, None, False)


def test_registering_again_revives_the_same_row() -> None:
    first = register()
    api.service_stopped("volume", "here", now=LATER)

    revived = register(version="1.1", now=LATEST)

    assert revived.id == first.id
    assert (revived.version, revived.created_at) == ("1.1", START)
    assert (revived.started_at, revived.last_seen_at, revived.stopped_at) == (LATEST, LATEST, None)


def test_what_the_operator_set_survives_a_restart() -> None:
    register()
    edited = api.service_update("volume", "here", disabled=True, disabled_reason="disk", forced_down=True, now=LATER)

    revived = register(now=LATEST)

    assert (revived.disabled, revived.disabled_reason, revived.forced_down) == (True, "disk", True)
    assert revived.updated_at == edited.updated_at == LATER


def test_processes_that_register_at_once_share_one_row(at_once: AtOnce, database: str) -> None:
    code = """print(api.service_register("volume", "here", version="1").id)"""

    ids = at_once(code, processes=8, url=database)

    (record,) = api.service_get_all()
    assert {int(line) for line in ids} == {record.id}


def test_being_seen_changes_when_and_nothing_else() -> None:
    before = register()

    assert api.service_seen("volume", "here", now=LATER) is True

    after = api.service_get("volume", "here")
    assert after.last_seen_at == LATER
    assert {name for name in before.__slots__ if getattr(before, name) != getattr(after, name)} == {"last_seen_at"}


def test_a_deleted_service_is_not_seen_and_not_brought_back() -> None:
    register()
    api.service_destroy("volume", "here")

    assert api.service_seen("volume", "here", now=LATER) is False

    assert api.service_get_all() == []


def test_an_edit_never_looks_like_being_seen() -> None:
    register()

    edited = api.service_update("volume", "here", disabled=True, now=LATEST)

    assert (edited.started_at, edited.last_seen_at, edited.updated_at) == (START, START, LATEST)


def test_a_graceful_stop_is_noted() -> None:
    register()

    stopped = api.service_stopped("volume", "here", now=LATER)

    assert (stopped.stopped_at, stopped.last_seen_at) == (LATER, START)


def test_an_edit_leaves_alone_what_it_does_not_name() -> None:
    register()
    api.service_update("volume", "here", disabled=True, disabled_reason="disk")

    edited = api.service_update("volume", "here", forced_down=True)

    assert (edited.disabled, edited.disabled_reason, edited.forced_down) == (True, "disk", True)


def test_a_reason_can_be_taken_back() -> None:
    register()
    api.service_update("volume", "here", disabled=True, disabled_reason="disk")

    edited = api.service_update("volume", "here", disabled=False, disabled_reason=None)

    assert (edited.disabled, edited.disabled_reason) == (False, None)


def test_an_edit_of_nothing_changes_nothing() -> None:
    before = register()

    assert api.service_update("volume", "here") == before


def test_a_change_touches_only_its_own_pair() -> None:
    register("volume", "here")
    others = [register("volume", "there"), register("network", "here")]

    api.service_seen("volume", "here", now=LATER)
    api.service_update("volume", "here", disabled=True)
    api.service_stopped("volume", "here")
    api.service_destroy("volume", "here")

    assert api.service_get_all() == sorted(others, key=lambda record: record.service)


def test_services_are_sorted_alike_on_every_database() -> None:
    pairs = [("volume", "b"), ("volume", "a-2"), ("volume", "A"), ("network", "z"), ("volume", "a10"), ("Zone", "ä")]
    for service, host in pairs:
        register(service, host)

    assert [(record.service, record.host) for record in api.service_get_all()] == sorted(pairs)


def test_services_are_narrowed_by_what_is_given() -> None:
    for service, host in [("volume", "a"), ("volume", "b"), ("network", "a")]:
        register(service, host)
    api.service_update("volume", "b", disabled=True)

    def pairs(**asked: Any) -> list[tuple[str, str]]:
        return [(record.service, record.host) for record in api.service_get_all(**asked)]

    assert pairs(service="volume") == [("volume", "a"), ("volume", "b")]
    assert pairs(host="a") == [("network", "a"), ("volume", "a")]
    assert pairs(disabled=True) == [("volume", "b")]
    assert pairs(service="volume", disabled=False) == [("volume", "a")]
    assert pairs(service="nothing") == []


@pytest.mark.parametrize(
    "ask",
    [
        api.service_get,
        api.service_destroy,
        api.service_stopped,
        api.service_update,
        lambda service, host: api.service_update(service, host, disabled=True),
    ],
)
def test_an_unknown_service_is_an_error_that_names_it(ask: Callable[..., object]) -> None:
    with pytest.raises(ServiceNotFound, match=r"no service 'volume' on host 'nowhere' .* check both names") as unknown:
        ask("volume", "nowhere")

    assert isinstance(unknown.value, DatabaseError)
    assert isinstance(unknown.value, LookupError)


def test_the_current_time_is_taken_where_none_is_given() -> None:
    earliest = datetime.now(UTC)

    record = api.service_register("volume", "here", version="1")

    assert earliest <= record.started_at <= datetime.now(UTC)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        register(now=datetime(2026, 1, 1))  # noqa: DTZ001 naive on purpose


def test_a_record_is_a_fact() -> None:
    record = register()

    with pytest.raises(FrozenInstanceError):
        record.disabled = True
