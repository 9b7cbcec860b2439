"""A manager of one's own: it keeps the volumes of one host and says how much room is left."""

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar, Protocol

from managers import RequestContext, SchedulerDependentManager


class VolumeDriver(Protocol):
    """Whatever can hold volumes."""

    def open(self) -> None: ...
    def create(self, name: str, size_mb: int) -> None: ...
    def free_mb(self) -> int: ...
    def close(self) -> None: ...


class DirectoryDriver:
    """Keeps each volume as a sparse file in a folder."""

    def __init__(self, folder: str = "/var/lib/volumes") -> None:
        self.folder = Path(folder)

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def create(self, name: str, size_mb: int) -> None:
        with (self.folder / name).open("xb") as volume:
            volume.truncate(size_mb * 2**20)

    def free_mb(self) -> int:
        return shutil.disk_usage(self.folder).free // 2**20

    def close(self) -> None:
        pass


class TemporaryDriver(DirectoryDriver):
    """For trying it out: the volumes go with the process."""

    def __init__(self) -> None:
        super().__init__(tempfile.mkdtemp(prefix="volumes-"))

    def close(self) -> None:
        shutil.rmtree(self.folder)


class VolumeManager(SchedulerDependentManager[VolumeDriver], service_name="volume"):
    """Keeps volumes; who wants one asks it, and never its driver."""

    drivers: ClassVar = {"default": "volume_manager:DirectoryDriver"}

    def init_host(self) -> None:
        self.driver.open()

    def create(self, name: str, size_mb: int) -> None:
        if size_mb > self.driver.free_mb():
            raise ValueError(f"no room for {size_mb} MB on {self.host}: {self.driver.free_mb()} MB are free")
        self.driver.create(name, size_mb)

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        self.update_service_capabilities({"free_mb": self.driver.free_mb()})
        super().periodic_tasks(context)

    def cleanup_host(self) -> None:
        self.driver.close()
