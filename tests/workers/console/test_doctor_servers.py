"""What ``celeriac doctor`` says of broker, table and database: well, ill and out of reach."""

from pathlib import Path

import pytest
from sqlalchemy import text

from managers import db
from scheduler.connections import connect
from tests.workers.console.rows import Rows, closed_port, silent_port
from tests.workers.console.running import NAMES, examined
from workers.console import probes, reading

FROM_TABLE = NAMES[4:]


def test_reports_that_pile_up_are_a_warning(well: Rows) -> None:
    broker = connect(well.broker_url)
    broker.rpush("scheduler", *map(str, range(11)))

    check = examined()["broker"]

    broker.close()
    assert check.status == "warning"
    assert "11 reports wait" in check.found


@pytest.mark.parametrize("scheme", ["redis://:hush@127.0.0.1:{}/0", "amqp://u:hush@127.0.0.1:{}//"])
@pytest.mark.parametrize("port", [closed_port, silent_port])
def test_a_broker_out_of_reach_fails_with_its_address_and_without_its_password(
    well: Rows, monkeypatch: pytest.MonkeyPatch, scheme: str, port: object
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 2.0)
    with port() as number:  # type: ignore[operator]
        monkeypatch.setenv("CELERIAC_BROKER_URL", scheme.format(number))

        checks = examined()

    assert checks["broker"].status == "failed"
    assert f"***@127.0.0.1:{number}" in checks["broker"].found
    assert ("refused" in checks["broker"].found) == (port is closed_port)
    assert "CELERIAC_BROKER_URL" in checks["broker"].advice
    assert "hush" not in str(checks)
    assert checks["beat"].found.startswith("not known")
    assert checks["hosts"].status == "ok"


def test_a_rabbitmq_without_the_queue_of_reports_never_had_a_scheduler(
    well: Rows, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_BROKER_URL", rabbitmq_url)
    monkeypatch.setattr(probes, "service_queue", lambda service: type("Queue", (), {"name": f"{service}-never-made"}))

    check = examined()["broker"]

    assert check.status == "warning"
    assert "no queue" in check.found


def test_a_broker_of_no_known_kind_fails(well: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_BROKER_URL", "carrier-pigeon://u:hush@loft")

    check = examined()["broker"]

    assert check.status == "failed"
    assert "carrier-pigeon://***@loft" in check.found


@pytest.mark.parametrize("port", [closed_port, silent_port])
def test_a_table_out_of_reach_fails_and_leaves_what_it_knew_unknown(
    well: Rows, monkeypatch: pytest.MonkeyPatch, port: object
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 2.0)
    with port() as number:  # type: ignore[operator]
        monkeypatch.setenv("CELERIAC_TABLE_URL", f"redis://me:hush@127.0.0.1:{number}/0")

        checks = examined()

    assert checks["table"].status == "failed"
    assert f"redis://***@127.0.0.1:{number}/0 does not answer" in checks["table"].found
    assert {checks[name].found.split(":")[0] for name in FROM_TABLE} == {"not known"}
    assert (checks["broker"].status, checks["database"].status) == ("ok", "ok")
    assert "hush" not in str(checks)


@pytest.mark.parametrize(
    ("policy", "status"), [("allkeys-lru", "warning"), ("volatile-ttl", "warning"), ("noeviction", "ok")]
)
def test_a_redis_that_may_evict_keys_is_a_warning(well: Rows, policy: str, status: str) -> None:
    before = well.table.redis.config_get("maxmemory-policy")
    well.table.redis.config_set("maxmemory-policy", policy)
    try:
        check = examined()["table"]
    finally:
        well.table.redis.config_set("maxmemory-policy", before["maxmemory-policy"])

    assert check.status == status
    assert policy in check.found
    assert "persistence" in check.found


def test_a_redis_user_who_may_not_ask_for_info_is_no_fault(well: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    well.table.redis.execute_command("ACL", "SETUSER", well.name, "on", ">hush", "~*", "&*", "+@all", "-@dangerous")
    monkeypatch.setenv("CELERIAC_TABLE_URL", well.url.replace("//", f"//{well.name}:hush@"))
    try:
        checks = examined()
    finally:
        well.table.redis.execute_command("ACL", "DELUSER", well.name)

    assert checks["table"].status == "ok"
    assert "may not ask" in checks["table"].found
    assert checks["hosts"].status == "ok"
    assert "hush" not in str(checks)


def test_a_wrong_password_fails_without_being_shown(well: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_TABLE_URL", well.url.replace("//", "//nobody:hush@"))

    checks = examined()

    assert checks["table"].status == "failed"
    assert "hush" not in str(checks)


def test_a_missing_database_fails_and_is_not_made_by_looking(
    well: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_DATABASE_URL", f"sqlite:///{tmp_path}/none/registry.db")

    check = examined()["database"]

    assert check.status == "failed"
    assert "there is no database" in check.found
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("revision", "status", "said"),
    [(None, "failed", "no schema"), ("0000", "failed", "older"), ("9999", "warning", "newer")],
)
def test_a_schema_that_is_not_this_codes_is_told(well: Rows, revision: str | None, status: str, said: str) -> None:
    with db.session() as opened:
        if revision is None:
            opened.execute(text("DROP TABLE alembic_version"))
        else:
            opened.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})

    check = examined()["database"]

    assert check.status == status
    assert said in check.found


def test_a_database_that_refuses_fails_without_its_password(well: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        monkeypatch.setenv("CELERIAC_DATABASE_URL", f"postgresql://u:hush@127.0.0.1:{port}/x")

        checks = examined()

    assert checks["database"].status == "failed"
    assert f"127.0.0.1:{port}" in checks["database"].found
    assert "CELERIAC_DATABASE_URL" in checks["database"].advice
    assert "hush" not in str(checks)
    assert checks["hosts"].status == "ok"
