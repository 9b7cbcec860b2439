"""The Celery application: ``celery -A workers worker``, ``celery -A workers beat``."""

from typing import Any

from celery import Celery

from workers.adoption import celeriac_app
from workers.config import Settings, load_settings

#: Seconds to wait for a server's answer before its connection counts as frozen.
SOCKET_TIMEOUT = 3.0

#: Seconds until an unacknowledged message is delivered again on Redis; longer than any task should run.
VISIBILITY_TIMEOUT = 12 * 3600


def make_app(settings: Settings | None = None) -> Celery:
    """Return a Celery application of its own for Celeriac; plain tasks go to any host of service ``host``."""
    settings = settings or load_settings()
    app = Celery("celeriac", set_as_current=True)
    app.conf.update(
        broker_url=settings.broker_url,
        result_backend=settings.results_address,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings),
        result_backend_transport_options={"retry_policy": {"timeout": 5.0}},
        redis_socket_timeout=SOCKET_TIMEOUT,
        redis_socket_connect_timeout=SOCKET_TIMEOUT,
        redis_socket_keepalive=True,
        redis_backend_health_check_interval=3,
        broker_heartbeat=5,
        broker_connection_timeout=5.0,
        # RabbitMQ takes longer to forget a frozen connection than the worker: its exclusive control queue would be
        # locked by its former self, and that error would end it
        broker_channel_error_retry=True,
        control_queue_exclusive=False,
        control_queue_durable=True,
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
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_hijack_root_logger=True,
    )
    celeriac_app(app, settings=settings)
    if "scheduler" in app.celeriac.services:  # type: ignore[attr-defined]
        app.conf.worker_prefetch_multiplier = 128  # reports are gathered, not queued for the pool
    elif settings.broker_is_redis:
        app.conf.worker_disable_prefetch = True  # a task waits where any host can take it
    else:
        app.conf.worker_prefetch_multiplier = 1
    return app


def _transport_options(settings: Settings) -> dict[str, Any]:
    """Return what keeps a frozen connection from hanging a process for ever."""
    if settings.broker_is_redis:
        return {
            "socket_timeout": SOCKET_TIMEOUT,
            "socket_connect_timeout": SOCKET_TIMEOUT,
            "socket_keepalive": True,
            # kombu looks this often whether BRPOP and the subscription still answer, and gives both two chances
            "health_check_interval": 3,
            "visibility_timeout": VISIBILITY_TIMEOUT,
        }
    return {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


app = make_app()
