"""A cluster keeps time, ticks its hosts, and leaves the process as it was."""

import gc
import json
import socket
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, _state
from celery.signals import worker_process_init

from managers.db import engine
from tests.workers.probes import Other, Probe, capabilities, states
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody opens a connection")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)


def test_a_cluster_needs_no_server(no_network: None, cluster: Cluster) -> None:
    @cluster.app.task
    def double(value: int) -> int:
        return 2 * value

    cluster.start(Probe, hosts=["here", "there"])
    cluster.advance(120)

    assert double.apply_async((4,), queue="probe", countdown=5).id
    cluster.advance(5)
    assert double.apply_async((4,), queue="probe").get() == 8
    assert states(cluster) == {"here": "up", "there": "up"}
    assert cluster.errors == []


def test_every_host_of_every_service_ticks_once_per_period_by_its_real_number(cluster: Cluster) -> None:
    managers = cluster.start(Probe, hosts=["a", "b", "c"])

    for _ in range(5):
        cluster.advance(60)

    assert [manager.calls for manager in managers] == [["init_host", *5 * ["periodic_tasks"]]] * 3
    ticks = [sent for sent in cluster.sent if sent.task == "probe.periodic_tasks"]
    assert [sent.exchange for sent in ticks] == ["probe.fanout"] * 5
    numbers = [sent.kwargs["number"] for sent in ticks]
    assert numbers == [numbers[0] + step for step in range(5)]
    assert numbers[-1] == int(cluster.table.now() // 60)


def test_time_passes_in_any_portions(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])

    for _ in range(240):
        cluster.advance(0.5)

    assert manager.calls.count("periodic_tasks") == 2


def test_ticks_come_as_often_as_the_cluster_was_made_to() -> None:
    with Cluster(periodic_interval=0.1, heartbeat_interval=1) as cluster:
        (manager,) = cluster.start(Probe, hosts=["here"])

        cluster.advance(1)

        assert manager.calls.count("periodic_tasks") == 10


def test_a_tick_sent_twice_runs_once(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    cluster.advance(60)

    cluster.app.tasks["probe.periodic_tasks"].delay()
    cluster.run()

    assert manager.calls.count("periodic_tasks") == 1


def test_a_tick_carries_an_admin_context(cluster: Cluster) -> None:
    (manager,) = cluster.start(Probe, hosts=["here"])
    cluster.advance(60)

    (context,) = manager.contexts

    assert context is not None
    assert context.is_admin


def test_two_clusters_do_not_mix(cluster: Cluster) -> None:
    with Cluster() as other:
        (mine,) = cluster.start(Probe, hosts=["here"])
        (theirs,) = other.start(Probe, hosts=["here"])
        other.start(Other, hosts=["there"])
        theirs.facts = {"size": 2}

        other.advance(120)

        assert mine.calls == ["init_host"]
        assert theirs.calls.count("periodic_tasks") == 2
        assert capabilities(cluster, "here") == {"probe": {}}
        assert capabilities(other, "here") == {"probe": {"size": 2}}
        assert cluster.hosts("other") == []
        assert "other.periodic_tasks" not in cluster.app.tasks
        assert cluster.table.now() < other.table.now()


def test_the_errors_of_two_clusters_do_not_mix(cluster: Cluster) -> None:
    with Cluster() as other:
        other.start(Probe, hosts=["here"])

        @other.app.task
        def fail() -> None:
            raise ValueError

        assert fail.name not in cluster.app.tasks
        fail.apply_async(queue="probe")
        other.run()

        assert len(other.errors) == 1
        assert cluster.errors == []


@pytest.fixture
def users_app() -> Iterator[Celery]:
    app = Celery("users", set_as_current=False)
    before = _state._tls.current_app  # type: ignore[attr-defined]
    app.set_current()
    yield app
    _state._set_current_app(before)  # type: ignore[attr-defined]
    app.close()


def test_a_cluster_leaves_the_process_as_it_was(users_app: Celery, tmp_path: Any) -> None:
    engine.use(f"sqlite:///{tmp_path}/users.db")
    named, receivers = engine._process.named, list(worker_process_init.receivers)
    try:
        with Cluster() as cluster:
            cluster.start(Probe, hosts=["here"])
            cluster.advance(60)
            assert _state.get_current_app() is users_app
            app = weakref.ref(cluster.app)
            assert engine._process.named == named

        assert worker_process_init.receivers == receivers
        del cluster
        gc.collect()
        assert app() is None
        assert list(tmp_path.iterdir()) == []
    finally:
        engine.use(None)


def test_neither_the_environment_nor_a_running_fleet_is_a_clusters_business(
    monkeypatch: pytest.MonkeyPatch, state_dir: Any
) -> None:
    monkeypatch.setenv("CELERIAC_TABLE_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CELERIAC_SERVICES", "nonsense")
    monkeypatch.setenv("CELERIAC_PERIODIC_INTERVAL", "1")
    (state_dir / ".celeriac").mkdir()
    (state_dir / ".celeriac" / "fleet.json").write_text(json.dumps({"settings": {"managers": "no.such:Manager"}}))

    with Cluster() as cluster:
        (manager,) = cluster.start(Probe, hosts=["here"])
        cluster.advance(60)

    assert manager.calls.count("periodic_tasks") == 1
    assert [path.name for path in (state_dir / ".celeriac").iterdir()] == ["fleet.json"]


@pytest.mark.parametrize("missing", ["fakeredis", "lupa"])
def test_a_missing_redis_in_memory_is_told_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ModuleNotFoundError, match=rf"(?s){missing}.*celeriac\[testing\]"):
        Cluster()
