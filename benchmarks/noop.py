"""Both sides of the calls' benchmark in one worker: an exposed method that does nothing, and a task that does."""

from celery import shared_task

from managers import Manager, expose


class NoopManager(Manager[None], service_name="noop"):
    """Owns nothing."""

    @expose
    def noop(self) -> None:
        """Do nothing."""


@shared_task(name="bare")
def bare() -> None:
    """Do nothing."""
