"""Managers that write down what is asked of them, and what a cluster's table says of their hosts."""

from typing import Any

from managers import RequestContext, SchedulerDependentManager
from workers.testing import Cluster


class Probe(SchedulerDependentManager[Any], service_name="probe"):
    """Writes down what is asked of it, and reports what a test puts into ``facts``."""

    def __init__(self, host: str | None = None, db_driver: str | None = None, *, driver: Any = None) -> None:
        super().__init__(host, db_driver, driver=driver)
        self.calls: list[str] = []
        self.contexts: list[RequestContext | None] = []
        self.facts: Any = {"size": 1}
        self.fault: Exception | None = None

    def init_host(self) -> None:
        self.calls.append("init_host")

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        self.calls.append("periodic_tasks")
        self.contexts.append(context)
        if self.fault is not None:
            raise self.fault
        if self.facts != self.last_capabilities:
            self.update_service_capabilities(self.facts)
        super().periodic_tasks(context)

    def cleanup_host(self) -> None:
        self.calls.append("cleanup_host")


class Other(SchedulerDependentManager[None], service_name="other"):
    def init_host(self) -> None:
        self.update_service_capabilities({"colour": "red"})


class Driver:
    """Nothing but an instance of its own."""


def capabilities(cluster: Cluster, host: str) -> dict[str, Any]:
    return {row.service: dict(row.capabilities) for row in cluster.table.host(host)}


def reports(cluster: Cluster, host: str) -> list[dict[str, Any]]:
    sent = [message.args[0] for message in cluster.sent if message.task == "scheduler.update_service_capabilities"]
    return [report for report in sent if report["host"] == host]


def states(cluster: Cluster) -> dict[str, str]:
    return {row.host: row.state for row in cluster.hosts("probe")}
