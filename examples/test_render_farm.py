from collections.abc import Iterator

import pytest
from render_farm import FrameStore, archive, dream, encode, preview, render, simulate, smash

from scheduler import NoValidHost
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


@pytest.fixture
def farm(cluster: Cluster) -> Iterator[Cluster]:
    """Four hosts, each good at something."""
    cluster.add_host("gpu-1", {"slots": 2, "gpus": 2, "gpu.memory_mb": 24000, "zone": "a"})
    cluster.add_host("gpu-2", {"slots": 2, "gpus": 2, "gpu.memory_mb": 24000, "zone": "b", "card_mb": 14000})
    cluster.add_host("gpu-3", {"slots": 2, "gpus": 2, "gpu.memory_mb": 6000, "zone": "c"})
    cluster.add_host("cpu-1", {"slots": 4, "zone": "c", "crash_tests": True})
    with cluster.app.as_current():
        yield cluster


def test_a_whole_card(farm: Cluster) -> None:
    assert render.delay("a.blend").get() in {"a.blend, rendered on gpu-1", "a.blend, rendered on gpu-2"}

    bigger = render.apply_async(("b.blend",), requires="gpu.memory_mb >= 80000", placement_timeout=60)
    farm.advance(70)

    with pytest.raises(NoValidHost) as failed:
        bigger.get()
    assert failed.value.reasons == ["4 gpu.memory_mb >= 80000"]


def test_cpus_memory_and_a_disk(farm: Cluster) -> None:
    with farm.hold():
        waiting = [encode.delay(f"{number}.mov") for number in range(4)]
    farm.add_host("disk-1", {"slots": 4, "cpus": 1, "memory_mb": 8000, "disk": "ssd"})

    assert [film.get() for film in waiting] == [f"{number}.mov, encoded on disk-1" for number in range(4)]
    assert str(farm.explain("disk == 'ssd'", claims={"cpus": 1.5})).startswith(
        "0/5 hosts: 4 disk == 'ssd', 1 cpus >= 1.5"
    )


def test_part_of_a_card(farm: Cluster) -> None:
    assert preview.delay("a.blend").get() == "a.blend, previewed on gpu-2"
    assert farm.explain(claims={"card_mb": 15000}).verdict == "infeasible"


def test_one_zone(farm: Cluster) -> None:
    assert archive.delay("a.blend").get() == "a.blend, archived on gpu-1"


def test_hosts_at_once(farm: Cluster) -> None:
    hosts = simulate.delay("a.blend").get()

    assert sorted(hosts) == ["gpu-1", "gpu-2", "gpu-3"]


def test_a_host_for_a_special_purpose(farm: Cluster) -> None:
    assert smash.delay("a.blend").get() == "a.blend, smashed on cpu-1"


def test_where_the_model_is(farm: Cluster) -> None:
    farm.report("gpu-3", {"slots": 2, "models.loaded": ["sdxl", "flux"]})

    assert dream.delay("a cat").get() == "a cat, dreamt on gpu-3"

    first = dream.apply_async(("a dog",), sticky="llama").get()
    again = dream.apply_async(("a cow",), sticky="llama").get()
    assert first.split(" on ")[1] == again.split(" on ")[1]


def test_beside_another_task_and_away_from_it(farm: Cluster) -> None:
    first = archive.delay("a.blend")
    beside = preview.apply_async(("a.blend",), claims={}, same_host=first.id)
    away = preview.apply_async(("a.blend",), claims={}, different_host=[first.id, beside.id])

    assert beside.get() == "a.blend, previewed on gpu-1"
    assert away.get() != "a.blend, previewed on gpu-1"


def test_one_call(farm: Cluster) -> None:
    render.apply_async(("a.blend",), claims={"gpus": 2}, exclude=["gpu-1"], expires=3600)
    render.s("b.blend").set(requires="zone == 'a'").delay()
    render.apply_async(("c.blend",), queue="host.gpu-2")

    assert [claim.host for claim in farm.claims] == []


def test_a_method(farm: Cluster) -> None:
    farm.start(FrameStore, hosts=["gpu-3", "cpu-1"])

    stored = FrameStore.store.where("disk == 'ssd' and zone == 'c'", claims={"streams": 1}, exclude="cpu-1").call("f-7")

    assert stored == "f-7, stored on gpu-3"
