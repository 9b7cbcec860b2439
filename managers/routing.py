"""Names of services and hosts, and of the queues and exchanges they become.

Every queue is published to by the anonymous exchange (routing key = queue name): with any named exchange kombu's Redis
transport reads the whole binding set at each publish, one entry per host. Queue arguments are frozen at none: changing
them later makes RabbitMQ refuse the declaration and the worker never becomes ready.
"""

import re
from functools import lru_cache

from kombu import Exchange, Queue

from managers.errors import InvalidName, shown

_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_ANONYMOUS = Exchange("", type="direct")

#: What a manager is called whose author named no service.
UNDEFINED = "undefined"


def check_service(name: str) -> str:
    """Return *name* if it can name a service's queue, else raise InvalidName."""
    if name == UNDEFINED:
        raise InvalidName("this manager has no service name; say class MyManager(Manager, service_name='mine')")
    if not isinstance(name, str) or not _SERVICE.fullmatch(name):
        raise InvalidName(f"service {shown(name)} is no name: a letter, then up to 63 letters, digits, '_' or '-'")
    return name


def check_host(name: str) -> str:
    """Return *name* if it can name a host's queue, else raise InvalidName."""
    if not isinstance(name, str) or not _HOST.fullmatch(name):
        raise InvalidName(
            f"host {shown(name)} is no name: a letter or digit, then up to 127 letters, digits, '_', '.' or '-';"
            " set CELERIAC_HOST"
        )
    if name.split(".", 1)[0] == "fanout":
        raise InvalidName(f"host {shown(name)} would share its queue's name with a fanout queue; set CELERIAC_HOST")
    return name


def service_queue(service: str) -> Queue:
    """Return the queue that any one host of *service* takes from."""
    return _queue(check_service(service))


def host_queue(service: str, host: str) -> Queue:
    """Return the queue that only *host* takes from."""
    return _queue(f"{check_service(service)}.{check_host(host)}")


def fanout_exchange(service: str) -> Exchange:
    """Return the exchange that reaches every live host of *service*.

    A publisher must declare it: kombu's Redis transport takes an undeclared exchange for a direct one and loses the
    message without a word.
    """
    return Exchange(f"{check_service(service)}.fanout", type="fanout")


def fanout_queue(service: str, host: str) -> Queue:
    """Return *host*'s own queue on the fanout exchange; it goes when its consumer goes.

    Its name is fixed rather than random, so that a host killed a hundred times leaves one entry behind, not a hundred.
    """
    return Queue(
        f"{check_service(service)}.fanout.{check_host(host)}",
        exchange=fanout_exchange(service),
        routing_key="",
        auto_delete=True,
    )


@lru_cache(maxsize=4096)  # one for each host that a process sends to; kombu binds copies
def _queue(name: str) -> Queue:
    return Queue(name, exchange=_ANONYMOUS, routing_key=name)
