"""Messages to one host that expire say so.

RabbitMQ would drop an expired message from a dead host's queue without a word, Redis keeps it. Without the broker's own
expiry both keep it until the host is back, which then discards it, logs it and gives its result the state REVOKED. Few
can gather there: who sends to an absent host is refused.
"""

import logging
from typing import Any

from celery.signals import before_task_publish, task_revoked

from workers.remote import ONE_HOST, MethodTask

logger = logging.getLogger(__name__)


def watch_expiry() -> None:
    """Have this process keep expiring messages out of the broker's hands, and log those that it discards."""
    before_task_publish.connect(_keep, dispatch_uid="celeriac.expiry")
    task_revoked.connect(_log, dispatch_uid="celeriac.expiry")


def _keep(*, properties: dict[str, Any], **_: Any) -> None:
    if properties.pop(ONE_HOST, False):  # before kombu sees it: it is no property that a broker knows
        properties.pop("expiration", None)


def _log(*, sender: Any, request: Any, expired: bool, **_: Any) -> None:
    if expired and isinstance(sender, MethodTask):
        logger.warning("%s[%s] was not run: it had expired at %s", sender.name, request.id, request.expires)
