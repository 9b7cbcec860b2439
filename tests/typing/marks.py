"""What ``@periodic_task`` and contexts must and must not take; see remote.py."""

from collections.abc import Callable
from datetime import timedelta
from typing import assert_type

from managers import (
    Manager,
    Remote,
    RequestContext,
    SchedulerDependentManager,
    current_context,
    expose,
    get_admin_context,
    periodic_task,
)


class Volumes(SchedulerDependentManager[None], service_name="volume"):
    @periodic_task
    def bare(self) -> int:
        return 1

    @periodic_task(spacing=timedelta(minutes=5), run_immediately=True, pool=True, scope="fleet")
    def heavy(self) -> None: ...

    @periodic_task(spacing=0.5)
    @expose
    def outside(self) -> str:
        return ""

    @expose(acks_late=True)
    @periodic_task(spacing=-1, enabled=False)
    def inside(self) -> str:
        return ""

    def periodic_tasks(self, context: RequestContext | None = None) -> None:
        super().periodic_tasks(context)


volumes = Volumes("a")


# A periodic method stays what it was.

assert_type(volumes.bare(), int)
unbound: Callable[[Volumes], int] = Volumes.bare
assert_type(volumes.outside(), str)
assert_type(volumes.inside(), str)
assert_type(Volumes.outside, Remote[[], str])
assert_type(Volumes.inside.call(), str)
Volumes.bare.call()  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
Volumes.outside.call("d")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# Options are checked.

periodic_task(spacing="60")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
periodic_task(scope="rack")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
periodic_task(ticks=2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
periodic_task(60)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# Managers take the origin's arguments, and capabilities that a table takes.

Manager[None]("a", "managers.db.api")
SchedulerDependentManager[None]("a", "managers.db.api", "volume")
volumes.update_service_capabilities({"gb": 1, "zones": ["a"], "ssd": True})
volumes.update_service_capabilities(None)
Volumes(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes("a", "managers.db.api", "volume", None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
volumes.update_service_capabilities("gb")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
volumes.update_service_capabilities({"gb": {"a": 1}})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


# Contexts.

assert_type(current_context(), RequestContext | None)
assert_type(get_admin_context().elevated(), RequestContext)
with RequestContext(user="ada", roles=("reader",), deadline=1_800_000_000).as_current() as context:
    assert_type(context, RequestContext)
RequestContext(user=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RequestContext(name="ada")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
context.user = "bob"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
