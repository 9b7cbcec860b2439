"""Gives Celeriac to a Celery application: its own one, or one that existed before."""

import signal
from collections.abc import Iterable
from typing import Any

from billiard import current_process
from celery import Celery, current_app
from celery.signals import worker_process_init

from managers.db import engine
from managers.drivers import load_class
from managers.manager import Manager
from workers.beat import add_entries
from workers.config import PREFIX, Settings, load_settings
from workers.errors import InvalidSettings
from workers.intake import register_reports
from workers.orphans import die_with_parent
from workers.registry import Registry, adopt
from workers.steps import HostStep, TicksStep
from workers.ticks import register_tick


def celeriac_app(
    app: Celery, *, managers: Iterable[type[Manager[Any]]] = (), settings: Settings | None = None
) -> Celery:
    """Give *app* its managers and return it: those of the setting MANAGERS, then *managers*.

    The application's own queues, routes, serializer and schedule stay as they are. Its workers run the managers' hosts,
    its beats tick them. Connects to nothing.

    Raises:
        AlreadyAdopted: *app* was given here before.
        InvalidSettings: a CELERIAC_ setting can't be used.
        UnknownService: two managers claim one service, or SERVICES names one that nobody manages.
    """
    settings = settings or load_settings()
    if app.conf.broker_url and "broker_url" not in settings.model_fields_set:
        settings = settings.model_copy(update={"broker_url": app.conf.broker_url})
    registry = Registry(app, settings, dict.fromkeys((*_named(settings.managers), *managers)))
    equip(app, registry)
    engine.use(settings.database_address)

    def on_pool_child(**_: Any) -> None:
        if current_app._get_current_object() is not app:  # type: ignore[attr-defined]  # noqa: SLF001  # a proxy
            return  # a child of another application's worker
        registry.enter_worker()
        if current_process().daemon:  # the solo pool sends this signal in the worker itself
            die_with_parent(signal.SIGKILL)  # a host that is dead runs nothing

    worker_process_init.connect(on_pool_child, weak=False)
    return app


def equip(app: Celery, registry: Registry) -> None:
    """Give *app* the tasks, entries and steps of *registry*; changes nothing else in this process."""
    adopt(app, registry)
    for service in registry.managers:
        register_tick(app, registry, service)
    register_reports(app, registry)
    add_entries(app, registry)
    app.steps["worker"].add(HostStep)
    app.steps["consumer"].add(TicksStep)


def _named(paths: Iterable[str]) -> Iterable[type[Manager[Any]]]:
    for path in paths:
        found = load_class(path, f"{PREFIX}MANAGERS")
        if not issubclass(found, Manager):
            raise InvalidSettings(f"{PREFIX}MANAGERS names {path!r}, which is no Manager")
        yield found
