"""The settings are read once; a wrong name or value is answered with what to write, and never with a password."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from workers.config import PREFIX, Settings, load_settings, read_fleet_file
from workers.errors import InvalidSettings


def refusal(**overrides: Any) -> str:
    with pytest.raises(InvalidSettings) as refused:
        load_settings(**overrides)
    return str(refused.value)


def fleet_file(directory: Path, **settings: Any) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "fleet.json").write_text(json.dumps({"pid": 1, "settings": settings}))


def test_without_a_word_all_is_local(state_dir: Path) -> None:
    settings = load_settings()

    assert settings.broker_url == settings.table_address == settings.results_address == "redis://127.0.0.1:6379/0"
    assert settings.database_address == f"sqlite:///{state_dir}/.celeriac/celeriac.db"
    assert settings.host == socket.gethostname()
    assert settings.managers == ("managers.host:HostManager",)
    assert (settings.services, settings.tasks, settings.labels) == ((), (), "")
    assert (settings.periodic_interval, settings.heartbeat_interval, settings.shutdown_timeout) == (60, 10, 60)
    assert settings.host_dir == state_dir / ".celeriac" / "hosts" / settings.host


def test_the_table_is_in_the_broker_if_that_is_a_redis_and_results_in_the_table() -> None:
    settings = load_settings(broker_url="rediss://broker:6380/1")
    assert settings.table_address == settings.results_address == "rediss://broker:6380/1"

    settings = load_settings(broker_url="amqp://broker//")
    assert settings.table_address == settings.results_address == "redis://127.0.0.1:6379/0"

    settings = load_settings(broker_url="redis://broker/0", table_url="redis://table/0")
    assert (settings.table_address, settings.results_address) == ("redis://table/0", "redis://table/0")

    settings = load_settings(table_url="redis://table/0", result_backend="rpc://")
    assert (settings.table_address, settings.results_address) == ("redis://table/0", "rpc://")


@pytest.mark.parametrize(("url", "expected"), [("redis://a", True), ("rediss://a", True), ("amqp://a", False)])
def test_a_redis_is_told_from_other_brokers(url: str, expected: bool) -> None:  # noqa: FBT001
    assert load_settings(broker_url=url).broker_is_redis is expected


def test_a_named_database_is_taken_as_it_is() -> None:
    assert load_settings(database_url="postgresql://db/c").database_address == "postgresql://db/c"


def test_every_setting_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "DIR": "/srv/fleet",
        "BROKER_URL": "amqp://b//",
        "TABLE_URL": "redis://t/1",
        "RESULT_BACKEND": "redis://r/2",
        "DATABASE_URL": "postgresql://d/c",
        "DB_DRIVER": "my.db",
        "FLEET": "blue",
        "HOST": "rack1-07",
        "MANAGERS": "a.b:C, d.e:F,",
        "SERVICES": "volume",
        "TASKS": "my.tasks,",
        "LABELS": "zone=a",
        "CALL_TIMEOUT": "3",
        "CAST_EXPIRES": "300",
        "PERIODIC_INTERVAL": "5",
        "HEARTBEAT_INTERVAL": "0.5",
        "SHUTDOWN_TIMEOUT": "7.5",
        "START_DEADLINE": "20",
        "MAX_ATTEMPTS": "5",
        "PLACEMENT_TIMEOUT": "600",
        "FILTERS": "my.filters:licence",
        "WEIGHERS": "free=2,my.weighers:cheap=0.5",
        "HISTORY_DAYS": "7",
    }
    assert set(said) == {name.upper() for name in Settings.model_fields}
    for name, value in said.items():
        monkeypatch.setenv(PREFIX + name, value)

    settings = load_settings()

    assert settings.managers == ("a.b:C", "d.e:F")
    assert (settings.services, settings.tasks) == (("volume",), ("my.tasks",))
    assert settings.parsed_labels == {"zone": "a"}
    assert (settings.periodic_interval, settings.heartbeat_interval, settings.shutdown_timeout) == (5, 0.5, 7.5)
    assert (settings.call_timeout, settings.cast_expires) == (3, 300)
    assert (settings.host, settings.fleet, settings.db_driver) == ("rack1-07", "blue", "my.db")
    assert str(settings.host_dir) == "/srv/fleet/hosts/rack1-07"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CELERIAC_BROKER_ULR", "did you mean CELERIAC_BROKER_URL?"),
        ("CELERIAC_HEARTBEAT", "did you mean CELERIAC_HEARTBEAT_INTERVAL?"),
        ("CELERIAC_LABEL", "did you mean CELERIAC_LABELS?"),
        ("CELERIAC_XYZZYPLUGH", "known are CELERIAC_BROKER_URL, CELERIAC_CALL_TIMEOUT"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "redis://:secret@host/0")

    message = refusal()

    assert f"there is no setting {name}; {hint}" in message
    assert "secret" not in message


def test_the_setting_of_any_services_driver_is_no_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERIAC_VOLUME_DRIVER", "CELERIAC_MY_SERVICE_2_DRIVER"):
        monkeypatch.setenv(name, "a.b:C")

    assert load_settings()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PERIODIC_INTERVAL", "0", "greater than or equal to 0.1"),
        ("PERIODIC_INTERVAL", "86401", "less than or equal to 86400"),
        ("PERIODIC_INTERVAL", "often", "valid number"),
        ("PERIODIC_INTERVAL", "nan", "86400"),
        ("HEARTBEAT_INTERVAL", "inf", "3600"),
        ("HEARTBEAT_INTERVAL", "", "valid number"),
        ("HOST", "rack 1", "host 'rack 1' is no name"),
        ("HOST", "", "host '' is no name"),
        ("HOST", "fanout.a", "fanout"),
        ("SERVICES", "volume,my service", "service 'my service' is no name"),
        ("SERVICES", "undefined", "has no service name"),
        ("LABELS", "zone", "'zone'"),
        ("FLEET", "a fleet", "pattern"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_variable(
    name: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + name, value)

    message = refusal()

    assert f"CELERIAC_{name}=" in message
    assert why in message


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_HOST", "rack 1")
    monkeypatch.setenv("CELERIAC_PERIODIC_INTERVAL", "often")

    message = refusal()

    assert "CELERIAC_HOST='rack 1'" in message
    assert "CELERIAC_PERIODIC_INTERVAL='often'" in message


def test_the_fleet_that_runs_in_the_state_directory_is_found(state_dir: Path) -> None:
    fleet_file(state_dir / ".celeriac", broker_url="redis://127.0.0.1:7001/0", fleet="found", managers=["a.b:C"])

    settings = load_settings()

    assert (settings.broker_url, settings.fleet) == ("redis://127.0.0.1:7001/0", "found")
    assert settings.managers == ("a.b:C",)


def test_the_state_directory_is_the_one_the_environment_or_the_caller_names(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_file(state_dir / ".celeriac", fleet="here")
    fleet_file(state_dir / "there", fleet="there")
    fleet_file(state_dir / "elsewhere", fleet="elsewhere")

    monkeypatch.setenv("CELERIAC_DIR", str(state_dir / "there"))

    assert load_settings().fleet == "there"
    assert load_settings(dir=state_dir / "elsewhere").fleet == "elsewhere"
    assert load_settings(dir=str(state_dir / "nothing")).fleet == "fleet"


def test_the_environment_goes_before_the_fleets_file_and_arguments_before_both(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_file(state_dir / ".celeriac", fleet="found", broker_url="redis://found/0", table_url="redis://found/1")
    monkeypatch.setenv("CELERIAC_BROKER_URL", "redis://environment/0")
    monkeypatch.setenv("CELERIAC_TABLE_URL", "redis://environment/1")

    settings = load_settings(table_url="redis://argument/1")

    assert (settings.fleet, settings.broker_url) == ("found", "redis://environment/0")
    assert settings.table_url == "redis://argument/1"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"settings": []}', '{"settings": null}', "{}", "\x00"])
def test_a_fleets_file_that_is_none_is_passed_over(text: str, state_dir: Path) -> None:
    (state_dir / ".celeriac").mkdir()
    (state_dir / ".celeriac" / "fleet.json").write_text(text)

    assert load_settings().fleet == "fleet"
    assert isinstance(read_fleet_file(state_dir / ".celeriac"), dict)


def test_no_fleet_says_nothing(tmp_path: Path) -> None:
    assert read_fleet_file(tmp_path / "nothing") == {}


def test_a_wrong_name_in_the_fleets_file_is_told_without_its_password(state_dir: Path) -> None:
    fleet_file(state_dir / ".celeriac", brokr_url="redis://:sec@ret@host/0")

    message = refusal()

    assert "CELERIAC_BROKR_URL='redis://***@host/0'" in message
    assert "ret@" not in message
    assert "sec" not in message


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().host = "b"  # type: ignore[misc]
