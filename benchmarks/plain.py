"""The other side: a plain Celery application with one task that does nothing."""

import os

from celery import Celery

#: Where the plain worker finds its broker, and how many messages it takes ahead per slot.
BROKER = "PLAIN_BROKER_URL"
PREFETCH = "PLAIN_PREFETCH"
#: The plain worker's queue: Celery's own default.
QUEUE = "celery"

app = Celery("plain", broker=os.environ.get(BROKER, "redis://127.0.0.1:6379/0"), set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=int(os.environ.get(PREFETCH, "4")),
)


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""
