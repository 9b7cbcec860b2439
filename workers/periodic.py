"""Periodic tasks that are too heavy for a tick: tasks of the pool, on their own host's queue."""

import logging
from typing import Any

from celery import Celery

from managers.manager import Manager
from managers.periodic import PeriodicTask, periodic_tasks_of
from workers.methods import entered
from workers.registry import Registry
from workers.remote import MethodTask

logger = logging.getLogger(__name__)


def register_periodic_tasks(app: Celery, registry: Registry, manager_class: type[Manager[Any]]) -> None:
    """Register a task with *app* for each periodic task of *manager_class* that says ``pool=True``."""
    service = manager_class.service_name
    for task in periodic_tasks_of(manager_class):
        if task.pool:
            _register(app, registry, service, task)


def _register(app: Celery, registry: Registry, service: str, task: PeriodicTask) -> None:
    name = task.celery_name(service)

    def run() -> None:
        with entered(registry, name), registry.alone(service, task.name) as is_alone:
            manager = registry.own(service)
            if is_alone:
                manager.schedule.run(task)
            else:
                logger.warning(
                    "%s of %s still runs since an earlier period; this one is skipped", task.name, manager,
                    extra={"host": manager.host, "service": service},
                )  # fmt: skip

    app.task(name=name, base=MethodTask, shared=False, ignore_result=True, service=service)(run)
