"""A manager of one's own: it owns the ports of one host's switch."""

import logging
from datetime import timedelta
from typing import Protocol

from managers import SchedulerDependentManager, current_context, expose, periodic_task

logger = logging.getLogger(__name__)


class Switch(Protocol):
    """Whatever has ports."""

    def attach(self, port: int) -> None: ...
    def detach(self, port: int) -> None: ...
    def attached(self) -> set[int]: ...
    def self_test(self) -> None: ...


class NetworkManager(SchedulerDependentManager[Switch], service_name="network"):
    @expose
    def attach(self, port: int) -> str:
        context = current_context()
        logger.info("%s attaches port %d", context and context.user, port)
        self.driver.attach(port)
        return f"{self.host}:{port}"

    @expose(acks_late=True, autoretry_for=(OSError,), retry_kwargs={"max_retries": 3, "countdown": 10}, time_limit=60)
    def detach(self, port: int) -> None:
        self.driver.detach(port)

    @periodic_task(spacing=0)
    def count(self) -> None:
        self.update_service_capabilities({"ports_used": len(self.driver.attached())})

    @periodic_task(spacing=timedelta(hours=1), run_immediately=True)
    def reset_unused(self) -> None:
        for port in sorted({1, 2, 3, 4} - self.driver.attached()):
            self.driver.detach(port)

    @periodic_task(spacing=timedelta(hours=4), pool=True)
    def self_test(self) -> None:
        self.driver.self_test()

    @periodic_task(spacing=600, scope="fleet")
    def announce(self) -> None:
        logger.info("the network is looked after; today's voice is %s", self.host)
