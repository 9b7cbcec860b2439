"""The database's address."""

from pathlib import Path

import pytest

from managers.db.address import parse, shown
from managers.errors import DatabaseError


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg(scheme: str) -> None:
    assert parse(f"{scheme}://u@h/d").drivername == "postgresql+psycopg"


def test_a_relative_file_is_taken_from_the_folder_of_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    address = parse("sqlite:///.celeriac/celeriac.db")
    monkeypatch.chdir("/")

    assert address.database == str(tmp_path / ".celeriac" / "celeriac.db")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_that_processes_cannot_share_is_refused(url: str) -> None:
    with pytest.raises(DatabaseError, match="isn't the path of a file"):
        parse(url)


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "postgresql+psycopg2://u:hunter2@h/d", "oracle://h"])
def test_another_database_is_refused_with_the_setting_and_examples(url: str) -> None:
    with pytest.raises(
        DatabaseError, match=r"CELERIAC_DATABASE_URL asks for .* write sqlite:////.* postgresql://"
    ) as no:
        parse(url)

    assert "hunter2" not in str(no.value)


@pytest.mark.parametrize("url", ["", "hunter2", "postgresql://u:x@hunter2@h/d", "postgresql://h:hunter2/d"])
def test_what_cannot_be_taken_apart_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(DatabaseError, match="percent-encoded") as no:
        parse(url)

    assert "hunter2" not in str(no.value)
    assert no.value.__context__ is None


def test_a_shown_address_hides_the_password_wherever_it_is() -> None:
    address = parse("postgresql://u:hunter2@h:5433/d?password=hunter3&sslpassword=hunter4")

    assert shown(address) == "postgresql+psycopg://u:***@h:5433/d"


def test_a_password_with_special_characters_reaches_the_driver_as_it_is() -> None:
    assert parse("postgresql://u:p%40s%2Fs%25@h/d").password == "p@s/s%"
