"""Limits of the control group that this process is in, whichever of cgroup v1, v2 or both the kernel speaks.

``/proc/self/cgroup`` names the process's group in each hierarchy, ``/proc/self/mountinfo`` says where that hierarchy is
mounted and from which group down. A group is bound by its own limits and by those of every group above it, so the
tightest one counts; limits above the mount (a container's parents) can't be seen, except through v1's memory.stat.
Everything is read anew on each call, since limits change under running processes. A tree that is missing,
unreadable or garbage has no limits: nothing here raises.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
PROC = Path("/proc/self")

#: Bytes, or microseconds, that nobody has: v1 writes "no limit" as the largest long, rounded down to a page.
UNLIMITED = 2**53

_NUMBER = re.compile(r"[0-9]{1,19}")
_OCTAL = re.compile(r"\\([0-7]{3})")


def cpu_limit(*, root: Path = ROOT, proc: Path = PROC) -> float | None:
    """Return how many CPUs' worth of time the process may use (1.5 is one and a half), or None without a limit.

    Only the quota: the set of CPUs it may run on is its affinity. Mount points are looked up below ``root``.
    """
    limits = []
    for group in _groups("cpu", root, proc):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        quota = quota or _read(group / "cpu.cfs_quota_us")
        period = period or _read(group / "cpu.cfs_period_us")
        if (share := _number(quota)) and (whole := _number(period)):
            limits.append(share / whole)
    return min(limits, default=None)


def memory_limit(*, root: Path = ROOT, proc: Path = PROC) -> int | None:
    """Return how many bytes the process and its neighbours in the group may use, or None without a limit."""
    return min((limit for group in _groups("memory", root, proc) for limit in _memory_limits(group)), default=None)


def memory_available(*, root: Path = ROOT, proc: Path = PROC) -> int | None:
    """Return how many bytes the group may still take, or None without a limit; the fullest level counts.

    File cache that the kernel drops first (``inactive_file``) counts as free, as kubectl counts it:
    otherwise every group that reads files would soon look full.
    """
    left = []
    for group in _groups("memory", root, proc):
        stat = _stat(group)
        cache = stat.get("total_inactive_file", stat.get("inactive_file", 0))
        used = _number(_read(group / "memory.current") or _read(group / "memory.usage_in_bytes")) or 0
        left += [max(0, limit - max(0, used - cache)) for limit in _memory_limits(group)]
    return min(left, default=None)


def _memory_limits(group: Path) -> list[int]:
    own = _number(_read(group / "memory.max") or _read(group / "memory.limit_in_bytes"))
    inherited = _stat(group).get("hierarchical_memory_limit")
    return [limit for limit in (own, inherited) if limit is not None]


def _groups(controller: str, root: Path, proc: Path) -> Iterator[Path]:
    """Yield the folders of the process's group and of all above it, in every mounted hierarchy with ``controller``."""
    memberships = [line.split(":", 2) for line in _read(proc / "cgroup").splitlines() if line.count(":") >= 2]
    for line in _read(proc / "mountinfo").splitlines():
        mount, _, filesystem = line.partition(" - ")
        place, kind = mount.split(" "), filesystem.split(" ")
        if len(place) < 5 or len(kind) < 3 or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        is_v2 = kind[0] == "cgroup2"
        if not is_v2 and controller not in kind[2].split(","):
            continue
        top, point = PurePosixPath(_unescape(place[3])), root / _unescape(place[4]).lstrip("/")
        for _, controllers, path in memberships:
            is_member = controllers == "" if is_v2 else controller in controllers.split(",")
            if is_member and PurePosixPath(path).is_relative_to(top):
                below = PurePosixPath(path).relative_to(top)
                # A process outside its cgroup namespace has a path that climbs: this mount isn't above it.
                if ".." not in below.parts:
                    folder = point / below
                    yield from (folder, *folder.parents[: len(below.parts)])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except (OSError, ValueError):
        return ""


def _stat(group: Path) -> dict[str, int]:
    lines = (line.partition(" ") for line in _read(group / "memory.stat").splitlines())
    return {name: value for name, _, text in lines if (value := _number(text)) is not None}


def _number(text: str) -> int | None:
    """Return ``text`` as a number, or None for "max", -1, v1's huge sentinel and garbage."""
    number = int(text) if _NUMBER.fullmatch(text) else UNLIMITED
    return number if number < UNLIMITED else None


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes of blanks."""
    return _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), field)
