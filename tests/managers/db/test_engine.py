"""Which database a process uses, and its engine."""

import gc
import multiprocessing
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, Never

import psycopg
import pytest
from sqlalchemy import Engine, text

from managers import db
from managers.db import api, session
from managers.db.address import SETTING, parse
from managers.db.engine import engine
from managers.errors import DatabaseError

InFork = Callable[[Callable[[], Any]], Callable[[], Any]]
AtOnce = Callable[..., list[str]]


def backend() -> int:
    """The server's process behind this session: one per socket."""
    with session() as opened:
        return opened.scalar(text("SELECT pg_backend_pid()"))


def test_the_environment_names_the_database_until_use_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, f"sqlite:///{tmp_path}/environment.db")
    by_environment = engine().url.database
    db.use(f"sqlite:///{tmp_path}/settings.db")
    by_settings = engine().url.database
    db.use(None)

    assert Path(by_environment).name == "environment.db"
    assert Path(by_settings).name == "settings.db"
    assert engine().url.database == by_environment


def test_naming_a_database_opens_nothing(sqlite_url: str, tmp_path: Path) -> None:
    db.use(sqlite_url)

    assert list(tmp_path.iterdir()) == []


def test_threads_that_come_at_once_get_the_same_engine(empty: str) -> None:
    barrier = Barrier(8)

    def ask(_: int) -> Engine:
        barrier.wait(10)
        return engine()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_each_database_has_its_own_engine(tmp_path: Path) -> None:
    db.use(f"sqlite:///{tmp_path}/one.db")
    one = engine()
    db.use(f"sqlite:///{tmp_path}/two.db")
    two = engine()
    db.use(f"sqlite:///{tmp_path}/one.db")

    assert engine() is one is not two


def test_a_closed_engine_is_followed_by_a_new_one(database: str) -> None:
    api.service_register("volume", "here", version="1")
    before = engine()
    db.close()

    assert engine() is not before
    assert len(api.service_get_all()) == 1


def test_a_block_that_raises_leaves_no_trace(database: str) -> Never:
    api.service_register("volume", "here", version="1")

    def interrupted() -> None:
        with session() as opened:
            opened.execute(text("DELETE FROM services"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()

    assert len(api.service_get_all()) == 1


def test_a_reading_session_cannot_write(database: str) -> None:
    api.service_register("volume", "here", version="1")

    with pytest.raises(DatabaseError, match=r"read-?only"), session(write=False) as opened:
        opened.execute(text("DELETE FROM services"))

    with session() as opened:
        opened.execute(text("DELETE FROM services"))
    assert api.service_get_all() == []


def test_a_forked_child_uses_the_database_and_so_does_its_parent(database: str, in_fork: InFork) -> None:
    api.service_register("volume", "parent", version="1")
    inherited = id(engine())

    def child() -> int:
        api.service_register("volume", "child", version="1")
        return id(engine())

    assert in_fork(child)() != inherited
    api.service_register("volume", "parent-again", version="1")
    assert [record.host for record in api.service_get_all()] == ["child", "parent", "parent-again"]


def test_a_forked_child_shares_no_socket_and_closes_none(postgresql_url: str, in_fork: InFork) -> None:
    db.use(postgresql_url)
    parents, kept = backend(), engine()
    with kept.connect() as connection:
        inherited = weakref.ref(connection.connection.dbapi_connection)

    def child() -> tuple[int, int]:
        own = backend()
        with kept.connect() as connection:  # an engine that somebody held on to
            by_kept = connection.scalar(text("SELECT pg_backend_pid()"))
        gc.collect()
        assert inherited() is not None
        assert not inherited().closed
        return own, by_kept

    own, by_kept = in_fork(child)()

    assert len({parents, own, by_kept}) == 3
    assert backend() == parents


def test_a_fork_of_a_fork_has_its_own_engine(postgresql_url: str, in_fork: InFork) -> None:
    db.use(postgresql_url)

    child, grandchild = in_fork(lambda: (backend(), in_fork(backend)()))()

    assert len({backend(), child, grandchild}) == 3


def test_a_spawned_process_uses_the_database_it_is_told(database: str) -> None:
    api.service_register("volume", "here", version="1")
    spawn = multiprocessing.get_context("spawn")

    with ProcessPoolExecutor(1, mp_context=spawn, initializer=db.use, initargs=(database,)) as pool:
        found = pool.submit(api.service_get_all).result(60)

    assert found == api.service_get_all()


def test_a_spawned_process_falls_back_to_the_environment(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api.service_register("volume", "here", version="1")
    monkeypatch.setenv(SETTING, database)

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(api.service_get_all).result(60)

    assert found == api.service_get_all()


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    db.use("postgresql://celeriac:hunter2@localhost/fleet")

    with pytest.raises(DatabaseError, match=r"celeriac\[postgresql\]") as no:
        engine()

    assert "hunter2" not in str(no.value)


def test_a_restarted_server_is_not_noticed(postgresql_url: str) -> None:
    db.use(postgresql_url)
    before = backend()
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [before])

    assert backend() != before


def test_a_statement_and_a_silent_link_have_their_limits(postgresql_url: str) -> None:
    db.use(postgresql_url)

    with session() as opened:
        assert opened.scalar(text("SHOW statement_timeout")) == "30s"
        parameters = opened.connection().connection.dbapi_connection.info.get_parameters()
    assert parameters["connect_timeout"] == "5"
    assert parameters["tcp_user_timeout"] == "30000"


def test_the_urls_own_query_wins(postgresql_url: str) -> None:
    db.use(parse(postgresql_url).update_query_dict({"options": "-c statement_timeout=7000", "connect_timeout": "9"}))

    with session() as opened:
        assert opened.scalar(text("SHOW statement_timeout")) == "7s"
        assert opened.connection().connection.dbapi_connection.info.get_parameters()["connect_timeout"] == "9"


def test_a_sqlite_file_gets_its_folder_and_its_pragmas(sqlite_url: str) -> None:
    db.use(sqlite_url)

    with session() as opened:
        pragmas = [opened.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "busy_timeout", "foreign_keys")]

    assert pragmas == ["wal", 30000, 1]


def test_a_reader_on_sqlite_waits_for_no_writer(sqlite_url: str) -> None:
    db.use(sqlite_url)
    db.upgrade()
    writer = sqlite3.connect(parse(sqlite_url).database, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    assert api.service_get_all() == []

    writer.close()


def test_processes_that_read_and_then_write_lose_no_update_on_sqlite(sqlite_url: str, at_once: AtOnce) -> None:
    db.use(sqlite_url)
    db.upgrade()
    api.service_register("volume", "here", version="0")
    code = """
for _ in range(40):
    with session() as opened:
        count = int(opened.scalar(select(Service.version)))
        opened.execute(update(Service).values(version=str(count + 1)))
"""

    at_once(code, processes=6, url=sqlite_url)

    assert api.service_get("volume", "here").version == "240"


def test_a_new_file_that_another_process_is_writing_is_waited_for(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(parse(sqlite_url).database).parent.mkdir()
    other = sqlite3.connect(parse(sqlite_url).database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: other.rollback())
    monkeypatch.setattr("managers.db.sqlite.time", clock)
    db.use(sqlite_url)

    with session() as opened:
        assert opened.scalar(text("PRAGMA journal_mode")) == "wal"

    other.close()


def test_processes_that_open_a_new_file_at_once_all_succeed(tmp_path: Path, at_once: AtOnce) -> None:
    code = f"""
for number in range(50):
    use(f"sqlite:///{tmp_path}/{{number}}.db")
    with session(write=False) as opened:
        print(opened.scalar(text("PRAGMA journal_mode")))
"""

    said = at_once(code, processes=6, url="unused://")

    assert "".join(said).split() == ["wal"] * 300


def test_processes_that_use_different_services_at_once_all_succeed(database: str, at_once: AtOnce) -> None:
    code = """
host = f"host-{os.getpid()}"
api.service_register("volume", host, version="1")
for _ in range(20):
    assert api.service_seen("volume", host)
    assert api.service_get_all(host=host)
api.service_stopped("volume", host)
"""

    at_once(code, processes=6, url=database)

    assert len([record for record in api.service_get_all() if record.stopped_at]) == 6


def test_no_sqlite_file_stays_open_between_sessions(sqlite_url: str, tmp_path: Path) -> None:
    db.use(sqlite_url)
    db.upgrade()

    assert [file for file in Path("/proc/self/fd").iterdir() if str(file.resolve()).startswith(str(tmp_path))] == []
