"""Who asked, as part of which request, and until when an answer is of use.

A context is *current* for the length of a block, in its thread or greenlet. It travels in the header
``celeriac_context`` of every message that is sent meanwhile, and is current where that message's task runs.
"""

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from managers.errors import InvalidContext, shown

#: The header of a Celery message that carries a context.
CONTEXT_HEADER = "celeriac_context"

#: Letters of a user's, project's, role's or request's name, and roles of one context.
MAX_NAME = 256
MAX_ROLES = 64
#: The end of the year 9999, the last that a datetime can name.
MAX_DEADLINE = 253402300800.0

_current: ContextVar["RequestContext | None"] = ContextVar("celeriac_context", default=None)


def _request_id() -> str:
    return f"req-{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asked, as part of which request, and until when.

    ``is_admin`` left at None is answered by the roles, as in the origin: "admin" in any case makes an admin.
    ``deadline`` is a moment in seconds since the epoch, by the clock that Celery's ``expires`` goes by: what has not
    begun by then is not started.

    Raises:
        InvalidContext: a value of another kind, or beyond MAX_NAME or MAX_ROLES; the message names key and value.
    """

    user: str | None = None
    project: str | None = None
    roles: tuple[str, ...] = ()
    is_admin: bool | None = None
    request_id: str = field(default_factory=_request_id)
    deadline: float | None = None

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "roles", tuple(self.roles))
        if self.is_admin is None:
            object.__setattr__(self, "is_admin", "admin" in (role.lower() for role in self.roles))

    def elevated(self) -> Self:
        """Return the same request with admin rights."""
        return replace(self, is_admin=True)

    @contextmanager
    def as_current(self) -> Iterator[Self]:
        """Be the current context for the length of the block, in this thread or greenlet."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def to_dict(self) -> dict[str, Any]:
        """Return what travels: plain JSON values."""
        return {
            "user": self.user,
            "project": self.project,
            "roles": list(self.roles),
            "is_admin": self.is_admin,
            "request_id": self.request_id,
            "deadline": self.deadline,
        }

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Return the context in *values*, a decoded header of unknown origin; keys of a newer version are passed over.

        Raises:
            InvalidContext: it holds something else; the message names key and value.
        """
        if not isinstance(values, Mapping):
            raise InvalidContext(f"a context is an object, not {shown(values)}")
        return cls(**{entry.name: values[entry.name] for entry in fields(cls) if entry.name in values})


class ContextFilter(logging.Filter):
    """Gives every log record ``request_id``, ``user`` and ``project`` of the current context, or "-".

    Put it on a handler whose format names them. Celeriac puts it on the handlers that Celery sets up in a worker.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass; what its caller gave in ``extra`` stays."""
        context = _current.get()
        for name in ("request_id", "user", "project"):
            if not hasattr(record, name):
                setattr(record, name, (context and getattr(context, name)) or "-")
        return True


def current_context() -> RequestContext | None:
    """Return the context that is current in this thread or greenlet; inside an exposed method there always is one."""
    return _current.get()


@contextmanager
def without_context() -> Iterator[None]:
    """Have no current context for the length of the block, as a process that begins."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def get_admin_context() -> RequestContext:
    """Return a context of nobody in particular with admin rights, as periodic tasks get it."""
    return RequestContext(is_admin=True)


def _check(context: RequestContext) -> None:
    roles = context.roles
    if not isinstance(roles, list | tuple) or len(roles) > MAX_ROLES:
        raise InvalidContext(f"roles are {shown(roles)}, not a list of up to {MAX_ROLES} names")
    names = {"user": context.user, "project": context.project, "request_id": context.request_id}
    for key, name in (*names.items(), *(("roles", role) for role in roles)):
        is_optional = key in {"user", "project"}
        if not (isinstance(name, str) and len(name) <= MAX_NAME) and not (name is None and is_optional):
            raise InvalidContext(f"{key} has {shown(name)}, which is no text of up to {MAX_NAME} letters")
    if not isinstance(context.is_admin, bool | None):
        raise InvalidContext(f"is_admin is {shown(context.is_admin)}, neither true nor false")
    deadline = context.deadline
    if deadline is not None and (isinstance(deadline, bool) or not isinstance(deadline, int | float)):
        raise InvalidContext(f"deadline is {shown(deadline)}, not seconds since the epoch")
    if deadline is not None and not 0 <= deadline < MAX_DEADLINE:
        raise InvalidContext(f"deadline is {shown(deadline)}, no moment between 1970 and 9999")
