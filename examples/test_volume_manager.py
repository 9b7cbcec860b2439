from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from volume_manager import VolumeManager

from managers import db
from scheduler import HostLost, NoValidHost
from workers import ScheduledTask, celeriac_app, load_settings, registry_of
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class FakeDriver:
    """Volumes in a dict."""

    def __init__(self, room_mb: int = 1000) -> None:
        self.room_mb = room_mb
        self.volumes: dict[str, int] = {}

    def prepare(self) -> None:
        self.volumes.clear()

    def create(self, name: str, size_mb: int) -> None:
        self.volumes[name] = size_mb

    def free_mb(self) -> int:
        return self.room_mb - sum(self.volumes.values())

    def clean_up(self) -> None:
        pass


class BrokenDriver(FakeDriver):
    """A disk that fell out."""

    def free_mb(self) -> int:
        raise OSError("no such device")


def test_a_volume_that_does_not_fit_is_refused() -> None:
    manager = VolumeManager(host="here", driver=FakeDriver(room_mb=100))

    manager.create("small", 60)

    with pytest.raises(ValueError, match="40 MB are free"):
        manager.create("big", 60)


def test_the_room_left_is_what_is_reported() -> None:
    manager = VolumeManager(host="here", driver=FakeDriver(room_mb=100))
    manager.create("small", 60)

    manager.periodic_tasks()

    assert manager.last_capabilities == {"free_mb": 40}


def test_every_host_tells_the_scheduler_its_own_room(cluster: Cluster) -> None:
    _, there = cluster.start(VolumeManager, hosts=["here", "there"], driver=FakeDriver)
    there.create("big", 600)

    cluster.advance(60)

    rows = {row.host: row.capabilities for row in cluster.hosts("volume")}
    assert rows == {"here": {"free_mb": 1000}, "there": {"free_mb": 400}}
    assert cluster.table.aggregate()["volume.free_mb"] == (400, 1000)


def test_a_killed_host_is_stale_then_forgotten_and_comes_back(cluster: Cluster) -> None:
    cluster.start(VolumeManager, hosts=["here", "there"], driver=FakeDriver)

    cluster.fail("there")
    cluster.advance(30)
    assert [row.state for row in cluster.table.host("there")] == ["stale"]

    cluster.advance(90)
    assert [row.host for row in cluster.hosts("volume")] == ["here"]

    cluster.restart("there")
    assert [row.state for row in cluster.table.host("there")] == ["up"]


def test_a_broken_driver_keeps_no_other_host_from_reporting(cluster: Cluster) -> None:
    here, _ = cluster.start(VolumeManager, hosts=["here", "there"], driver=FakeDriver)
    here.driver = BrokenDriver()

    cluster.advance(60)

    assert [(failure.host, failure.doing) for failure in cluster.errors] == [("here", "volume.measure")]
    assert cluster.table.host("there")[0].capabilities == {"free_mb": 1000}


def test_a_call_goes_to_the_host_it_names(cluster: Cluster) -> None:
    here, there = cluster.start(VolumeManager, hosts=["here", "there"], driver=FakeDriver)

    assert VolumeManager.create.on("there").call("scratch", 50) == "there:scratch"

    assert there.driver.volumes == {"scratch": 50}
    assert here.driver.volumes == {}


def test_what_a_method_raises_reaches_the_caller(cluster: Cluster) -> None:
    cluster.start(VolumeManager, hosts=["here"], driver=FakeDriver)

    with pytest.raises(ValueError, match="1000 MB are free"):
        VolumeManager.create.call("huge", 2000)


def test_a_dead_host_is_silent(cluster: Cluster) -> None:
    cluster.start(VolumeManager, hosts=["here", "there"], driver=FakeDriver)
    cluster.fail("there")

    answers = VolumeManager.create.fanout("everywhere", 1).gather()

    assert answers.results == {"here": "here:everywhere"}
    assert answers.silent == ("there",)


def test_a_message_waits_as_long_as_the_test_holds_it(cluster: Cluster) -> None:
    (here,) = cluster.start(VolumeManager, hosts=["here"], driver=FakeDriver)

    with cluster.hold():
        VolumeManager.create.cast("later", 1)
        assert here.driver.volumes == {}

    assert here.driver.volumes == {"later": 1}


def test_a_cast_can_be_read(cluster: Cluster) -> None:
    cluster.start(VolumeManager, hosts=["here", "there"], driver=FakeDriver)

    VolumeManager.create.on("there").cast("scratch", size_mb=50)

    (sent,) = cluster.casts
    assert (sent.task, sent.host, sent.args, sent.kwargs) == ("volume.create", "there", ("scratch",), {"size_mb": 50})


def test_a_task_sent_to_a_host_works_with_the_manager_there(cluster: Cluster) -> None:
    @cluster.app.task
    def create_volume(name: str, size_mb: int) -> None:
        manager = registry_of(cluster.app).local("volume")
        assert isinstance(manager, VolumeManager)
        manager.create(name, size_mb)

    here, there = cluster.start(VolumeManager, hosts=["here", "there"], driver=FakeDriver)

    create_volume.apply_async(("scratch", 50), queue="volume.there")

    assert there.driver.free_mb() == 950
    assert here.driver.free_mb() == 1000
    assert [sent.queue for sent in cluster.sent if sent.task == create_volume.name] == ["volume.there"]


def test_a_task_runs_where_it_fits(cluster: Cluster) -> None:
    @cluster.app.task(base=ScheduledTask, claims={"gpus": 1})
    def render(scene: str) -> str:
        return f"{scene} on {registry_of(cluster.app).host}"

    cluster.add_host("gpu-1", {"gpus": 2, "zone": "a"})
    cluster.add_host("cpu-1", {"zone": "b"})

    assert render.delay("forest").get() == "forest on gpu-1"
    assert cluster.claims == []


def test_a_task_that_fits_nowhere_waits_and_can_say_why(cluster: Cluster) -> None:
    @cluster.app.task(base=ScheduledTask, requires={"zone": "a"}, claims={"gpus": 4}, placement_timeout=60)
    def simulate() -> None: ...

    cluster.add_host("gpu-1", {"gpus": 2, "zone": "a"})
    first = simulate.delay()

    assert [request.task for request in cluster.pending] == [simulate.name]
    assert cluster.explain({"zone": "a"}, claims={"gpus": 4}).nearest == [("gpu-1", ["gpus >= 4 (free: 2)"])]
    cluster.report("gpu-1", {"gpus": 4, "zone": "a"})
    assert first.successful()

    cluster.disable("gpu-1", "a new fan")
    second = simulate.delay()
    cluster.advance(60)
    with pytest.raises(NoValidHost, match="0/1 hosts: 1 disabled"):
        second.get()


def test_a_method_is_placed_by_what_its_hosts_report(cluster: Cluster) -> None:
    for name, room_mb in [("small", 100), ("large", 1000)]:
        cluster.start(VolumeManager, hosts=[name], driver=FakeDriver(room_mb))
        cluster.add_host(name)
    cluster.advance(60)

    assert VolumeManager.create.where("free_mb >= 500").call("scratch", 500) == "large:scratch"


def test_a_task_is_lost_with_its_host(cluster: Cluster) -> None:
    @cluster.app.task(base=ScheduledTask, claims={"gpus": 1})
    def doomed() -> None:
        cluster.fail("gpu-1")

    cluster.add_host("gpu-1", {"gpus": 2})
    result = doomed.delay()

    cluster.advance(61)

    with pytest.raises(HostLost):
        result.get()


def test_a_lost_message_is_sent_again(cluster: Cluster) -> None:
    @cluster.app.task(base=ScheduledTask, claims={"gpus": 1})
    def render() -> str:
        return "done"

    cluster.add_host("gpu-1", {"gpus": 2})

    with cluster.hold("host.gpu-1"):
        result = render.delay()
        assert [(claim.host, claim.state) for claim in cluster.claims] == [("gpu-1", "placed")]
        cluster.lose("host.gpu-1")
    cluster.advance(31)

    assert result.get() == "done"


@pytest.fixture
def eager_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Celery]:
    monkeypatch.setenv("CELERIAC_TABLE_URL", "memory://volumes")
    monkeypatch.setenv("CELERIAC_DIR", str(tmp_path))
    monkeypatch.setenv("CELERIAC_VOLUME_DRIVER", "test_volume_manager:FakeDriver")
    app = Celery("shop", set_as_current=False)
    app.conf.task_always_eager = True
    yield celeriac_app(app, managers=[VolumeManager], settings=load_settings(host="here"))
    db.use(None)


def test_in_eager_mode_this_process_is_the_host(eager_app: Celery) -> None:
    assert VolumeManager.create.using(eager_app).call("scratch", 50) == "here:scratch"

    eager_app.tasks["volume.periodic_tasks"].delay()

    assert registry_of(eager_app).table.host("here")[0].capabilities == {"free_mb": 950}


def test_eager_tasks_are_placed_on_what_was_reported(eager_app: Celery) -> None:
    @eager_app.task(base=ScheduledTask, service="volume", requires="free_mb > 2000")
    def archive() -> None: ...

    eager_app.tasks["volume.periodic_tasks"].delay()

    with pytest.raises(NoValidHost, match="1 free_mb > 2000"):
        archive.delay().get()
