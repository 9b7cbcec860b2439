"""Reporting outside a worker: in eager mode, and wherever a process asks for a manager of its own."""

from collections.abc import Callable
from typing import Any

from celery import Celery

from managers.manager import SchedulerDependentManager
from managers.reports import Report, send_report
from workers.membership import Membership


class OneByOne:
    """Sends each manager's report by itself: outside a worker nobody gathers those of the whole host.

    A process that reports is its own host: it takes the name with the first report and beats with each further one.
    """

    def __init__(self, app: Celery, membership: Callable[[str], Membership]) -> None:
        self._app = app
        self._membership = membership
        self._joined: dict[str, tuple[Membership, int]] = {}

    def report(self, manager: SchedulerDependentManager[Any]) -> None:
        """Send what *manager* remembers, as the task that carries reports.

        Raises:
            NameTaken: a live worker holds this (service, host).
            TableUnavailable: the table's Redis doesn't answer.
        """
        service = manager.service_name
        membership, sequence = self._joined.get(service, (None, 0))
        if membership is None:
            membership = self._membership(service)
            membership.join(lambda _: True)
        else:
            membership.beat()
        self._joined[service] = membership, sequence + 1
        send_report(
            self._app,
            Report(
                host=manager.host,
                boot=membership.boot,
                sequence=sequence + 1,
                interval=membership.identity.interval,
                version=membership.identity.version,
                services={service: manager.last_capabilities},
            ),
        )
