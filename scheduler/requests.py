"""A request for a place: what a task asks of the host that runs it, as data."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Self

from managers.errors import shown
from managers.routing import check_host, check_service
from scheduler.amounts import MOST, Amounts, amounts
from scheduler.errors import InvalidPlacement, SchedulerError
from scheduler.requirements import Requirement

#: What ``strategy`` may be: use the emptiest host, or fill one before the next.
STRATEGIES = ("spread", "pack")

#: What a wish may weigh, for or against a host.
MOST_WEIGHT = 1e6

#: Letters that the name of a task or its id may have in a record.
MOST_LETTERS = 1024

#: Hosts that one request may be placed on at once.
MOST_HOSTS = 128

Prefers = tuple[tuple[Requirement, float], ...]


@dataclass(frozen=True)
class Request:
    """What one task asks; ``claims`` are thousandths, times are seconds.

    ``ran``, ``home`` and ``avoided`` are no part of what is asked: they are what is known when it is decided.
    """

    id: str
    task_id: str
    task: str
    service: str
    requires: Requirement = field(default_factory=lambda: Requirement.of(None))
    claims: Amounts = field(default_factory=dict)
    prefers: Prefers = ()
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    same_host: tuple[str, ...] = ()
    different_host: tuple[str, ...] = ()
    sticky: str | None = None
    must_stick: bool = False
    strategy: str = "spread"
    start_deadline: float = 30.0
    max_attempts: int = 3
    #: Celery's ``acks_late``: it may be run twice.
    is_late: bool = False
    #: Whether it came by a message, which a broker may deliver again.
    is_carried: bool = False
    #: Whether its failure is kept in the result backend.
    keeps_errors: bool = True
    #: The id of the first of a gang, which is placed together; "" where there is none.
    gang: str = ""
    #: When nobody wants it any more, in seconds since 1970.
    expires_at: float | None = None
    #: Hosts that the tasks of ``same_host`` and ``different_host`` were placed on.
    ran: Mapping[str, str] = field(default_factory=dict, compare=False)
    #: The host that ``sticky`` was last placed on.
    home: str | None = field(default=None, compare=False)
    #: Hosts on which it was not begun in time, once for each time.
    avoided: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def shape(self) -> str:
        """What all requests share that fit the same hosts: where one finds no place, none does."""
        asked = self.to_dict()
        parts = [asked[name] for name in ("service", "requires", "claims", *_RELATIONS)]
        text = json.dumps([*parts, self.sticky if self.must_stick else None], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def keys(self) -> frozenset[str]:
        """The capabilities that it names."""
        return self.requires.keys.union(self.claims, *(wish.keys for wish, _ in self.prefers))

    def to_dict(self) -> dict[str, Any]:
        """Return the form in which it is recorded."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.compare}
        values["requires"] = self.requires.tree
        values["prefers"] = [[wish.tree, weight] for wish, weight in self.prefers]
        return values

    def to_json(self) -> str:
        """Return the record in Redis: its scripts read ``shape`` there too."""
        return json.dumps({**self.to_dict(), "shape": self.shape}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the request in *text*, which ``to_json`` wrote."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the request in *values*; keys of a newer version are passed over.

        Raises:
            InvalidPlacement, InvalidRequirement: they come from elsewhere, and are no request.
        """
        try:
            known = {entry.name: values[entry.name] for entry in fields(cls) if entry.compare and entry.name in values}
            known["requires"] = _of_tree(json.dumps(known.get("requires"), sort_keys=True))
            known["prefers"] = tuple(
                (_of_tree(json.dumps(tree, sort_keys=True)), float(weight)) for tree, weight in known.get("prefers", ())
            )
            for name in _RELATIONS:
                known[name] = tuple(known.get(name, ()))
            known["claims"] = _thousandths(known.get("claims", {}))
            return cls(**known)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            if isinstance(error, SchedulerError):
                raise
            raise InvalidPlacement(f"this is no request for a place: {shown(values)} ({error})") from error

    def knowing(self, *, ran: Mapping[str, str], home: str | None) -> Self:
        """Return the request with where the tasks that it names ran, and where it sticks to."""
        return replace(self, ran=ran, home=home)

    def avoiding(self, hosts: Sequence[str]) -> Self:
        """Return the request with the hosts that did not begin it."""
        return replace(self, avoided=tuple(hosts))


def _thousandths(claims: Mapping[str, Any]) -> dict[str, int]:
    """Return *claims* of a record as they are, if they withdraw something."""
    for name, amount in claims.items():
        if not isinstance(amount, int) or isinstance(amount, bool) or not 0 < amount <= MOST * 1000:
            raise InvalidPlacement(
                f"a request claims {shown(amount)} thousandths of {name}; they are whole and above 0"
            )
    return dict(claims)


#: Ids of requests stand beside hosts and attempts in keys and fields of Redis.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

_RELATIONS = ("only", "exclude", "same_host", "different_host")


@lru_cache(maxsize=4096)
def _of_tree(text: str) -> Requirement:
    return Requirement.from_tree(json.loads(text))


#: What a task, a call of one, or ``.where(...)`` may say of its place.
OPTIONS = (
    "service", "requires", "claims", "prefers", "only", "exclude", "same_host", "different_host", "sticky",
    "must_stick", "strategy", "placement_timeout", "start_deadline", "max_attempts", "count",
)  # fmt: skip


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the placement options in *given* as fields of a Request, and ``count`` and ``placement_timeout``.

    Raises:
        InvalidPlacement, InvalidRequirement: the message names the option, the value and what it may be.
    """
    if (service := given.get("service")) is not None:
        check_service(service)
    sticky = given.get("sticky")
    if sticky is not None and (not isinstance(sticky, str) or not 0 < len(sticky) <= 255):
        raise InvalidPlacement(
            f"sticky is {shown(sticky)}; it is a text of up to 255 letters that names what to stay by"
        )
    must_stick = given.get("must_stick") or False
    if not isinstance(must_stick, bool):
        raise InvalidPlacement(f"must_stick is {shown(must_stick)}; it is true or false")
    strategy = given.get("strategy") or STRATEGIES[0]
    if strategy not in STRATEGIES:
        raise InvalidPlacement(f"strategy is {shown(strategy)}; it is one of {', '.join(STRATEGIES)}")
    checked: dict[str, Any] = {
        "requires": Requirement.of(given.get("requires")),
        "claims": amounts(given.get("claims")),
        "prefers": _prefers(given.get("prefers") or {}),
        "only": tuple(check_host(host) for host in _names("only", given.get("only"))),
        "exclude": tuple(check_host(host) for host in _names("exclude", given.get("exclude"))),
        "same_host": _names("same_host", given.get("same_host")),
        "different_host": _names("different_host", given.get("different_host")),
        "sticky": sticky,
        "must_stick": must_stick,
        "strategy": strategy,
    }
    for name, least, most in (("start_deadline", 0.1, 86400.0), ("placement_timeout", 0.0, 10.0**9)):
        if (value := given.get(name)) is not None:
            checked[name] = _number(name, value, least, most)
    for name, most in (("max_attempts", 1000), ("count", MOST_HOSTS)):
        if (value := given.get(name)) is not None:
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise InvalidPlacement(f"{name} is {shown(value)}; it is a whole number from 1 to {most}")
            checked[name] = value
    return checked


def as_json(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return placement options that can be used in the form in which a message carries them."""
    plain = dict(given)
    for name in _RELATIONS:
        if plain.get(name) is not None:
            plain[name] = list(_names(name, plain[name]))
    if plain.get("requires") is not None:
        plain["requires"] = str(Requirement.of(plain["requires"]))
    if plain.get("prefers") is not None:
        plain["prefers"] = {str(Requirement.of(wish)): weight for wish, weight in plain["prefers"].items()}
    if plain.get("claims") is not None:
        plain["claims"] = dict(plain["claims"])
    return plain


def check_record(request: Request) -> Request:
    """Return *request*, which came from elsewhere, if each of its fields is what it must be, else InvalidPlacement."""
    check_service(request.service)
    names = (request.task_id, request.task)
    fine = {
        "id": isinstance(request.id, str) and _ID.fullmatch(request.id) is not None,
        "gang": request.gang == "" or (isinstance(request.gang, str) and _ID.fullmatch(request.gang) is not None),
        "task_id or task": all(isinstance(name, str) and 0 < len(name) <= MOST_LETTERS for name in names),
        "prefers": all(abs(weight) <= MOST_WEIGHT for _, weight in request.prefers),
        "sticky": request.sticky is None or isinstance(request.sticky, str),
        "strategy": request.strategy in STRATEGIES,
        "start_deadline": _is_number(request.start_deadline) and request.start_deadline > 0,
        "max_attempts": _is_number(request.max_attempts) and request.max_attempts > 0,
        "expires_at": request.expires_at is None or _is_number(request.expires_at),
        "must_stick, is_late or keeps_errors": all(
            isinstance(flag, bool) for flag in (request.must_stick, request.is_late, request.keeps_errors)
        ),
        **{name: all(isinstance(one, str) for one in getattr(request, name)) for name in _RELATIONS},
    }
    if wrong := [name for name, is_fine in fine.items() if not is_fine]:
        raise InvalidPlacement(f"this is no request for a place, for its {wrong[0]}: {shown(request.to_dict())}")
    return request


def check_number(value: Any) -> Any:
    """Return *value* if it is a finite number, else raise ValueError."""
    if not _is_number(value):
        raise ValueError(f"{shown(value)} is no number")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _prefers(given: object) -> Prefers:
    if not isinstance(given, Mapping):
        raise InvalidPlacement(f"prefers are {shown(given)}; write a dict such as {{\"model.loaded == 'sdxl'\": 10}}")
    return tuple(
        (Requirement.of(wish), _number(f"the weight of {wish!r}", weight, -MOST_WEIGHT, MOST_WEIGHT))
        for wish, weight in given.items()
    )


def _number(name: str, value: object, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidPlacement(f"{name} is {shown(value)}; it is a number from {least:g} to {most:g}")
    return float(value)


def _names(option: str, given: object) -> tuple[str, ...]:
    """Return the one name or several that an option was given."""
    names = (given,) if isinstance(given, str) else given or ()
    if not isinstance(names, Collection) or not all(isinstance(name, str) and 0 < len(name) <= 255 for name in names):
        raise InvalidPlacement(f"{option} is {shown(given)}; it is a name or a list of names")
    return tuple(sorted(set(names)))
