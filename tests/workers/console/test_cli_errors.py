"""What the command line says when something is in its way: one line, the way out, the right exit status."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from scheduler import connections
from tests.workers.console.rows import Rows, closed_port
from tests.workers.console.running import one_line, run
from workers.cli import main
from workers.errors import FleetError, InvalidSettings

ROOT = Path(__file__).parents[3]


def test_a_dead_redis_is_one_line_with_its_address_and_the_way_out(
    fleet: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("CELERIAC_TABLE_URL", f"redis://me:hush@127.0.0.1:{port}/0")
        for command in (["hosts"], ["hosts", "--json"], ["show", "a"], ["capabilities"]):
            result = run(*command)

            assert result.exit_code == 1
            assert result.stdout == ""
            assert f"127.0.0.1:{port}" in one_line(result)
            assert "CELERIAC_TABLE_URL" in result.stderr
            assert "celeriac up" in result.stderr
            assert "hush" not in result.output


def test_a_redis_that_never_answers_is_given_up_after_one_try(fleet: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SOCKET_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("CELERIAC_TABLE_URL", f"redis://:hush@127.0.0.1:{port}/0")

        result = run("hosts")

        silent.accept()[0].close()
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert result.exit_code == 1
    assert f"redis://***@127.0.0.1:{port}/0 does not answer" in one_line(result)


def test_an_embedded_fleet_that_died_is_told_from_a_wrong_address(
    fleet: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERIAC_TABLE_URL")
    with closed_port() as port:
        (tmp_path / ".celeriac").mkdir()
        named = {"settings": {"table_url": f"redis://:hush@127.0.0.1:{port}/0"}}
        (tmp_path / ".celeriac" / "fleet.json").write_text(json.dumps(named))

        result = run("hosts")

    assert ".celeriac/fleet.json names it" in one_line(result)
    assert "hush" not in result.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TABEL_URL", "redis://h", "did you mean CELERIAC_TABLE_URL?"),
        ("FLEET", "no spaces please", "CELERIAC_FLEET"),
        ("TABLE_URL", "http://h:1/0", "names no Redis"),
        ("TABLE_URL", "redis://:hu/sh@h:1/0", "can't be read as a URL"),
        ("TABLE_URL", "redis://:hush#x@h:1/0", "can't be read as a URL"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_a_usage_error(
    fleet: Rows, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"CELERIAC_{name}", value)

    result = run("hosts")

    assert result.exit_code == 2
    assert said in one_line(result)
    assert "hu" not in result.stderr.replace("URL", "")


def test_rows_of_somebody_else_are_an_answer_not_a_traceback(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.table.redis.hset(f"celeriac:{{{fleet.name}}}:hosts", "host/x", '{"future": 1}')

    result = run("hosts")

    assert result.exit_code == 1
    assert "this version can't read" in one_line(result)


def test_an_unknown_option_is_a_usage_error() -> None:
    assert run("hosts", "--nope").exit_code == 2
    assert run("show").exit_code == 2
    assert run("nope").exit_code == 2


@pytest.mark.parametrize(("error", "status"), [(FleetError("one\nfault"), 1), (InvalidSettings("one fault"), 2)])
def test_an_error_of_any_command_keeps_its_lines_and_shows_no_traceback(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def breaks() -> None:
        raise error

    monkeypatch.setitem(main.commands, "breaks", breaks)

    result = run("breaks")

    assert (result.exit_code, result.stderr) == (status, f"celeriac: {error}\n")


def test_a_reader_that_goes_away_is_no_error(fleet: Rows) -> None:
    fleet.add_scheduler()
    for options in ([], ["--json"]):
        read, write = os.pipe()
        os.close(read)
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-m", "workers.cli", "hosts", *options],
            stdout=write, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        os.close(write)

        assert ended.stderr == b""


def test_an_encoding_that_lacks_a_letter_costs_that_letter_only(fleet: Rows) -> None:
    fleet.add_scheduler()
    fleet.add("a")
    fleet.table.disable("host/a", "Lüfter κ")

    ended = subprocess.run(
        [sys.executable, "-m", "workers.cli", "hosts"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"},
        capture_output=True, check=False,
    )  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"L\xfcfter ?" in ended.stdout
