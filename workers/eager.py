"""Reporting outside a worker: in eager mode, and wherever a process asks for a manager of its own."""

from collections.abc import Callable
from typing import Any

from celery import Celery

from managers.manager import SchedulerDependentManager
from managers.reports import send_report
from scheduler.errors import NameTaken
from workers.membership import Membership
from workers.reports import HostReports


class OneByOne:
    """Sends each manager's report by itself: outside a worker nobody gathers those of the whole host.

    A process that reports is its own host: it takes the name with the first report and beats with each further one.
    """

    def __init__(self, app: Celery, membership: Callable[[str], Membership]) -> None:
        self._app = app
        self._membership = membership
        self._joined: dict[str, tuple[Membership, HostReports]] = {}

    def report(self, manager: SchedulerDependentManager[Any]) -> None:
        """Send what *manager* remembers, as the task that carries reports.

        Raises:
            NameTaken: a live worker holds this (service, host).
            TableUnavailable: the table's Redis doesn't answer.
        """
        service = manager.service_name
        if service not in self._joined:
            membership = self._membership(service)
            membership.join(lambda _: True)
            self._joined[service] = membership, HostReports(membership, {service: manager})
        elif self._joined[service][0].beat()[1] == "replaced":
            raise NameTaken(f"another process is {service!r} on host {manager.host!r} by now")
        send_report(self._app, self._joined[service][1].next())
