"""The driver's errors, as ours."""

import logging
import pickle
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from managers import db
from managers.db import InvalidRecord, ServiceNotFound, api, engine, schema, session
from managers.errors import DatabaseError

ENDED = {
    "request_id": "r",
    "attempt": 0,
    "task_id": "t",
    "task": "shop.render",
    "service": "host",
    "outcome": "expired",
    "submitted_at": 1_800_000_000.0,
    "ended_at": 1_800_000_060.0,
}
HISTORY = [lambda: api.history_add([ENDED]), api.history_list, lambda: api.history_prune(0)]


def test_no_named_database_names_the_setting_and_the_way_out() -> None:
    with pytest.raises(DatabaseError, match=r"set CELERIAC_DATABASE_URL, for example to sqlite:////"):
        api.service_get_all()


def test_a_missing_schema_is_named_with_the_way_out(empty: str) -> None:
    with pytest.raises(DatabaseError, match=r"^database .*services.* bring it up to date with managers\.db\.upgrade"):
        api.service_get_all()


def test_a_database_that_does_not_answer_is_named_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    db.use("postgresql://celeriac:hunter2@127.0.0.1:1/fleet?sslpassword=hunter2")

    with pytest.raises(
        DatabaseError, match=r"database postgresql\+psycopg://celeriac:\*\*\*@127\.0\.0\.1:1/fleet"
    ) as no:
        db.upgrade()

    assert "check that it answers and that CELERIAC_DATABASE_URL names it" in str(no.value)
    assert "hunter2" not in "".join(traceback.format_exception(no.value)) + caplog.text


def test_a_wrong_password_is_not_repeated(postgresql_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    db.use(engine.parse(postgresql_url).set(username="nobody_here", password="hunter2"))

    with pytest.raises(DatabaseError, match="nobody_here") as no:
        api.service_get_all()

    assert "hunter2" not in "".join(traceback.format_exception(no.value)) + caplog.text


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("a shopping list, long enough to have a header" * 10)
    db.use(f"sqlite:///{tmp_path}/notes.db")

    with pytest.raises(DatabaseError, match=r"notes\.db: .*not a database"):
        api.service_get_all()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    db.use(f"sqlite:///{tmp_path}/file/celeriac.db")

    with pytest.raises(DatabaseError, match=r"can't create its folder.*CELERIAC_DATABASE_URL"):
        api.service_get_all()


def test_a_lock_that_is_never_released_is_named(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("managers.db.sqlite.BUSY_TIMEOUT", 0.01)
    db.use(sqlite_url)
    db.upgrade()
    hog = sqlite3.connect(engine.parse(sqlite_url).database, isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")

    with pytest.raises(DatabaseError, match="locked; another process has been writing for too long"):
        api.service_register("volume", "here", version="1")

    hog.close()


def test_a_broken_constraint_stays_what_it_is(database: str) -> None:
    api.service_register("volume", "here", version="1")
    row = "INSERT INTO services SELECT * FROM services"

    with pytest.raises(IntegrityError), session() as opened:
        opened.execute(text(row))


def test_an_unknown_service_survives_the_way_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(ServiceNotFound("volume", "here")))

    assert (copy.service, copy.host) == ("volume", "here")
    assert "'volume' on host 'here'" in str(copy)


@pytest.mark.parametrize("ask", HISTORY)
def test_a_database_that_is_away_is_named(ask: Callable[[], object]) -> None:
    db.use("postgresql://celeriac@127.0.0.1:1/fleet")

    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:1/fleet: .*check that it answers"):
        ask()


@pytest.mark.parametrize("ask", HISTORY)
def test_a_database_of_before_the_history_names_the_way_out(empty: str, ask: Callable[[], object]) -> None:
    db.upgrade()
    schema.downgrade("0001")

    with pytest.raises(DatabaseError, match=r"placements.* bring it up to date with managers\.db\.upgrade"):
        ask()


def test_a_bad_record_survives_the_way_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(InvalidRecord(3, "it has no task")))

    assert (copy.index, str(copy)) == (3, "record 3 of the batch: it has no task")
