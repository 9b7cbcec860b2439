"""Gives Celeriac to a Celery application: its own one, or one that existed before."""

import signal
from collections.abc import Iterable
from typing import Any

from billiard import current_process
from celery import Celery, current_app
from celery.signals import worker_process_init

from managers import applications
from managers.db import engine
from managers.drivers import load_class
from managers.manager import Manager
from workers.beat import add_entries
from workers.config import PREFIX, Settings, load_settings
from workers.contexts import carry_contexts
from workers.errors import InvalidSettings
from workers.expiry import watch_expiry
from workers.intake import register_reports
from workers.listening import FanoutStep
from workers.methods import refuse_unknown_options, register_methods
from workers.orphans import die_with_parent
from workers.periodic import register_periodic_tasks
from workers.placed import watch_unknown_tasks
from workers.placing import register_placing
from workers.registry import Registry, adopt, is_adopted, registry_of
from workers.steps import HostStep
from workers.ticks import register_tick


def celeriac_app(
    app: Celery, *, managers: Iterable[type[Manager[Any]]] = (), settings: Settings | None = None
) -> Celery:
    """Give *app* its managers and return it: those of the setting MANAGERS, then *managers*.

    The application's own queues, routes, serializer and schedule stay as they are. Its workers run the managers' hosts,
    its beats tick them. Connects to nothing.

    Raises:
        AlreadyAdopted: *app* was given here before.
        InvalidSettings: a CELERIAC_ setting can't be used, or *app* speaks Celery's old protocol 1.
        TypeError: a method is exposed with an option that no task knows.
        UnknownService: two managers claim one service, or SERVICES names one that nobody manages.
    """
    if app.conf.task_protocol == 1:
        raise InvalidSettings(
            f"{app!r} has task_protocol 1, whose messages carry no headers; Celeriac's need 2, Celery's default"
        )
    settings = settings or load_settings()
    if app.conf.broker_url and "broker_url" not in settings.model_fields_set:
        settings = settings.model_copy(update={"broker_url": app.conf.broker_url})
    registry = Registry(app, settings, dict.fromkeys((*_named(settings.managers), *managers)))
    equip(app, registry)
    registry.database_address = settings.database_address
    applications.adopted(app)
    engine.use(settings.database_address)
    worker_process_init.connect(_enter_pool_child, dispatch_uid="celeriac.adoption")
    return app


def equip(app: Celery, registry: Registry) -> None:
    """Give *app* the tasks, entries and steps of *registry*; changes nothing else in this process."""
    for manager in registry.managers.values():
        refuse_unknown_options(manager)
    adopt(app, registry)
    if not {"json", "application/json"} & set(app.conf.accept_content):
        app.conf.accept_content = [*app.conf.accept_content, "json"]  # what Celeriac's own messages are
    carry_contexts(app)
    watch_expiry()
    watch_unknown_tasks()
    for manager in registry.managers.values():
        register_manager(app, registry, manager)
    register_reports(app, registry)
    register_placing(app, registry)
    add_entries(app, registry)
    app.steps["worker"].add(HostStep)
    app.steps["consumer"].add(FanoutStep)


def register_manager(app: Celery, registry: Registry, manager: type[Manager[Any]]) -> None:
    """Register the tasks of one *manager*: its tick, its exposed methods, its periodic tasks of the pool."""
    register_tick(app, registry, manager.service_name)
    register_methods(app, registry, manager)
    register_periodic_tasks(app, registry, manager)


def _enter_pool_child(**_: Any) -> None:
    """Make a new pool child one of its host's processes; the child's current application is its worker's."""
    app: Celery = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # a proxy
    if not is_adopted(app):
        return
    registry_of(app).enter_worker()
    if current_process().daemon:  # the solo pool sends this signal in the worker itself
        die_with_parent(signal.SIGKILL)  # a host that is dead runs nothing


def _named(paths: Iterable[str]) -> Iterable[type[Manager[Any]]]:
    for path in paths:
        found = load_class(path, f"{PREFIX}MANAGERS")
        if not issubclass(found, Manager):
            raise InvalidSettings(f"{PREFIX}MANAGERS names {path!r}, which is no Manager")
        yield found
