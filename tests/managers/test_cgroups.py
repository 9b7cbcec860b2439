"""The tightest limit of the process's control group and of those above it counts, in every kind of tree."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managers import cgroups

GB = 2**30
NO_LIMIT_V1 = "9223372036854771712"

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
CPU_V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
MEMORY_V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory"
OTHERS = "22 27 0:21 / /proc rw - proc proc rw\n27 1 254:0 / / rw - ext4 /dev/vda rw"


class Tree:
    """A fake of the kernel's files under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc" / "self"
        self.proc.mkdir(parents=True)

    def process(self, *memberships: str, mounts: list[str]) -> None:
        (self.proc / "cgroup").write_text("\n".join(memberships) + "\n")
        (self.proc / "mountinfo").write_text("\n".join([OTHERS, *mounts]) + "\n")

    def group(self, path: str, **files: object) -> None:
        folder = self.root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")

    def cpus(self) -> float | None:
        return cgroups.cpu_limit(root=self.root, proc=self.proc)

    def memory(self) -> int | None:
        return cgroups.memory_limit(root=self.root, proc=self.proc)

    def available(self) -> int | None:
        return cgroups.memory_available(root=self.root, proc=self.proc)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_v2_limits_are_those_of_the_own_group(tree: Tree) -> None:
    tree.process("0::/system.slice/worker", mounts=[V2])
    tree.group("system.slice", cpu_max="max 100000", memory_max="max")
    tree.group("system.slice/worker", cpu_max="150000 100000", memory_max=2 * GB)

    assert tree.cpus() == 1.5
    assert tree.memory() == 2 * GB


def test_a_group_above_with_a_tighter_limit_wins(tree: Tree) -> None:
    tree.process("0::/pod/worker", mounts=[V2])
    tree.group("pod", cpu_max="50000 100000", memory_max=GB)
    tree.group("pod/worker", cpu_max="400000 100000", memory_max=4 * GB)

    assert tree.cpus() == 0.5
    assert tree.memory() == GB


def test_a_limit_only_above_binds_a_group_without_files(tree: Tree) -> None:
    tree.process("0::/pod/worker/deeper", mounts=[V2])
    tree.group("pod", cpu_max="50000 100000", memory_max=GB)

    assert tree.cpus() == 0.5
    assert tree.memory() == GB


def test_the_limits_of_other_groups_do_not_bind(tree: Tree) -> None:
    tree.process("0::/worker", mounts=[V2])
    tree.group("neighbour", cpu_max="10000 100000", memory_max=1)
    tree.group("worker/child", cpu_max="10000 100000", memory_max=1)

    assert tree.cpus() is None
    assert tree.memory() is None
    assert tree.available() is None


def test_max_is_no_limit(tree: Tree) -> None:
    tree.process("0::/worker", mounts=[V2])
    tree.group("worker", cpu_max="max 100000", memory_max="max", memory_current=GB)

    assert (tree.cpus(), tree.memory(), tree.available()) == (None, None, None)


def test_in_a_cgroup_namespace_the_mount_itself_is_the_group(tree: Tree) -> None:
    tree.process("0::/", mounts=[V2])
    tree.group("", cpu_max="200000 100000", memory_max=GB)
    tree.group("..", cpu_max="1 100000", memory_max=1)

    assert tree.cpus() == 2.0
    assert tree.memory() == GB


def test_a_path_that_climbs_out_of_its_namespace_is_bound_by_nothing_seen(tree: Tree) -> None:
    tree.process("0::/../elsewhere", mounts=[V2])
    tree.group("", cpu_max="200000 100000", memory_max=GB)
    tree.group("../elsewhere", cpu_max="200000 100000", memory_max=GB)

    assert (tree.cpus(), tree.memory()) == (None, None)


def test_v1_limits_come_from_each_controllers_own_hierarchy(tree: Tree) -> None:
    tree.process("4:memory:/batch/worker", "2:cpu,cpuacct:/batch", mounts=[CPU_V1, MEMORY_V1])
    tree.group("cpu,cpuacct/batch", cpu_cfs_quota_us=250000, cpu_cfs_period_us=100000)
    tree.group("memory/batch", memory_limit_in_bytes=GB)
    tree.group("memory/batch/worker", memory_limit_in_bytes=3 * GB)

    assert tree.cpus() == 2.5
    assert tree.memory() == GB


def test_v1_minus_one_and_the_huge_sentinel_are_no_limit(tree: Tree) -> None:
    tree.process("4:memory:/worker", "2:cpu,cpuacct:/worker", mounts=[CPU_V1, MEMORY_V1])
    tree.group("cpu,cpuacct/worker", cpu_cfs_quota_us=-1, cpu_cfs_period_us=100000)
    tree.group(
        "memory/worker",
        memory_limit_in_bytes=NO_LIMIT_V1,
        memory_stat=f"inactive_file 5\nhierarchical_memory_limit {NO_LIMIT_V1}",
    )

    assert (tree.cpus(), tree.memory(), tree.available()) == (None, None, None)


def test_v1_tells_of_a_limit_above_the_mount(tree: Tree) -> None:
    tree.process("4:memory:/", mounts=[MEMORY_V1])
    tree.group("memory", memory_limit_in_bytes=NO_LIMIT_V1, memory_stat=f"hierarchical_memory_limit {GB}")

    assert tree.memory() == GB


def test_a_container_without_a_namespace_finds_itself_below_the_mounts_root(tree: Tree) -> None:
    mount = MEMORY_V1.replace("0:32 / ", "0:32 /docker/abc ")
    tree.process("4:memory:/docker/abc/worker", mounts=[mount])
    tree.group("memory", memory_limit_in_bytes=2 * GB)
    tree.group("memory/worker", memory_limit_in_bytes=GB)

    assert tree.memory() == GB


def test_a_mount_of_some_other_group_does_not_count(tree: Tree) -> None:
    tree.process("4:memory:/docker/abc", mounts=[MEMORY_V1.replace("0:32 / ", "0:32 /docker/xyz ")])
    tree.group("memory", memory_limit_in_bytes=GB)

    assert tree.memory() is None


def test_in_a_hybrid_tree_both_kinds_are_asked(tree: Tree) -> None:
    unified = V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    tree.process("4:memory:/worker", "1:name=systemd:/", "0::/user.slice", mounts=[MEMORY_V1, unified])
    tree.group("memory/worker", memory_limit_in_bytes=GB)
    tree.group("unified/user.slice", cpu_max="300000 100000")

    assert tree.cpus() == 3.0
    assert tree.memory() == GB


def test_a_mount_point_with_a_blank_is_found(tree: Tree) -> None:
    tree.process("0::/worker", mounts=[V2.replace("/sys/fs/cgroup ", r"/sys/fs/cgroup/my\040tree ")])
    tree.group("my tree/worker", memory_max=GB)

    assert tree.memory() == GB


def test_available_is_limit_minus_use_without_the_file_cache(tree: Tree) -> None:
    tree.process("0::/worker", mounts=[V2])
    tree.group("worker", memory_max=1000, memory_current=700, memory_stat="anon 500\ninactive_file 200\n")

    assert tree.available() == 500


def test_available_is_that_of_the_fullest_level(tree: Tree) -> None:
    tree.process("0::/pod/worker", mounts=[V2])
    tree.group("pod", memory_max=2000, memory_current=1900)
    tree.group("pod/worker", memory_max=1000, memory_current=100)

    assert tree.available() == 100


def test_available_in_v1_counts_the_cache_of_the_groups_below_too(tree: Tree) -> None:
    tree.process("4:memory:/worker", mounts=[MEMORY_V1])
    stat = "inactive_file 1\ntotal_inactive_file 300"
    tree.group("memory/worker", memory_limit_in_bytes=1000, memory_usage_in_bytes=600, memory_stat=stat)

    assert tree.available() == 700


def test_available_is_never_negative(tree: Tree) -> None:
    tree.process("0::/worker", mounts=[V2])
    tree.group("worker", memory_max=1000, memory_current=1500)

    assert tree.available() == 0


@pytest.mark.parametrize("missing", ["cgroup", "mountinfo"])
def test_without_the_kernels_lists_there_is_no_limit(tree: Tree, missing: str) -> None:
    tree.process("0::/worker", mounts=[V2])
    tree.group("worker", cpu_max="100000 100000", memory_max=GB)
    (tree.proc / missing).unlink()

    assert (tree.cpus(), tree.memory(), tree.available()) == (None, None, None)


def test_a_folder_where_a_file_should_be_is_no_limit(tree: Tree) -> None:
    tree.process("0::/worker", mounts=[V2])
    (tree.root / "sys/fs/cgroup/worker/memory.max").mkdir(parents=True)

    assert tree.memory() is None


@pytest.mark.parametrize("garbage", ["", "x", "100000 0", "1 2 3", "-5 100000", "9" * 5000, "1e5", "max", "٤ ٤", "\0"])
def test_a_garbled_limit_is_no_limit(tree: Tree, garbage: str) -> None:
    tree.process("0::/worker", mounts=[V2])
    tree.group("worker", cpu_max=garbage, memory_max="x" + garbage, memory_stat=garbage)

    assert (tree.cpus(), tree.memory(), tree.available()) == (None, None, None)


@pytest.fixture(scope="module")
def garbled(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("garbled"))


FIELDS = st.sampled_from(
    ["0", "::", ":", "/", "/..", "..", "-", "cgroup2", "cgroup", "cpu", "memory", " ", "\n", "\\040", "\0"]
)


@given(st.lists(FIELDS, max_size=30), st.lists(FIELDS, max_size=30), st.text())
@settings(deadline=None)  # reads files
def test_garbled_lists_never_raise(garbled: Tree, memberships: list[str], mounts: list[str], text: str) -> None:
    garbled.process("".join(memberships), text, mounts=["".join(mounts), " ".join(mounts), text])

    garbled.cpus()
    garbled.memory()
    garbled.available()


def test_this_machines_own_tree_is_read() -> None:
    cpus, memory, available = cgroups.cpu_limit(), cgroups.memory_limit(), cgroups.memory_available()

    assert cpus is None or cpus > 0
    assert (memory is None) == (available is None)
    assert memory is None or 0 <= available <= memory
