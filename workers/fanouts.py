"""One host's own copy of a message that went to every host.

All copies share an id, under which the answers would overwrite one another: each host runs its copy under an id of its
own, made of the shared one and its name, so that the sender can work it out. The shared id stays as the copy's root. A
copy counts as sent to the host's own queue, where a retry of it goes: back to the exchange it would reach every host.
"""

import uuid

from kombu import Message

from managers.routing import host_queue

#: Marks a copy, whose delivery looks like any other's.
_COPY = "celeriac_copy"


def own_id(fanout_id: str, host: str) -> str:
    """Return the id under which *host* runs its copy."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{fanout_id}@{host}"))


def make_own(message: Message, service: str, host: str) -> None:
    """Turn *message*, just off the fanout exchange, into *host*'s own."""
    message.headers["id"] = message.properties["correlation_id"] = own_id(message.headers["id"], host)
    message.delivery_info = {
        **message.delivery_info,
        "exchange": "",
        "routing_key": host_queue(service, host).name,
        _COPY: True,
    }


def is_copy(message: Message) -> bool:
    """Return whether *message* is a host's own copy, which no broker takes back."""
    return _COPY in message.delivery_info
