"""An exposed method as the rest of the fleet sees it: modifiers in the middle, the verb last."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, Self, TypedDict, TypeVar, cast

from celery import Celery
from celery.canvas import Signature
from celery.result import AsyncResult

from managers.answers import Fanout
from managers.applications import application_of
from managers.errors import NotAdopted
from managers.routing import check_host, host_queue

if TYPE_CHECKING:
    from typing import Unpack

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Options(TypedDict, total=False):
    """What ``set`` takes: ``timeout``, and Celery's options of ``apply_async``, with Celery's meaning.

    ``timeout`` is how many seconds ``call`` and ``gather`` wait, None for ever. ``may_wait`` lets them
    wait inside a task: whoever says it knows that the answer never needs a slot that is held meanwhile.
    """

    timeout: float | None
    may_wait: bool
    countdown: float
    eta: datetime
    expires: float | datetime | None
    headers: Mapping[str, Any]
    ignore_result: bool
    link: Any
    link_error: Any
    priority: int
    retry: bool
    retry_policy: Mapping[str, Any]
    shadow: str
    soft_time_limit: float
    task_id: str
    time_limit: float


class Placement(TypedDict, total=False):
    """What ``where`` takes beside what is required; ``docs/placement.md`` says what each means.

    ``claims`` are amounts such as ``{"ports": 1}``, ``prefers`` weights by expression, the times are seconds.
    """

    claims: Mapping[str, float]
    prefers: Mapping[str, float]
    only: str | Sequence[str]
    exclude: str | Sequence[str]
    same_host: str | Sequence[str]
    different_host: str | Sequence[str]
    sticky: str
    must_stick: bool
    strategy: str
    placement_timeout: float
    start_deadline: float
    max_attempts: int


class RemoteTask(Protocol):
    """What a Celery application registers for an exposed method; ``workers`` has it."""

    def call(self, args: Any, kwargs: Any, host: str | None, options: Mapping[str, Any]) -> Any:
        """Send to *host*, or to any of the service's, and return the answer."""
        ...

    def cast(self, args: Any, kwargs: Any, host: str | None, options: Mapping[str, Any]) -> AsyncResult[Any]:
        """Send to *host*, or to any of the service's."""
        ...

    def fanout(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Fanout[Any]:
        """Send to every host of the service."""
        ...

    def check_placement(self, placement: Mapping[str, Any]) -> None:
        """Raise what sending would raise for a placement that can't be."""
        ...

    def check(self, args: Any, kwargs: Any, *, partial: bool = False) -> None:
        """Raise what sending would raise for wrong arguments."""
        ...

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> AsyncResult[Any]:
        """Send as any Celery task."""
        ...

    def signature(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature[Any]:
        """Return what a canvas is made of."""
        ...


@dataclass(frozen=True, slots=True)
class Remote(Generic[P, R_co]):
    """An exposed method as the rest of the fleet sees it; each modifier returns another one.

    Every verb raises NotAdopted where no application knows the method, TypeError for arguments that the method doesn't
    take and InvalidArguments for those that would not arrive as they were given, before anything is sent.
    """

    service: str
    method: str
    host: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    app: Celery | None = None
    placement: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The Celery task's name."""
        return f"{self.service}.{self.method}"

    def on(self, host: str) -> Self:
        """Mean that *host*, by its name in the fleet, rather than any host of the service."""
        return replace(self, host=check_host(host))

    def set(self, **options: "Unpack[Options]") -> Self:
        """Set options of the message; TypeError names one that doesn't exist."""
        for name in options:
            if name not in Options.__annotations__:
                raise TypeError(f"{self.name} {_no_option(name, Options.__annotations__)}")
        return replace(self, options={**self.options, **options})

    def where(self, requires: Any = None, **placement: "Unpack[Placement]") -> Self:
        """Mean a host that has what the method *requires*, and has room for what it claims; it waits for one.

        *requires* is an expression such as ``"ports > 4 and zone != 'c'"``, or equalities such as ``{"zone": "a"}``.
        What is not said here is as ``@expose`` said it.

        Raises:
            ValueError: an option can't be used; the message names it.
            TypeError: there is no such option.
        """
        for name in placement:
            if name not in Placement.__annotations__:
                raise TypeError(f"{self.name} {_no_option(name, Placement.__annotations__)}")
        said = {**placement, **({} if requires is None else {"requires": requires})}
        self._task().check_placement(said)
        return replace(self, placement={**self.placement, **said})

    def using(self, app: Celery) -> Self:
        """Send through *app*, where a process has several applications that know the method."""
        return replace(self, app=app)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Have one host run the method and return what it returned.

        Waits for the option ``timeout``, by default the setting CALL_TIMEOUT; the message is not started later.

        Raises:
            HostNotUp: the host of ``on`` is not there, or draining.
            CallRefused: this is inside a task, where waiting could block the pool for ever; or no results are kept.
            CallTimeout: no answer came in time, or the result backend is away.
            kombu.exceptions.OperationalError: the broker is away; nothing was sent.
            Exception: whatever the method raised, its cause being the traceback over there.
        """
        return cast("R_co", self._task().call(args, kwargs, self._named, self._options))

    def cast(self, *args: P.args, **kwargs: P.kwargs) -> "AsyncResult[R_co]":
        """Have one host run the method some time; only a failure is kept in the result.

        A message for one host that is not started within the setting CAST_EXPIRES, or the option ``expires``, is
        dropped by that host with a warning and its state becomes REVOKED.

        Raises:
            HostNotUp: the host of ``on`` is not there, or draining.
            kombu.exceptions.OperationalError: the broker is away; nothing was sent.
        """
        return self._task().cast(args, kwargs, self._named, self._options)

    def fanout(self, *args: P.args, **kwargs: P.kwargs) -> Fanout[R_co]:
        """Have every live host of the service run the method once; ``gather`` waits for the answers.

        Raises:
            ValueError: ``on`` named one host, or ``where`` means one.
        """
        if self.host is not None:
            raise ValueError(f"{self.name} is for {self.host} alone; leave out .on({self.host!r}) to reach every host")
        if self.placement:
            raise ValueError(f"{self.name} is placed on one host by .where(...); leave it out to reach every host")
        return self._task().fanout(args, kwargs, self.options)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> "AsyncResult[R_co]":
        """Celery's own: send and return the result to be."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> "AsyncResult[R_co]":
        """Celery's own, with Celery's options."""
        return self._task().apply_async(args, kwargs, **{**self._celery_options(), **options})

    def s(self, *args: Any, **kwargs: Any) -> Signature[R_co]:
        """Celery's own: a signature, whose first arguments a chain may still prepend."""
        task = self._task()
        task.check(args, kwargs, partial=True)
        return task.signature(args, kwargs, **self._celery_options())

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R_co]:
        """Celery's own: an immutable signature, which no chain adds to."""
        task = self._task()
        task.check(args, kwargs)
        return task.signature(args, kwargs, immutable=True, **self._celery_options())

    def _task(self) -> RemoteTask:
        app = self.app or application_of(self.name)
        if self.name not in app.tasks:
            raise NotAdopted(f"{app!r} doesn't know {self.name}; give celeriac_app its manager")
        return cast("RemoteTask", app.tasks[self.name])

    @property
    def _named(self) -> str | None:
        """The host whose queue the message goes to; a placed one goes where it is placed."""
        return None if self.placement else self.host

    @property
    def _options(self) -> dict[str, Any]:
        if not self.placement:
            return dict(self.options)
        named = {} if self.host is None else {"only": self.host}
        return {**self.options, **self.placement, **named}

    def _celery_options(self) -> dict[str, Any]:
        options = celery_options(self._options)
        if self._named is not None:
            options["queue"] = host_queue(self.service, self._named).name
        return options


def _no_option(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
    return f"has no option {name!r}; {hint}"


def celery_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of *options* that Celery knows."""
    return {name: value for name, value in options.items() if name not in {"timeout", "may_wait"}}
