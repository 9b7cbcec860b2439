"""Celery tasks that run on a host that can take them."""

import difflib
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, wraps
from inspect import getattr_static
from typing import Any, cast
from weakref import WeakSet

from celery import Task
from celery.result import GroupResult
from celery.utils.imports import symbol_by_name
from celery.utils.time import maybe_make_aware, rate

from managers.routing import check_service, service_queue
from scheduler.envelope import Recording
from scheduler.errors import InvalidPlacement
from scheduler.placing import CLAIM_HEADER, PLACEMENT_HEADER, Placing, can_place, placing_of
from scheduler.requests import OPTIONS, Request, as_json, check_options
from scheduler.snapshot import HOST_SERVICE

#: What says where a message shall go, and so that nobody else is asked.
_ADDRESSES = ("queue", "exchange", "routing_key")

#: What ties a task to others by its one id, of which a gang has several.
_CANVAS = ("link", "link_error", "chord", "chain", "group_id")

#: The attribute of a task's request that says that the task was let in.
_ENTERED = "celeriac_entered"


class ScheduledTask(Task[Any, Any]):
    """A task whose options say what it needs of the host that runs it; with none of them an ordinary task.

    ``@app.task(base=ScheduledTask, requires=..., claims=..., prefers=...)``, or ``Celery(task_cls=ScheduledTask)`` for
    all. Each option may be given anew by ``apply_async``; an explicit ``queue`` skips the scheduler.
    """

    abstract = True
    #: Whose hosts it may run on; any worker runs the service "host", which is meant where none is said.
    service: str | None = None
    requires: Any = None
    claims: Mapping[str, float] | None = None
    prefers: Mapping[Any, float] | None = None
    only: Any = None
    exclude: Any = None
    same_host: Any = None
    different_host: Any = None
    sticky: str | None = None
    must_stick: bool | None = None
    strategy: str | None = None
    placement_timeout: float | None = None
    start_deadline: float | None = None
    max_attempts: int | None = None
    count: int | None = None
    __header__: Callable[..., Any]  # Celery's own: raises TypeError for wrong arguments
    _own_request: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if not callable(value) and not hasattr(ScheduledTask, name) and (near := _misspelt(name)):
                raise TypeError(f"{cls.__name__} has an option {name!r}, which means nothing; did you mean {near!r}?")
        check_options(cls._said())
        cls._check_rate()
        if cls.__call__ not in _FENCED:
            cls.__call__ = _fenced(cls.__call__)  # type: ignore[method-assign]
            _FENCED.add(cls.__call__)
        own, ours = getattr_static(cls, "Request"), vars(ScheduledTask)["Request"]
        if own is not ours:
            cls._own_request, cls.Request = own, ours  # type: ignore[method-assign]

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Take what *app* configures.

        Raises:
            TypeError: that is a rate limit, and it is placed.
        """
        bound = super().bind(app)
        cls._check_rate()
        return bound

    @property
    def Request(self) -> Any:  # type: ignore[override]  # noqa: N802  # Celery's own name
        """What a worker makes of its messages; a task's own is mixed in.

        Raises:
            TypeError: the task's own is no request.
        """
        own = self._own_request
        if not can_place(self.app):
            return own or Task.Request
        ours = placing_of(self.app).request_class
        return ours if own is None else _mixed(self.name, ours, own)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run; in a worker only under a claim that still holds.

        Raises:
            celery.exceptions.Ignore: the message's claim is gone, or was taken up before.
        """
        request: Any = self.request
        with self._let_in():
            if not getattr(request, _ENTERED, False) or request._protected:  # noqa: SLF001  # Celery's own mark
                return super().__call__(*args, **kwargs)
            # a request of its own is only for what the task calls of itself
            request._protected = 1  # noqa: SLF001
            return self.run(*args, **kwargs)

    def apply_async(  # type: ignore[override]  # Celery's own names for **options
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        """Have it placed and sent; with ``count`` a GroupResult of as many, each on a host of its own, or none.

        Raises:
            InvalidPlacement, InvalidRequirement: an option of the placement can't be used.
            TypeError: an option looks like one of the placement's, and is none.
            NotAdopted: the application was given no managers, which placing needs.
            kombu.exceptions.OperationalError: neither Redis nor the broker answers.
        """
        for name in options:
            if near := _misspelt(name):
                raise TypeError(f"{self.name} has no option {name!r}; did you mean {near!r}?")
        is_placed = self.is_placed(options)
        said = self._take_said(options)
        if not is_placed:
            return super().apply_async(args, kwargs, **options)
        asked = self._asked(said)
        # what is last in a chain is given an empty one
        if asked.count > 1 and (tied := [name for name in _CANVAS if options.get(name) or options.get(name) == []]):
            raise InvalidPlacement(
                f"{self.name} is to run on {asked.count} hosts at once, which {tied[0]} can't follow"
            )
        if said or self.app.conf.task_always_eager:
            options["headers"] = {**(options.get("headers") or {}), PLACEMENT_HEADER: as_json(said)}
        if self.app.conf.task_always_eager:
            return super().apply_async(args, kwargs, **options)
        return self._submit(placing_of(self.app), asked, args, kwargs, options)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Run here and now: in eager mode, whose canvases come by here, as the host that it is placed on."""
        if self.app.conf.task_always_eager:
            is_placed = self.is_placed(options)
            said = self._take_said(options)
            if is_placed:
                self._asked(said)
                options["headers"] = {**(options.get("headers") or {}), PLACEMENT_HEADER: said}
        return super().apply(args, kwargs, **options)

    def check_placement(self, placement: Mapping[str, Any]) -> None:
        """Raise InvalidPlacement or InvalidRequirement if *placement* can't be asked of a host."""
        check_options({**self._said(), **placement})

    def is_placed(self, options: Mapping[str, Any]) -> bool:
        """Return whether a message with these *options* goes where it is placed, not where they or routes say."""
        if any(options.get(name) or getattr(self, name, None) for name in _ADDRESSES):
            return False
        carried = (options.get("headers") or {}).get(PLACEMENT_HEADER)
        return bool(carried or self._said() or any(options.get(name) is not None for name in OPTIONS))

    def signature_from_request(
        self, request: Any = None, args: Any = None, kwargs: Any = None, queue: Any = None, **extra_options: Any
    ) -> Any:
        """Return the signature of a retry, which is placed anew: the host's queue was the last attempt's."""
        signature = super().signature_from_request(request, args, kwargs, queue=queue, **extra_options)
        request = self.request if request is None else request
        if CLAIM_HEADER in (request.headers or {}) and not queue:
            for name in (*_ADDRESSES, "delivery_info"):
                signature.options.pop(name, None)
        return signature

    @classmethod
    def _check_rate(cls) -> None:
        if cls._said() and cls.rate_limit and rate(cls.rate_limit):
            raise TypeError(f"{cls.name or cls.__name__} {_limited(cls.rate_limit)}")

    @classmethod
    def _said(cls) -> dict[str, Any]:
        """Return the placement options that the task itself has."""
        return {name: value for name in OPTIONS if (value := getattr(cls, name, None)) is not None}

    def _take_said(self, options: dict[str, Any]) -> dict[str, Any]:
        """Take what this call says of its place out of *options*, and what the call that it repeats said."""
        headers = dict(options.get("headers") or {})
        headers.pop(CLAIM_HEADER, None)
        carried = headers.pop(PLACEMENT_HEADER, None)
        if "headers" in options:
            options["headers"] = headers
        said = {name: options.pop(name) for name in OPTIONS if name in options}
        return {**(carried if isinstance(carried, dict) else {}), **said}

    def _asked(self, said: Mapping[str, Any]) -> "_Asked":
        """Return what the task and a call that *said* this ask of a host."""
        if self.rate_limit and rate(self.rate_limit):
            raise InvalidPlacement(f"{self.name} {_limited(self.rate_limit)}")
        asked = {**self._said(), **said}
        placing = placing_of(self.app)
        checked = check_options(asked)
        count, timeout = checked.pop("count", 1), checked.pop("placement_timeout", placing.placement_timeout)
        fields = {
            "start_deadline": placing.start_deadline,
            "max_attempts": placing.max_attempts,
            **checked,
            "service": check_service(asked.get("service") or self.service or HOST_SERVICE),
            "is_late": bool(self.acks_late),
        }
        return _Asked(fields, count, timeout)

    def _let_in(self) -> AbstractContextManager[None]:
        """Return the block in which the task may run: once for each message, whatever it calls of itself therein."""
        request = self.request
        if request.called_directly or not can_place(self.app) or getattr(request, _ENTERED, False):
            return nullcontext()
        setattr(request, _ENTERED, True)
        return self._entered()

    def _entered(self) -> AbstractContextManager[None]:
        """Return the block in which the task may run: under its claim, or in eager mode as the host that it gets."""
        placing = placing_of(self.app)
        said = (self.request.headers or {}).get(PLACEMENT_HEADER)
        if said is None or not (self.request.is_eager and self.app.conf.task_always_eager):
            return placing.entered(self)
        asked = self._asked(said)
        request = Request(id=uuid.uuid4().hex, task_id=str(self.request.id), task=self.name, **asked.fields)
        placing.warn_of_unknown_keys(request)
        return placing.place_here(request, asked.count)

    def _submit(self, placing: Placing, asked: "_Asked", args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        count = asked.count
        ids = [uuid.uuid4().hex for _ in range(count)]
        recorded: list[tuple[Request, Mapping[str, Any]]] = []

        def record(message: dict[str, Any]) -> None:
            headers = message["headers"]
            fields = dict(asked.fields)
            if count > 1:  # should one of them be placed again, it still has a host of its own
                mates = {one for one in task_ids if one != headers["id"]}
                fields["different_host"] = tuple(sorted(mates.union(fields["different_host"])))
            request = Request(
                id=ids[len(recorded)],
                task_id=headers["id"],
                task=headers["task"],
                gang=ids[0] if count > 1 else "",
                expires_at=_moment(headers.get("expires")),
                keeps_errors=not headers.get("ignore_result") or bool(self.store_errors_even_if_ignored),
                **fields,
            )
            recorded.append((request, message))
            if len(recorded) == count:
                placing.warn_of_unknown_keys(request)
                priority = int(message["properties"].get("priority") or 0)
                placing.submit(
                    recorded,
                    rank=priority if placing.broker_is_redis else -priority,
                    not_before=_moment(headers.get("eta")),
                    timeout=asked.timeout,
                    producer=producer,
                )

        task_id = options.pop("task_id", None) or str(uuid.uuid4())
        task_ids = [task_id] if count == 1 else [f"{task_id}-{rank}" for rank in range(count)]
        given, connection = options.pop("producer", None), options.pop("connection", None)
        if connection is not None:
            given = self.app.amqp.Producer(connection, auto_declare=False)
        with self.app.producer_or_acquire(given) as producer:
            # the queue's exchange is named too: else a route for every task would lead it elsewhere
            options |= {"queue": service_queue("scheduler"), "exchange": "", "exchange_type": "direct"}
            sent = [
                super(ScheduledTask, self).apply_async(
                    args, kwargs, task_id=one, producer=cast("Any", Recording(producer, record)), **options
                )
                for one in task_ids
            ]
        return sent[0] if count == 1 else GroupResult(task_id, sent, app=self.app)


#: Each ``__call__`` that lets a task in itself.
_FENCED: WeakSet[Callable[..., Any]] = WeakSet([ScheduledTask.__call__])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a call asks: fields of its requests, how many, and the seconds that they may wait."""

    fields: dict[str, Any]
    count: int
    timeout: float | None


def _fenced(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a task's own ``__call__``, which may never call its parent's, for what is let in."""

    @wraps(call)
    def fenced(self: ScheduledTask, *args: Any, **kwargs: Any) -> Any:
        with self._let_in():
            return call(self, *args, **kwargs)

    return fenced


@lru_cache(maxsize=1024)
def _mixed(task: str, ours: str, own: Any) -> Any:
    """Return *own*, the request class of *task*, as one of *ours*, which hears first what becomes of it."""
    placed, asked, plain = symbol_by_name(ours), symbol_by_name(own), symbol_by_name(cast("Any", Task.Request))
    if not isinstance(asked, type) or not issubclass(asked, plain):
        raise TypeError(f"the Request of {task} is {asked!r}, and no class of {Task.Request}")
    return asked if issubclass(asked, placed) else type(asked.__name__, (placed, asked), {})


def _limited(limit: Any) -> str:
    return (
        f"is placed, and has the rate limit {limit!r}, which would keep it waiting past its start deadline; have it "
        "claim a resource of which there is as much as may run at once, and set rate_limit=0"
    )


@lru_cache(maxsize=1024)
def _misspelt(name: str) -> str | None:
    """Return the placement option that *name* was most likely meant to be, None if it is one or looks like none."""
    if name in OPTIONS or name.startswith("_"):
        return None
    swapped = [option for option in OPTIONS if sorted(option) == sorted(name)]
    near = swapped or difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.85)
    return near[0] if near else None


def _moment(value: Any) -> float | None:
    """Return a header's moment as seconds since 1970."""
    if value is None:
        return None
    return maybe_make_aware(datetime.fromisoformat(value) if isinstance(value, str) else value).timestamp()
