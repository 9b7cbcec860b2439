"""A manager's driver is found by instance, class, alias, dotted path or setting; a wrong path says what to write."""

from collections.abc import Callable

import pytest

from managers.drivers import driver_setting, load_class, load_db_driver, load_driver
from managers.errors import DriverNotFound


class Disk:
    """A driver."""


class Broken:
    """A driver whose own constructor fails."""

    def __init__(self) -> None:
        raise ValueError("the disk is full")


@pytest.fixture
def path(module: Callable[..., str]) -> str:
    """The dotted path of a module that holds drivers."""
    return module(Disk=Disk, Broken=Broken, make=Disk, figure=7)


def refusal(choice: str, known: dict[str, str] | None = None) -> str:
    with pytest.raises(DriverNotFound) as refused:
        load_driver("volume", choice, known or {})
    return str(refused.value)


def test_an_instance_is_the_driver_itself() -> None:
    disk = Disk()

    assert load_driver("volume", disk, {}) is disk


def test_a_class_is_made_with_no_arguments() -> None:
    assert isinstance(load_driver("volume", Disk, {}), Disk)


def test_a_dotted_path_is_loaded_and_made(path: str) -> None:
    assert isinstance(load_driver("volume", f"{path}:Disk", {}), Disk)
    assert isinstance(load_driver("volume", f"{path}:make", {}), Disk)


def test_an_alias_stands_for_its_path(path: str) -> None:
    assert isinstance(load_driver("volume", "disk", {"disk": f"{path}:Disk"}), Disk)


def test_the_setting_names_a_path_or_an_alias_where_nothing_was_chosen(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"default": "nowhere:Nothing", "disk": f"{path}:Disk"}

    for value in ("disk", f"{path}:Disk"):
        monkeypatch.setenv("CELERIAC_VOLUME_DRIVER", value)
        assert isinstance(load_driver("volume", None, known), Disk)


def test_an_argument_goes_before_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_VOLUME_DRIVER", "nowhere:Nothing")

    assert isinstance(load_driver("volume", Disk, {}), Disk)


def test_the_default_is_taken_where_neither_argument_nor_setting_says_otherwise(path: str) -> None:
    assert isinstance(load_driver("volume", None, {"default": f"{path}:Disk"}), Disk)


def test_a_service_that_knows_no_default_has_no_driver() -> None:
    assert load_driver("volume", None, {"disk": "nowhere:Disk"}) is None


def test_the_setting_is_named_after_the_service() -> None:
    assert driver_setting("volume") == "CELERIAC_VOLUME_DRIVER"
    assert driver_setting("object-store") == "CELERIAC_OBJECT_STORE_DRIVER"


@pytest.mark.parametrize(
    "choice",
    [
        "nowhere.at.all:Disk",
        "managers.drivers:NoSuchClass",
        "managers.drivers",
        "managers.drivers.Disk",
        ":Disk",
        "managers.drivers:",
        ".drivers:Disk",
        "disc",
        "no module:Disk",
    ],
)
def test_a_wrong_path_names_itself_the_setting_and_the_known_drivers(choice: str) -> None:
    message = refusal(choice, {"default": "a:B", "iscsi": "c:D"})

    assert repr(choice) in message
    assert "service 'volume'" in message
    assert "CELERIAC_VOLUME_DRIVER" in message
    assert "default, iscsi" in message


def test_a_misspelt_alias_is_answered_with_the_nearest() -> None:
    assert "did you mean 'iscsi'?" in refusal("iscis", {"default": "a:B", "iscsi": "c:D"})
    assert "did you mean" not in refusal("zfs", {"default": "a:B", "iscsi": "c:D"})


def test_a_path_to_something_that_makes_no_driver_is_refused(path: str) -> None:
    assert "it is 7" in refusal(f"{path}:figure")


def test_an_error_in_a_drivers_own_constructor_is_its_own(path: str) -> None:
    with pytest.raises(ValueError, match="the disk is full") as raised:
        load_driver("volume", f"{path}:Broken", {})

    assert not isinstance(raised.value, DriverNotFound)


def test_a_db_driver_is_a_module_of_functions() -> None:
    assert callable(load_db_driver("managers.db.api").service_register)


@pytest.mark.parametrize("wrong", ["managers.db.nowhere", "nowhere", ".api", "managers.db.api:service_get", ""])
def test_a_wrong_db_driver_names_itself_and_the_setting(wrong: str) -> None:
    with pytest.raises(DriverNotFound, match=r"CELERIAC_DB_DRIVER.*managers\.db\.api") as refused:
        load_db_driver(wrong)

    assert repr(wrong) in str(refused.value)


def test_a_class_is_loaded_by_its_path(path: str) -> None:
    assert load_class(f"{path}:Disk", "CELERIAC_MANAGERS") is Disk


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("nowhere:Disk", "can't be loaded"),
        ("managers.drivers", "package.module:Class"),
        (".drivers:Disk", "can't be loaded"),
        ("managers.drivers:load_class", "no class"),
    ],
)
def test_a_wrong_class_path_names_itself_and_the_setting(wrong: str, why: str) -> None:
    with pytest.raises(DriverNotFound, match=why) as refused:
        load_class(wrong, "CELERIAC_MANAGERS")

    assert f"CELERIAC_MANAGERS names {wrong!r}" in str(refused.value)
