"""The label printer of a packing station: a manager on each station's host."""

from pathlib import Path
from typing import ClassVar, Protocol

from managers import SchedulerDependentManager, expose, periodic_task


class PrinterDriver(Protocol):
    def print(self, text: str) -> None: ...
    def labels_left(self) -> int: ...
    def clean(self) -> None: ...


class FolderPrinter:
    """Prints each label into a file, for stations whose printer isn't here yet."""

    def __init__(self) -> None:
        self.folder = Path("labels")

    def print(self, text: str) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{len(list(self.folder.iterdir()))}.txt").write_text(text, encoding="utf-8")

    def labels_left(self) -> int:
        return 500 - len(list(self.folder.glob("*.txt")))

    def clean(self) -> None:
        for label in self.folder.glob("*.tmp"):
            label.unlink()


class PrinterManager(SchedulerDependentManager[PrinterDriver], service_name="printer"):
    drivers: ClassVar = {"default": "shop.printers:FolderPrinter"}

    @expose
    def print_label(self, order: int, address: str) -> str:
        self.driver.print(f"{order}\n{address}\n")
        return f"order {order} printed on {self.host}"

    @periodic_task(spacing=0)  # on every tick
    def look(self) -> None:
        self.update_service_capabilities({"labels_left": self.driver.labels_left()})

    @periodic_task(spacing=3600, run_immediately=True)
    def clean(self) -> None:
        self.driver.clean()
