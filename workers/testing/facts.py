"""Hosts that report what a test says."""

from collections.abc import Mapping

from managers.context import RequestContext
from managers.manager import SchedulerDependentManager
from managers.reports import Value


class Facts:
    """A driver that measures nothing: *capabilities* are what the test said last."""

    def __init__(self, capabilities: Mapping[str, Value]) -> None:
        self.said = dict(capabilities)

    def capabilities(self) -> Mapping[str, Value]:
        """Return what the test said."""
        return self.said


class FactsManager(SchedulerDependentManager[Facts]):
    """Reports the facts of its driver, and does nothing else; a subclass for each service."""

    def init_host(self) -> None:
        """Have the first report say it."""
        self.measure()

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        """Say it again."""
        self.measure()
        super().periodic_tasks(context)

    def measure(self) -> None:
        """Remember what the test said."""
        self.update_service_capabilities(self.driver.capabilities())


def facts_manager(service: str) -> type[FactsManager]:
    """Return a manager of *service* that reports facts."""

    class ServiceFacts(FactsManager, service_name=service):
        pass

    return ServiceFacts
