"""The bootstep by which managers live with their worker."""

import logging
from typing import Any

from celery import bootsteps
from celery.platforms import EX_FAILURE
from celery.worker import state

from managers.routing import host_queue, service_queue
from workers.errors import InvalidSettings
from workers.lifecycle import Lifecycle
from workers.methods import refuse_taken_names
from workers.placed import tell_every_end
from workers.registry import registry_of
from workers.stopping import Stopping

logger = logging.getLogger(__name__)

#: The attribute of a worker that holds its host's life.
LIFECYCLE = "celeriac_lifecycle"


class HostStep(bootsteps.StartStopStep):
    """Holds the host's managers: alive before anything is consumed, gone after the pool's last task."""

    requires = ("celery.worker.components:Pool",)
    label = "Host"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        registry = registry_of(worker.app)
        registry.enter_worker()
        queues = worker.app.amqp.queues
        # as configured: -Q has added what it names by now, a service's queue too, with the application's own exchange
        configured = worker.app.amqp.Queues(worker.app.conf.task_queues)
        for service in registry.managers:
            _refuse_collision(configured, service)
            refuse_taken_names(worker.app, registry.managers[service])
        for service in registry.services:
            for queue in (service_queue(service), host_queue(service, registry.settings.host)):
                # not by select_add: it would give the queue the application's own exchange and arguments
                dict.__setitem__(queues, queue.name, queue)
                queues.consume_from[queue.name] = queue
        # a worker that doesn't run a service must not take its work, not even through Celery's default queue
        queues.deselect([service for service in registry.managers if service not in registry.services])

    def start(self, parent: Any) -> None:
        """Start the managers; a failure stops the worker with its reason and a non-zero exit status."""
        registry = registry_of(parent.app)
        if not parent.pool_cls.__module__.endswith(("prefork", "thread", "gevent", "eventlet")):
            logger.warning(
                "the %s pool runs tasks in the main thread: a busy host can't tick. Use it for development only",
                parent.pool_cls.__module__.rpartition(".")[2],
            )
        if not parent.pool.uses_semaphore:
            tell_every_end(parent.pool)
        lifecycle = Lifecycle(registry, slots=_slots(parent), on_replaced=_stop_worker, is_stopping=_is_stopping)
        setattr(parent, LIFECYCLE, lifecycle)
        try:
            lifecycle.start()
        except Exception as error:
            logger.critical("host %s can't start: %s: %s", registry.settings.host, type(error).__name__, error)
            logger.debug("host %s can't start", registry.settings.host, exc_info=True)
            parent.pool.terminate()
            raise SystemExit(EX_FAILURE) from error
        self._stopping = Stopping(parent, lifecycle)

    def close(self, parent: Any) -> None:  # noqa: ARG002
        """Say that the host drains, and end or hand back what runs."""
        self._stopping.close()

    def stop(self, parent: Any) -> None:
        """End the host's life once the pool has finished its last task."""
        try:
            self._stopping.join()
        finally:  # whatever the pool stumbles over, the host is cleaned up
            getattr(parent, LIFECYCLE).stop()

    def terminate(self, parent: Any) -> None:
        """Leave at once: the operator is in a hurry."""
        try:
            self._stopping.join()
        finally:
            getattr(parent, LIFECYCLE).leave()


def _refuse_collision(queues: Any, service: str) -> None:
    known = dict.get(queues, service)
    if known is not None and known.exchange is not None and known.exchange.name:
        raise InvalidSettings(
            f"the application has a queue of its own named {service!r}, which is the queue of the service {service!r};"
            " give one of them another name"
        )


def _slots(worker: Any) -> int:
    """Return how many tasks *worker* runs at once, at most where it scales itself."""
    if worker.pool_cls.__module__.endswith("solo"):
        return 1
    return int(worker.max_concurrency or worker.concurrency)


def _is_stopping() -> bool:
    """Say whether a signal asked the worker to stop."""
    return state.should_stop is not None or state.should_terminate is not None


def _stop_worker() -> None:
    """Ask the worker's main loop to stop; called in another thread."""
    state.should_stop = EX_FAILURE  # type: ignore[assignment]  # it is an exit status
