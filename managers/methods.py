"""Exposed methods: plain on an instance, remote on the class.

``@expose`` marks a method and wraps nothing. ``manager.attach(7)`` is the plain method; ``NetworkManager.attach`` is a
``Remote``: the Celery task ``network.attach`` with modifiers in the middle and the verb last::

    NetworkManager.attach.call(port=7)
    NetworkManager.attach.on("rack1-07").set(expires=30).cast(port=7)
    NetworkManager.refresh.fanout().gather(timeout=5)
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from managers.remote import Remote

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: What every manager keeps under these names would hide a method of the same name.
KEPT = frozenset({"db", "driver", "drivers", "host", "memory", "reporter", "schedule", "service_name"})
#: What a manager's class already means by these names can't be a task's as well.
RESERVED = KEPT | {"cleanup_host", "init_host", "last_capabilities", "periodic_tasks", "update_service_capabilities"}

#: Options of Celery's tasks that an exposed method has no say in.
_OURS = frozenset({
    "base", "bind", "exchange", "name", "pydantic", "queue", "routing_key", "serializer", "service", "shared", "typing",
})  # fmt: skip


class Exposed(Generic[P, R_co]):
    """The mark that ``@expose`` leaves: the method itself on an instance, a Remote on the class."""

    def __init__(self, method: Callable[Concatenate[Any, P], R_co], options: Mapping[str, Any]) -> None:
        self.method = method
        #: The first name that a class gave it; a decorator below the mark may have left the function another.
        self.name = ""
        #: Celery's options of the task, such as ``acks_late`` or ``time_limit``.
        self.options = options
        self.__doc__ = method.__doc__
        self.__wrapped__ = method

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    @overload
    def __get__(self, instance: None, owner: type) -> Remote[P, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Callable[P, R_co]: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> "Remote[P, R_co] | Callable[P, R_co]":
        if instance is None:
            service: str = owner.service_name  # type: ignore[union-attr]  # a manager's class, checked at its definition
            return Remote(service, self.name or self.method.__name__)
        return cast("Callable[P, R_co]", MethodType(self.method, instance))


@overload
def expose(method: Callable[Concatenate[Any, P], R], /) -> Exposed[P, R]: ...
@overload
def expose(**options: Any) -> Callable[[Callable[Concatenate[Any, P], R]], Exposed[P, R]]: ...
def expose(method: Any = None, /, **options: Any) -> Any:
    """Mark a manager's method as callable from the rest of the fleet, as the Celery task ``<service>.<method>``.

    Bare, or with Celery's options of a task: ``@expose(acks_late=True, autoretry_for=(OSError,), time_limit=30)``.

    Raises:
        TypeError: it is no method, or one of the hooks; or an option that is not the method's to choose.
    """
    if method is None:
        return lambda marked: expose(marked) if not options else _exposed(marked, options)
    return _exposed(method, options)


def exposed_methods(manager_class: type) -> Iterator[tuple[str, Exposed[Any, Any]]]:
    """Yield name and mark of each exposed method of *manager_class*; the most derived definition decides."""
    for name in dir(manager_class):
        found = inspect.getattr_static(manager_class, name)
        if isinstance(found, Exposed):
            yield name, found


def check_overrides(manager_class: type) -> None:
    """Raise TypeError where *manager_class*, or a mixin of its, has a method that could not be called.

    One that redefines an exposed method without exposing it: the rest of the fleet would go on calling a task that this
    class no longer has. And one whose name every instance uses for something else.
    """
    for name in dir(manager_class):
        found = inspect.getattr_static(manager_class, name)
        if name in KEPT and (inspect.isfunction(found) or isinstance(found, Exposed)):
            raise TypeError(
                f"{manager_class.__qualname__}.{name} can't be a method: every manager keeps its {name} there"
            )
        overridden = (vars(base).get(name) for base in manager_class.__mro__)
        if not isinstance(found, Exposed) and any(isinstance(other, Exposed) for other in overridden):
            raise TypeError(
                f"{manager_class.__qualname__}.{name} overrides an exposed method; mark it with @expose too"
            )


def is_lazy(function: Callable[..., Any]) -> bool:
    """Return whether calling *function* runs nothing of it yet: it is a coroutine's or a generator's."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(kind(function) for kind in kinds)


def _exposed(method: Any, options: Mapping[str, Any]) -> Exposed[Any, Any]:
    if not inspect.isfunction(method):
        raise TypeError(f"@expose marks a method of a manager, not {method!r}")
    if is_lazy(method):
        raise TypeError(
            f"{method.__qualname__} can't be exposed: its answer must be a value, not a coroutine or generator"
        )
    if method.__name__ in RESERVED or method.__name__.startswith("_"):
        raise TypeError(
            f"{method.__qualname__} can't be exposed: hooks and names that begin with '_' are the host's own"
        )
    if taken := sorted(_OURS & options.keys()):
        raise TypeError(
            f"{method.__qualname__} can't choose {', '.join(taken)}:"
            " the task's name, base, queue and encoding are fixed"
        )
    return Exposed(method, options)
