"""A worker's names in the capability table: taken at start, kept by heartbeats, given back at the end.

One host, one name: whoever asks for a (service, host) that another live worker holds is refused. Dead or alive is told
so: a holder on this machine whose process is gone is dead; one elsewhere is alive if it beats while we watch, and dead
when it is stale. A worker that was frozen and finds its names in other hands is told "replaced" and must stop.
"""

import logging
import os
import platform
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from scheduler.errors import NameTaken
from scheduler.hosts import Identity, Joined, Refusal, member_of, split_member
from scheduler.table import Table

logger = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


class Membership:
    """The names that one life of one worker holds; *wait(seconds)* is how it waits, True when it shall give up."""

    def __init__(
        self,
        table: Table,
        *,
        host: str,
        services: Sequence[str],
        heartbeat_interval: float,
        interval: float,
        version: str,
    ) -> None:
        self.table = table
        self.host = host
        self.members = tuple(member_of(service, host) for service in services)
        self.boot = 0
        self.identity = Identity(
            instance=uuid.uuid4().hex,
            machine=machine_id(),
            pid=os.getpid(),
            pid_started=_started(psutil.Process()),
            version=version,
            heartbeat_interval=heartbeat_interval,
            interval=interval,
        )

    def join(self, wait: Callable[[float], bool]) -> Joined:
        """Take the names; may wait until a silent holder is stale.

        Raises:
            NameTaken: another live worker holds one of them, or *wait* said to give up.
            TableUnavailable: Redis doesn't answer.
        """
        dead: set[str] = set()
        stale_at: dict[str, float] = {}
        while True:
            answer = self.table.join(self.identity, self.members, boot=self.boot, replaces=dead)
            if isinstance(answer, Joined):
                self.boot = answer.boot
                return answer
            holder = answer.holder
            if is_dead(holder):
                logger.info("%s was held by pid %d, which is gone; taking over", answer.member, holder.pid)
                dead.add(holder.instance)
                continue
            until = answer.now + answer.stale_in
            if until > stale_at.get(answer.member, until) + 0.001:
                raise NameTaken(self._taken(answer))
            if answer.member not in stale_at:
                stale_at[answer.member] = until
                logger.warning(
                    "%s is held by pid %d on %s; watching whether it still beats",
                    answer.member,
                    holder.pid,
                    holder.machine,
                )
            if wait(min(answer.stale_in, holder.heartbeat_interval / 2) + 0.05):
                raise NameTaken(self._taken(answer))

    def beat(self) -> tuple[float, str]:
        """Say that this worker is there; return Redis's time and "ok", "joined" (Redis had forgotten) or "replaced"."""
        now, word = self.table.heartbeat(self.identity.instance, self.identity.heartbeat_interval, self.members)
        if word != "unknown":
            return now, word
        answer = self.table.join(self.identity, self.members, boot=self.boot)
        return (answer.now, "joined") if isinstance(answer, Joined) else (now, "replaced")

    def drain(self, reason: str) -> None:
        """Say that this worker takes no new work."""
        self.table.drain(self.identity.instance, self.members, reason)

    def leave(self) -> None:
        """Give the names back."""
        self.table.leave(self.identity.instance, self.members)

    def _taken(self, refusal: Refusal) -> str:
        service, host = split_member(refusal.member)
        holder = refusal.holder
        return (
            f"another live worker is {service!r} on host {host!r}: pid {holder.pid} on machine {holder.machine}."
            f" One host, one name: set CELERIAC_HOST to another name, or stop that worker"
        )


def machine_id() -> str:
    """Return what names this machine's current boot and process table, so that a pid means something."""
    try:
        return f"{platform.node()}:{_BOOT_ID.read_text().strip()[:8]}:{_PID_NAMESPACE.stat().st_ino}"
    except OSError:
        return platform.node()


def is_dead(holder: Identity) -> bool:
    """Say whether *holder* is known to be dead: it was on this machine, and its process is gone."""
    if holder.machine != machine_id():
        return False
    try:
        process = psutil.Process(holder.pid)
        return process.status() == psutil.STATUS_ZOMBIE or abs(_started(process) - holder.pid_started) > 1
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _started(process: psutil.Process) -> float:
    """Return the seconds from the machine's boot to the process's start; no step of the wall clock moves them."""
    return round(process.create_time() - psutil.boot_time(), 2)
