"""Who asked, and as part of which request."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self


def _request_id() -> str:
    return f"req-{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asked, and as part of which request; travels in a message's headers as a dict.

    ``is_admin`` left at None is answered by the roles, as in the origin: "admin" in any case makes an admin.
    """

    user: str | None = None
    project: str | None = None
    roles: tuple[str, ...] = ()
    is_admin: bool | None = None
    request_id: str = field(default_factory=_request_id)

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", tuple(self.roles))
        if self.is_admin is None:
            object.__setattr__(self, "is_admin", "admin" in (role.lower() for role in self.roles))

    def elevated(self) -> Self:
        """Return the same request with admin rights."""
        return replace(self, is_admin=True)

    def to_dict(self) -> dict[str, Any]:
        """Return what travels: plain JSON values."""
        return {**asdict(self), "roles": list(self.roles)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the context that *values* carried; keys of a newer version are passed over."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def get_admin_context() -> RequestContext:
    """Return a context of nobody in particular with admin rights, as periodic tasks get it."""
    return RequestContext(is_admin=True)
