"""The scheduler: the manager that keeps the capability table."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from managers.context import RequestContext
from managers.errors import InvalidReport
from managers.manager import Manager
from managers.reports import Report
from scheduler.claims import Claims
from scheduler.errors import TableUnavailable
from scheduler.hosts import member_of, split_member
from scheduler.table import Table

logger = logging.getLogger(__name__)


class SchedulerManager(Manager[None], service_name="scheduler"):
    """Turns reports into rows of the table and forgets the dead; any number of hosts may run one at once.

    They share nothing but Redis: a report is idempotent and newest wins, whichever of them takes it.
    """

    def __init__(
        self, host: str | None = None, db_driver: str | None = None, *, driver: Any = None, table: Table
    ) -> None:
        super().__init__(host, db_driver, driver=driver)
        self.table = table
        self.claims = Claims(table)
        self._refused = 0

    def update_service_capabilities(self, reports: Iterable[object]) -> Counter[str]:
        """Store *reports*, decoded JSON of unknown origin, in one round trip; return how many rows had which fate.

        The fates: "stored", "old", "unknown" and "refused". A bad report costs a log line that names its sender and the
        fault, and stops none of the others.

        Raises:
            TableUnavailable: nothing was stored; the reports may be given again.
        """
        valid: list[Report] = []
        faults: list[str] = []
        for values in reports:
            try:
                valid.append(Report.from_dict(values))
            except InvalidReport as error:
                faults.append(str(error))
        fates: Counter[str] = Counter()
        heard: dict[int, tuple[Report, list[str]]] = {}
        for report, service, word in self.table.store(valid):
            fates[word] += 1
            if word in {"stored", "old"} and report.claims is not None:
                heard.setdefault(id(report), (report, []))[1].append(member_of(service, report.host))
            if word == "unknown":
                logger.warning(
                    "report from %r refused: it speaks for %s as of boot %d, and no live worker of that host does",
                    report.host, service, report.boot,
                    extra={"host": report.host, "service": service},
                )  # fmt: skip
            elif word == "old":
                logger.debug("report %d from %r about %s is late or repeated", report.sequence, report.host, service)
        for report, members in heard.values():
            self._reconcile(report, members)
        for fault in faults:
            fates["refused"] += 1
            self.refuse(fault)
        self._count_refused()
        return fates

    def _reconcile(self, report: Report, members: Sequence[str]) -> None:
        """Make the table's claims what the host says that it holds."""
        try:
            adopted, dropped, repaired = self.claims.reconcile(
                report.host, report.boot, report.at, report.claims or (), members
            )
        except TableUnavailable as error:
            logger.warning("the claims of %s are not compared: %s", report.host, error)  # the next report's are
            return
        if adopted or dropped or repaired:
            logger.warning(
                "claims of %s were not what it holds: %d added, %d ended, %d sums repaired",
                report.host, adopted, dropped, repaired,
                extra={"host": report.host},
            )  # fmt: skip

    def refuse(self, why: str) -> None:
        """Say why a message can't become a row; it is counted with the next batch that is stored."""
        logger.warning("%s", why)
        self._refused += 1

    def _count_refused(self) -> None:
        """Count what was refused, if Redis answers: what is stored is stored either way."""
        try:
            self.table.count("reports_refused", self._refused)
        except TableUnavailable as error:
            logger.warning("%d refused reports are not counted yet: %s", self._refused, error)
        else:
            self._refused = 0

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        """Forget dead hosts, as a scheduler that places does more often."""
        super().periodic_tasks(context)
        self.prune()

    def prune(self) -> None:
        """Forget the hosts that have missed 6 heartbeats, and say which."""
        for member, identity in self.table.prune():
            service, host = split_member(member)
            logger.warning(
                "pruned %s on %s: no heartbeat of %s for 6 intervals",
                service, host, "anybody" if identity is None else f"pid {identity.pid} on {identity.machine}",
                extra={"host": host, "service": service},
            )  # fmt: skip
