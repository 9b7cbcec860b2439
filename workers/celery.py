"""The Celery application: ``celery -A workers worker``, ``celery -A workers beat``."""

from typing import Any, cast

from celery import Celery, bootsteps

from scheduler.task import ScheduledTask
from workers.adoption import celeriac_app
from workers.config import Settings, load_settings
from workers.links import connection_settings
from workers.registry import registry_of

#: Messages that a pool of threads or greenlets takes from Redis per slot: Celery's own default.
AHEAD = 4


def make_app(settings: Settings | None = None) -> Celery:
    """Return a Celery application of its own for Celeriac; plain tasks go to any host of service ``host``.

    Any of its tasks can be placed by a call that says so, such as ``celeriac run``.
    """
    settings = settings or load_settings()
    app: Any = Celery("celeriac", task_cls=ScheduledTask, set_as_current=True)
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
    else:
        app.conf.worker_prefetch_multiplier = 1
        if settings.broker_is_redis:
            app.conf.worker_disable_prefetch = True  # a task waits where any host can take it
            app.steps["worker"].add(PrefetchStep)
    return cast("Celery", app)


class PrefetchStep(bootsteps.Step):
    """Lets pools without processes take messages from Redis ahead of a free slot.

    At its limit Celery stops asking Redis until something wakes its loop, and the end of a thread or greenlet doesn't:
    the slot would stay empty for up to a second or two.
    """

    label = "Prefetch"

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        if not worker.pool_cls.__module__.endswith("prefork"):
            worker.app.conf.worker_disable_prefetch = False
            worker.prefetch_multiplier = AHEAD


app = make_app()
