"""Celery settings by which a connection that froze is noticed, and let go, within seconds.

A firewall that forgets a connection closes nothing: reads wait and writes vanish. Celery's defaults wait for ever.
"""

from typing import Any

#: Seconds to wait for a server's answer before its connection counts as frozen.
SOCKET_TIMEOUT = 3.0
#: Seconds between two looks at a connection that waits; kombu gives BRPOP and the subscription two chances.
HEALTH_CHECK_INTERVAL = 3
#: Seconds until an unacknowledged message is delivered again on Redis; longer than any task should run.
VISIBILITY_TIMEOUT = 12 * 3600


def connection_settings(broker_url: str) -> dict[str, Any]:
    """Return the settings for the broker at *broker_url*, for ``app.conf.update``.

    Celeriac's own application has them; one that existed before keeps its own unless it takes these.
    """
    return {
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5.0,
        "broker_heartbeat": 5,
        "broker_transport_options": _transport_options(broker_url),
        # RabbitMQ takes longer to forget a frozen connection than the worker: its exclusive control queue would be
        # locked by its former self, and that error would end it
        "broker_channel_error_retry": True,
        "control_queue_exclusive": False,
        "control_queue_durable": True,
        "redis_socket_timeout": SOCKET_TIMEOUT,
        "redis_socket_connect_timeout": SOCKET_TIMEOUT,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": HEALTH_CHECK_INTERVAL,
        "result_backend_transport_options": {"retry_policy": {"timeout": 5.0}},
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_prefetch_count_reduction": False,
    }


def _transport_options(broker_url: str) -> dict[str, Any]:
    if broker_url.startswith("amqp"):
        return {"confirm_publish": True, "read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT}
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL,
        "visibility_timeout": VISIBILITY_TIMEOUT,
    }
