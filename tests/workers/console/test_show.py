"""``celeriac show``: everything known of one host, from the table and from the registry."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from managers.db import api
from tests.workers.console.rows import CAPABILITIES, Rows, closed_port, rows_at, silent_port
from workers.cli import main
from workers.console import reading

ENTRY = {
    "service", "host", "state", "reasons", "seen_seconds_ago", "reported_seconds_ago", "capabilities", "total", "free",
    "holder", "record",
}  # fmt: skip


@pytest.fixture
def fleet(valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rows]:
    with rows_at(valkey_url, tmp_path, monkeypatch) as rows:
        rows.add_scheduler()
        rows.register("sched-1", "scheduler")
        yield rows


def show(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["show", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def entries(*arguments: str) -> list[dict[str, Any]]:
    result = show(*arguments, "--json")
    assert result.exit_code == 0
    known: list[dict[str, Any]] = json.loads(result.stdout)["services"]
    assert all(entry.keys() == ENTRY for entry in known)
    return known


def test_a_live_host_is_shown_with_holder_and_record(fleet: Rows) -> None:
    fleet.add("a", ["host", "network"])
    fleet.register("a")

    host, network = entries("a")

    assert (host["service"], host["state"], host["capabilities"]) == ("host", "up", CAPABILITIES)
    assert (host["holder"]["pid"], host["holder"]["machine"]) == (4711, "box:12ab:1")
    assert host["holder"]["boot"] > 0
    assert host["record"]["stopped_at"] is None
    assert host["record"]["started_at"].endswith("+00:00")
    assert (network["service"], network["record"]) == ("network", None)


def test_people_read_who_holds_it_what_it_can_and_since_when(fleet: Rows) -> None:
    fleet.add("a")
    fleet.register("a")
    api.service_update("host", "a", disabled=True, disabled_reason="broken fan", forced_down=True)

    shown = show("a").stdout

    for said in ("pid 4711 on box:12ab:1", "4 free of 4", "zone", "started", "broken fan", "forced down"):
        assert said in shown


def test_a_stopped_host_is_shown_from_the_registry_alone(fleet: Rows) -> None:
    fleet.register("gone-1", stopped=True)

    (entry,) = entries("gone-1")

    assert (entry["state"], entry["holder"]) == ("stopped", None)
    assert "gone-1 host stopped" in show("gone-1").stdout


def test_a_host_that_never_said_goodbye_is_lost(fleet: Rows) -> None:
    fleet.register("lost-1")
    api.service_update("host", "lost-1", disabled=True, disabled_reason="broken fan")

    (entry,) = entries("lost-1")

    assert entry["state"] == "lost"
    assert "disabled: broken fan" in entry["reasons"]


def test_nobody_is_called_lost_while_the_table_is_not_ready(fleet: Rows) -> None:
    fleet.register("a")
    fleet.table.redis.delete(f"celeriac:{{{fleet.name}}}:since")

    result = show("a", "--json")

    assert result.exit_code == 1
    assert "not ready: " in result.stderr
    known = json.loads(result.stdout)
    assert (known["ready"], known["services"][0]["state"]) == (False, "unknown")


def test_an_unknown_host_is_answered_with_the_nearest_of_table_and_registry(fleet: Rows) -> None:
    fleet.add("rack1-07")
    fleet.register("attic-3", stopped=True)

    for asked, meant in (("rack1-7", "rack1-07"), ("atic-3", "attic-3")):
        result = show(asked, "--json")

        assert (result.exit_code, result.stdout) == (1, "")
        assert f"did you mean {meant}?" in result.stderr


@pytest.mark.parametrize("address", ["refusing", "silent", "no file", "no driver"])
def test_a_registry_out_of_reach_does_not_hide_the_table(
    fleet: Rows, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet.add("a")
    monkeypatch.setattr(reading, "PATIENCE", 0.5)
    with closed_port() as closed, silent_port() as silent:
        named = {
            "refusing": ("DATABASE_URL", f"postgresql://u:hush@127.0.0.1:{closed}/x"),
            "silent": ("DATABASE_URL", f"postgresql://u:hush@127.0.0.1:{silent}/x"),
            "no file": ("DATABASE_URL", f"sqlite:///{tmp_path}/none/registry.db"),
            "no driver": ("DB_DRIVER", "no.such.module"),
        }
        monkeypatch.setenv(f"CELERIAC_{named[address][0]}", named[address][1])

        result = show("a", "--json")

    known = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (known["services"][0]["state"], known["services"][0]["record"]) == ("up", None)
    assert known["database_error"]
    assert "the durable registry is left out" in result.stderr
    assert "hush" not in result.output
    assert not (tmp_path / "none").exists()
