"""A manager of one's own: it keeps the volumes of one host and says how much room is left."""

import os
import shutil
from pathlib import Path
from typing import ClassVar, Protocol

from managers import SchedulerDependentManager, expose, periodic_task


class VolumeDriver(Protocol):
    """Whatever can hold volumes; each process of a host has one of its own, ready for use when it is made."""

    def prepare(self) -> None: ...  # the host's place for volumes, not this object: called once per host
    def create(self, name: str, size_mb: int) -> None: ...
    def free_mb(self) -> int: ...
    def clean_up(self) -> None: ...  # once per host, too


class DirectoryDriver:
    """Keeps each volume as a sparse file in a folder."""

    def __init__(self, folder: str = "/var/lib/volumes") -> None:
        self.folder = Path(folder)

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def create(self, name: str, size_mb: int) -> None:
        with (self.folder / name).open("xb") as volume:
            volume.truncate(size_mb * 2**20)

    def free_mb(self) -> int:
        return shutil.disk_usage(self.folder).free // 2**20

    def clean_up(self) -> None:
        pass


class TemporaryDriver(DirectoryDriver):
    """For trying it out: in the fleet's state directory, emptied at each start."""

    def __init__(self) -> None:
        state = os.environ.get("CELERIAC_DIR", ".celeriac")
        super().__init__(f"{state}/volumes/{os.environ.get('CELERIAC_HOST', 'here')}")

    def prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        super().prepare()


class VolumeManager(SchedulerDependentManager[VolumeDriver], service_name="volume"):
    """Keeps volumes; who wants one asks it, and never its driver."""

    drivers: ClassVar = {"default": "volume_manager:DirectoryDriver"}

    def init_host(self) -> None:  # in the main process only: what it does must show in the others too
        self.driver.prepare()

    @expose
    def create(self, name: str, size_mb: int) -> str:
        if size_mb > self.driver.free_mb():
            raise ValueError(f"no room for {size_mb} MB on {self.host}: {self.driver.free_mb()} MB are free")
        self.driver.create(name, size_mb)
        return f"{self.host}:{name}"

    @periodic_task(spacing=0)
    def measure(self) -> None:
        self.update_service_capabilities({"free_mb": self.driver.free_mb()})

    def cleanup_host(self) -> None:
        self.driver.clean_up()
