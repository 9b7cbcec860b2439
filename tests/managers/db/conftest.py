"""Both databases, empty or up to date, and processes that use them."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from managers import db
from managers.db.address import SETTING

POSTGRES = os.environ.get("CELERIAC_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/")

_PRELUDE = """
import logging, os, sys
from sqlalchemy import select, text, update
from managers.db import api, session, upgrade, use
from managers.db.models import Service
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts and ends with no database named and no connection open."""
    monkeypatch.delenv(SETTING, raising=False)
    db.close()
    db.use(None)
    yield
    db.close()
    db.use(None)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/fleet/celeriac.db"


@pytest.fixture(scope="session")
def postgres() -> str:
    """The server's URL, if it answers; without one: skip at home, fail in CI."""
    try:
        psycopg.connect(POSTGRES, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL must answer in CI: {error}")
        pytest.skip(f"PostgreSQL doesn't answer: {error}")
    return POSTGRES


@pytest.fixture
def postgresql_url(postgres: str) -> Iterator[str]:
    name = f"celeriac_test_{uuid4().hex}"
    with closing(psycopg.connect(postgres, autocommit=True)) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database on each backend in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def empty(url: str) -> Iterator[str]:
    """The empty database, in use."""
    db.use(url)
    yield url
    db.close()


@pytest.fixture
def database(empty: str) -> str:
    """The database in use, with its schema."""
    db.upgrade()
    return empty


@pytest.fixture
def in_fork() -> Callable[[Callable[[], Any]], Any]:
    """Start a function in a forked child; call what comes back for the function's answer."""

    def start(function: Callable[[], Any]) -> Callable[[], Any]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                answer = {"answer": function()}
            except BaseException:  # noqa: BLE001 the parent is told of every one
                answer = {"error": traceback.format_exc()}
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
        os.close(writing)

        def finish() -> Any:
            with os.fdopen(reading) as pipe:
                said = json.loads(pipe.read())
            os.waitpid(child, 0)
            assert "answer" in said, said["error"]
            return said["answer"]

        return finish

    return start


@pytest.fixture
def at_once() -> Iterator[Callable[..., list[str]]]:
    """Run the same code in several fresh processes that all start it together; return what each printed."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *, processes: int, url: str) -> list[str]:
        environment = {**os.environ, SETTING: url, "PYTHONPATH": str(Path(__file__).parents[3])}
        for _ in range(processes):
            started.append(  # noqa: PERF401 each is noted as it starts, so that none is left behind
                subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", _PRELUDE + code],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        for process in started:
            assert process.stdout.readline() == "ready\n", process.stdout.read()
        for process in started:
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=180)[0] for process in started]
        assert [process.returncode for process in started] == [0] * processes, said
        return said

    yield run

    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
