"""Which Celery application a manager class speaks through.

A process may hold several applications, and several may know the same class. Asked for in this order: the application
under test and no other, the current one (in a worker its own), the only one that knows the task.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

from celery import Celery, _state

from managers.errors import NotAdopted

_adopted: WeakSet[Celery] = WeakSet()
_under_test: list[Celery] = []


def adopted(app: Celery) -> None:
    """Note that *app* has managers."""
    _adopted.add(app)


@contextmanager
def under_test(app: Celery) -> Iterator[None]:
    """Mean *app* and no other for the length of the block, so that no test reaches a real broker by mistake."""
    _under_test.append(app)
    try:
        yield
    finally:
        _under_test.remove(app)


def application_of(task: str) -> Celery:
    """Return the application to send *task*, a method's name, through.

    Raises:
        NotAdopted: none knows it, or several do and none of them is current.
    """
    # not celery.current_app: asking for it makes a default application where there is none
    current: Celery | None = _state._tls.current_app or _state.default_app  # type: ignore[attr-defined]  # noqa: SLF001
    knowing = [app for app in _under_test or _adopted if task in app.tasks]
    if current in knowing:
        return current
    if len(knowing) == 1:
        return knowing[0]
    if knowing:
        raise NotAdopted(
            f"{len(knowing)} applications know {task} and none is current: {_named(knowing)}; say .using(app)"
        )
    if _under_test:
        raise NotAdopted(f"{_named(_under_test)} under test doesn't know {task}; start its manager there first")
    raise NotAdopted(
        f"no Celery application in this process knows {task}; call workers.celeriac_app(app, managers=[...]) with its"
        " manager first"
    )


def _named(apps: Iterable[Celery]) -> str:
    return ", ".join(sorted(repr(app) for app in apps))
