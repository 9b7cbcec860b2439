"""The reports of one life of one host: numbered, each with all of its services."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from managers.errors import InvalidReport
from managers.manager import Manager, SchedulerDependentManager
from managers.reports import Capabilities, Report, check_capabilities, fit_claims
from workers.membership import Membership

logger = logging.getLogger(__name__)


class HostReports:
    """Composes what *managers*, by service, remember at the moment of asking; not thread-safe.

    *clock* is the fleet's; *running* returns the claims that the host holds, where somebody knows them.
    """

    def __init__(
        self,
        membership: Membership,
        managers: Mapping[str, Manager[Any]],
        *,
        clock: Callable[[], float] = time.time,
        running: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._clock = clock
        self._running = running
        self._membership = membership
        self._managers = managers
        self._sequence = 0

    def next(self) -> Report:
        """Return the next report; a manager whose memory can't be read or sent is reported as merely alive."""
        self._sequence += 1
        identity = self._membership.identity
        return Report(
            host=self._membership.host,
            boot=self._membership.boot,
            sequence=self._sequence,
            interval=identity.interval,
            version=identity.version,
            services={service: _known(manager) for service, manager in self._managers.items()},
            at=self._clock(),
            claims=None if self._running is None else fit_claims(self._running(), self._membership.host),
        )


def _known(manager: Manager[Any]) -> Capabilities | None:
    if not isinstance(manager, SchedulerDependentManager):
        return None
    try:
        known = manager.last_capabilities
        return known if known is None else check_capabilities(manager.service_name, known)
    except InvalidReport as error:
        logger.error("%s reports only liveness: %s", manager, error)  # noqa: TRY400
    except Exception:
        logger.exception("%s reports only liveness: what it remembers can't be read", manager)
    return None
