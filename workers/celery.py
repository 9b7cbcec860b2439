"""The Celery application: ``celery -A workers worker``, ``celery -A workers beat``."""

from celery import Celery

from workers.adoption import celeriac_app
from workers.config import Settings, load_settings
from workers.links import connection_settings
from workers.registry import registry_of


def make_app(settings: Settings | None = None) -> Celery:
    """Return a Celery application of its own for Celeriac; plain tasks go to any host of service ``host``."""
    settings = settings or load_settings()
    app = Celery("celeriac", set_as_current=True)
    app.conf.update(
        connection_settings(settings.broker_url),
        broker_url=settings.broker_url,
        result_backend=settings.results_address,
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_default_queue="host",
        task_default_exchange="",
        imports=settings.tasks,
        # in memory: the ticks need no memory of earlier runs, and two beats may share a directory
        beat_scheduler="celery.beat:Scheduler",
        beat_max_loop_interval=2,
    )
    celeriac_app(app, settings=settings)
    if "scheduler" in registry_of(app).services:
        app.conf.worker_prefetch_multiplier = 128  # reports are gathered, not queued for the pool
    elif settings.broker_is_redis:
        app.conf.worker_disable_prefetch = True  # a task waits where any host can take it
    else:
        app.conf.worker_prefetch_multiplier = 1
    return app


app = make_app()
