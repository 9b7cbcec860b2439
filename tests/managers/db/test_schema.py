"""The schema and its migrations, on both databases."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from managers import db
from managers.db import api, schema, session
from managers.db.engine import engine
from managers.db.models import Base

ROOT = Path(__file__).parents[3]

AtOnce = Callable[..., list[str]]


def tables() -> set[str]:
    with session(write=False) as opened:
        return set(inspect(opened.connection()).get_table_names())


def differences() -> list[Any]:
    with session() as opened:
        context = MigrationContext.configure(
            opened.connection(), opts={"compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, Base.metadata)


def test_an_empty_database_is_brought_to_the_codes_revision(empty: str) -> None:
    assert schema.revision() is None

    db.upgrade()

    assert schema.revision() == schema.head() == "0002"
    assert tables() == {"alembic_version", "placements", "services"}


def test_the_steps_are_counted_up_and_the_newest_is_the_head_that_alembic_finds() -> None:
    directory = ScriptDirectory.from_config(schema.config())

    steps = [script.revision for script in directory.walk_revisions("base", "heads")]

    assert steps == sorted(schema._numbers(), reverse=True)
    assert directory.get_heads() == [schema.head()]


def test_a_database_that_is_up_to_date_costs_no_import_of_alembic(sqlite_url: str) -> None:
    db.use(sqlite_url)
    db.upgrade()
    script = f"""
import sys
import workers.celery
from managers import db
db.use({sqlite_url!r})
db.upgrade()
print([name for name in sys.modules if name.partition(".")[0] == "alembic"])
"""

    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"


def test_models_and_migrations_agree(database: str) -> None:
    assert differences() == []


def test_constraints_have_the_names_of_the_convention(database: str) -> None:
    with session(write=False) as opened:
        found = inspect(opened.connection())
        (unique,) = found.get_unique_constraints("services")
        key = found.get_pk_constraint("services")

    assert (unique["name"], unique["column_names"]) == ("uq_services_service_host", ["service", "host"])
    assert key["name"] == "pk_services"


def test_the_way_down_and_up_again_ends_where_it_began(database: str) -> None:
    schema.downgrade("base")
    assert (schema.revision(), tables()) == (None, {"alembic_version"})

    db.upgrade()

    assert schema.revision() == schema.head()
    assert differences() == []


def test_an_upgrade_keeps_what_is_there(database: str) -> None:
    api.service_register("volume", "here", version="1")

    db.upgrade()

    assert len(api.service_get_all()) == 1


def test_a_database_of_before_the_history_gains_it_and_keeps_its_services(empty: str) -> None:
    with session() as opened:
        command.upgrade(schema.config(opened.connection()), "0001")
    assert tables() == {"alembic_version", "services"}
    api.service_register("volume", "here", version="1")
    before = api.service_update("volume", "here", disabled=True, disabled_reason="disk")

    db.upgrade()

    assert schema.revision() == schema.head()
    assert differences() == []
    assert api.service_get_all() == [before]
    assert api.history_list() == []


def test_the_way_back_before_the_history_keeps_the_services(database: str) -> None:
    before = api.service_register("volume", "here", version="1")

    schema.downgrade("0001")

    assert tables() == {"alembic_version", "services"}
    assert api.service_get_all() == [before]


def test_processes_that_upgrade_an_old_database_at_once_do_it_once(empty: str, at_once: AtOnce) -> None:
    with session() as opened:
        command.upgrade(schema.config(opened.connection()), "0001")
    code = """
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
upgrade()
assert api.history_list() == []
"""

    said = at_once(code, processes=6, url=empty)

    assert "".join(said).count("upgraded from 0001 to 0002") == 1


def test_processes_that_upgrade_an_empty_database_at_once_do_it_once(url: str, at_once: AtOnce) -> None:
    code = """
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
upgrade()
assert api.service_get_all() == []
"""

    said = at_once(code, processes=8, url=url)

    assert "".join(said).count("upgraded from nothing to 0002") == 1
    db.use(url)
    assert schema.revision() == schema.head()


def test_an_upgrade_that_fails_half_way_leaves_nothing_behind(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = command.upgrade

    def interrupted(*arguments: Any) -> Never:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "upgrade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        db.upgrade()
    monkeypatch.setattr(command, "upgrade", real)

    assert tables() == set()
    db.upgrade()
    assert schema.revision() == schema.head()


def test_a_newer_database_is_left_alone_with_a_line_in_the_log(database: str, caplog: pytest.LogCaptureFixture) -> None:
    with session() as opened:
        opened.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    db.upgrade()

    (line,) = [record for record in caplog.records if record.name == "managers.db.schema"]
    assert line.levelno == logging.WARNING
    assert "is newer (9999) than this code (0002): left alone" in line.getMessage()
    assert schema.revision() == "9999"
    assert "services" in tables()


def test_an_upgrade_of_a_current_database_says_and_locks_nothing(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with engine().connect() as another, another.begin():
        if another.dialect.name == "postgresql":
            another.execute(text(f"SELECT pg_advisory_xact_lock({schema.ADVISORY_LOCK})"))

        db.upgrade()

    assert [record for record in caplog.records if record.name.startswith(("managers", "alembic"))] == []


def test_the_migrations_are_found_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "50% off, site packages"
    shutil.copytree(schema._MIGRATIONS, odd)
    monkeypatch.setattr(schema, "_MIGRATIONS", odd)

    assert schema.head() == "0002"


def test_alembics_own_commands_run_on_the_database_in_use(empty: str) -> None:
    command.upgrade(schema.config(), "head")

    assert schema.revision() == schema.head()


def test_a_new_migration_is_written_with_only_what_differs(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "migrations"
    shutil.copytree(schema._MIGRATIONS, copy)
    monkeypatch.setattr(schema, "_MIGRATIONS", copy)

    command.revision(schema.config(), "nothing new", autogenerate=True, rev_id="0003")

    written = (copy / "versions" / "0003_nothing_new.py").read_text()
    assert written.count("    pass\n") == 2
    assert "services" not in written
    assert "placements" not in written
