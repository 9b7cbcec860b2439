"""The manager of service ``host``: what this machine can do, and what its operator says of it."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from managers.context import RequestContext
from managers.manager import SchedulerDependentManager
from managers.reports import Value


class HostDriver(Protocol):
    """Measures the machine."""

    def capabilities(self) -> Mapping[str, Value]:
        """Return what the machine has and is, now; never raises."""
        ...


class HostManager(SchedulerDependentManager[HostDriver], service_name="host"):
    """Reports what the machine has, how many tasks its worker runs at once (``slots``), and the operator's labels.

    A label of the same name as a measured key wins: the operator may know better. ``slots`` and ``labels`` are the
    worker's to set.
    """

    drivers: ClassVar[Mapping[str, str]] = {"default": "managers.machine:Machine"}

    def __init__(self, host: str | None = None, db_driver: str | None = None, *, driver: Any = None) -> None:
        super().__init__(host, db_driver, driver=driver)
        #: How many tasks the worker runs at once; None outside a worker.
        self.slots: int | None = None
        #: What the operator says of this host.
        self.labels: Mapping[str, Value] = {}

    def init_host(self) -> None:
        """Measure once, so that the first report already says what is here."""
        self.measure()

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        """Measure, then report."""
        self.measure()
        super().periodic_tasks(context)

    def measure(self) -> None:
        """Remember what the machine has now."""
        slots = {} if self.slots is None else {"slots": self.slots}
        self.update_service_capabilities({**self.driver.capabilities(), **slots, **self.labels})
