"""The benchmarks run, say what they promise, and leave nothing behind."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

ROOT = Path(__file__).parents[1]


def run(*options: str, folder: Path, script: str = "reports.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *options],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.fleet
def test_reports_are_measured_beside_plain_tasks_and_hosts_are_weighed(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))

    ran = run(
        *("--reports", "60", "--hosts", "20", "--rounds", "2", "--pool", "threads"),
        *("--table-hosts", "10", "--table-hosts", "20", "--json"),
        folder=tmp_path,
    )

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert (said["reports"], said["hosts"]) == (60, 20)
    (pool,) = said["throughput"]
    assert pool["pool"] == "threads"
    assert len(pool["rounds"]) == 2
    assert all(min(measured.values()) > 0 for measured in pool["rounds"])
    assert pool["ratio"] == pytest.approx(pool["reports_per_second"] / pool["tasks_per_second"], rel=0.01)
    assert min(pool["report_cpu_us"], pool["task_cpu_us"]) >= 0
    assert said["ratio"] == pool["ratio"]
    assert [cost["hosts"] for cost in said["table"]] == [10, 20]
    assert all(min(cost.values()) >= 0 < cost["bytes_per_host"] for cost in said["table"])
    assert {"cpu", "cpus", "python", "celery", "server"} <= said["machine"].keys()
    assert set(psutil.Process().children(recursive=True)) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fleet
def test_calls_are_measured_beside_a_bare_task(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))

    ran = run(
        *("--calls", "20", "--casts", "50", "--rounds", "2", "--pool", "threads", "--json"),
        folder=tmp_path,
        script="calls.py",
    )

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert (said["calls"], said["casts"]) == (20, 50)
    (pool,) = said["pools"]
    assert pool["pool"] == "threads"
    assert len(pool["rounds"]) == 2
    for side in ("method", "task"):
        assert 0 < pool[side]["p50_ms"] <= pool[side]["p99_ms"]
        assert min(pool[side].values()) >= 0
    medians = {
        side: statistics.median(1 / measured[side]["p50_ms"] for measured in pool["rounds"])
        for side in ("method", "task")
    }
    assert pool["latency_ratio"] == pytest.approx(medians["method"] / medians["task"], rel=0.01)
    assert said["ratio"] == min(pool["latency_ratio"], pool["throughput_ratio"]) > 0
    assert {"cpu", "cpus", "python", "celery", "server"} <= said["machine"].keys()
    assert set(psutil.Process().children(recursive=True)) == before
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_holds_keys_is_refused_and_kept(valkey_url: str, tmp_path: Path) -> None:
    url = valkey_url.removesuffix("/0") + "/9"
    with redis.Redis.from_url(url) as client:
        client.set("precious", "1")
        try:
            ran = run("--redis-url", url, "--reports", "1", "--json", folder=tmp_path)

            assert ran.returncode == 2
            assert "holds keys" in ran.stderr
            assert client.get("precious") == b"1"
        finally:
            client.flushdb()
