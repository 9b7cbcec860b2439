"""The host's report: one message per period with all its services, sent when their periodic runs are over."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from managers.manager import Manager
from managers.periods import Tick
from managers.reports import send_report
from scheduler.clock import FleetClock
from workers.membership import Membership
from workers.reports import HostReports

logger = logging.getLogger(__name__)

#: The part of an interval that a report waits for the slowest service, and the seconds it waits at most.
PATIENCE = 0.25
MOST_PATIENCE = 5.0


class Reporting:
    """Gathers what the managers of this host remember and sends it, in a thread of the worker's main process.

    ``expect`` is told of each new period, ``ran`` of each service whose run is over: when all are, or patience ends,
    the report goes out. A service whose run failed or still lasts is reported with what it last remembered.
    """

    def __init__(
        self,
        app: Celery,
        membership: Membership,
        clock: FleetClock,
        *,
        managers: Mapping[str, Manager[Any]],
        running: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._app = app
        self._membership = membership
        self._clock = clock
        self._managers = managers
        self._reports = HostReports(membership, managers, clock=clock.now, running=running)
        self._is_asked = False
        self._due_at: float | None = None
        self._awaited: set[str] = set()
        self._period: float = float("-inf")
        self._latest_runs: dict[str, float] = {}
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="celeriac-reporting", daemon=True)

    def start(self) -> None:
        """Send what falls due from now on."""
        self._thread.start()

    def soon(self) -> None:
        """Send a report at once, outside any period: at the start, and when the table was emptied."""
        with self._changed:
            self._is_asked = True
            self._changed.notify()

    def expect(self, tick: Tick, offset: float) -> None:
        """Note that a period has begun and its report will be due."""
        with self._changed:
            begins = tick.due_at(0)
            if begins > self._period:
                self._period = begins
                # a short run may be over before its tick is noted here
                self._awaited = {name for name in self._managers if self._latest_runs.get(name, begins - 1) < begins}
                patience = min(PATIENCE * tick.interval, MOST_PATIENCE) if self._awaited else 0.0
                self._due_at = max(self._clock.now(), tick.due_at(offset)) + patience
                self._changed.notify()

    def ran(self, service: str, tick: Tick) -> None:
        """Note that *service*'s run for this period is over."""
        with self._changed:
            self._latest_runs[service] = tick.due_at(0)
            if tick.due_at(0) == self._period:
                self._awaited.discard(service)
                if not self._awaited and self._due_at is not None:
                    self._due_at = self._clock.now()
                    self._changed.notify()

    def stop(self) -> None:
        """Send no more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def _run(self) -> None:
        while self._wait():
            try:
                self._send()
            except (KombuError, OSError) as error:
                logger.error("report of %s not sent: %s; the next period's goes out anew", self._membership.host, error)  # noqa: TRY400
            except Exception:
                logger.exception("report of %s not sent; the next period's goes out anew", self._membership.host)

    def _wait(self) -> bool:
        with self._changed:
            while not self._stopping:
                if self._is_asked:
                    self._is_asked = False
                    return True
                if self._due_at is None:
                    self._changed.wait()
                elif (remaining := self._due_at - self._clock.now()) > 0:
                    self._changed.wait(remaining)
                else:
                    self._due_at = None
                    return True
            return False

    def _send(self) -> None:
        report = self._reports.next()
        send_report(self._app, report)
        logger.debug("report %d of %s sent", report.sequence, report.host)
