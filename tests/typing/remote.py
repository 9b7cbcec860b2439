"""What must check, and what must not: an ignore that a checker doesn't need is an error there."""

from collections.abc import Callable
from typing import Any, assert_type

from celery.canvas import Signature
from celery.result import AsyncResult

from managers import Answers, Fanout, Manager, Remote, SchedulerDependentManager, expose
from managers.methods import Exposed


class Disk:
    """A driver."""

    gb: int = 0


class Volumes(SchedulerDependentManager[Disk], service_name="volume"):
    @expose
    def grow(self, disk: str, gb: int = 1, *, force: bool = False) -> list[int]:
        return [gb]

    @expose(acks_late=True, time_limit=30)
    def shrink(self, disk: str) -> None: ...

    @expose()
    def names(self, /, *prefixes: str, **labels: int) -> dict[str, int]:
        return labels

    @expose  # type: ignore[arg-type]  # mypy wants (self, /, ...) beside **labels, where one of them could be called self
    def labels(self, **labels: int) -> dict[str, int]:
        return labels

    @expose
    def count(self) -> int:
        return 1

    def inner(self, disk: str) -> str:
        return disk


class Raid(Volumes):
    @expose
    def grow(self, disk: str, gb: int = 1, *, force: bool = False) -> list[int]:
        return super().grow(disk, gb, force=force)


volumes = Volumes("rack1-07")


# On an instance it is the plain method.

assert_type(volumes.grow("d"), list[int])
assert_type(volumes.grow("d", 2, force=True), list[int])
plain: Callable[[str], list[int]] = volumes.grow
volumes.grow(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
volumes.grow()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
volumes.grow("d", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
volumes.grow.call("d")  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
assert_type(Raid("a").grow("d"), list[int])


# On the class it is the remote one, and ParamSpec keeps names, defaults and kinds.

assert_type(Volumes.grow.call("d"), list[int])
assert_type(Volumes.grow.call("d", 2), list[int])
assert_type(Volumes.grow.call(disk="d", gb=2, force=True), list[int])
Volumes.shrink.call("d")
assert_type(Volumes.names.call("a", "b", size=1), dict[str, int])
assert_type(Raid.grow.call("d"), list[int])
Volumes.grow.call()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.call(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.call("d", "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.call("d", 2, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # noqa: FBT003
Volumes.grow.call("d", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.call("d", force="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.names.call(size="big")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow("d")  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
Volumes.grow.call(volumes, "d")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
grown: str = Volumes.grow.call("d")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


# Every verb takes the method's own arguments and promises its result.

assert_type(Volumes.grow.cast("d", gb=2), AsyncResult[list[int]])
assert_type(Volumes.grow.delay("d", gb=2), AsyncResult[list[int]])
assert_type(Volumes.grow.apply_async(("d",), {"gb": 2}), AsyncResult[list[int]])
assert_type(Volumes.grow.si("d", gb=2), Signature[list[int]])
assert_type(Volumes.grow.s("d"), Signature[list[int]])
assert_type(Volumes.grow.fanout("d"), Fanout[list[int]])
assert_type(Volumes.grow.fanout("d").gather(), Answers[list[int]])
assert_type(Volumes.grow.fanout("d").gather(timeout=3).results["a"], list[int])
Volumes.grow.cast(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.cast()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.cast("d", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.delay(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.delay()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.delay("d", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.fanout(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.fanout()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.fanout("d", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.si(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.si()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.si("d", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
for host, sizes in Volumes.grow.fanout("d").gather():
    assert_type(host, str)
    assert_type(sizes, list[int])
Volumes.grow.fanout("d").gather("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Modifiers keep the types; an option that doesn't exist is an error.

assert_type(Volumes.count, Remote[[], int])
assert_type(Volumes.count.on("a").set(timeout=3, expires=30).on("b"), Remote[[], int])
assert_type(Volumes.grow.on("a").set(timeout=3, expires=30).on("b").call("d", gb=2), list[int])
assert_type(Volumes.grow.on("a").set(timeout=None).call("d"), list[int])
Volumes.grow.on(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.set(time_out=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.set(timeout="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.set(queue="volume.a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.using("app")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.on("a").call(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.set(timeout=3).cast()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.host = "a"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# Where a method may run is said before the verb, which keeps its types.

assert_type(Volumes.count.where("gb > 4", claims={"gb": 1}), Remote[[], int])
assert_type(Volumes.grow.where("gb > 4", claims={"gb": 1}).call(disk="d"), list[int])
assert_type(Volumes.grow.where({"zone": ["a", "b"]}, prefers={"ssd": 2}).cast("d"), AsyncResult[list[int]])
assert_type(Volumes.grow.on("a").where("gb > 4").set(timeout=3).where(only=["a", "b"]).call("d", 2), list[int])
assert_type(Volumes.grow.where("gb > 4", strategy="pack", must_stick=True, sticky="c").s("d"), Signature[list[int]])
assert_type(Volumes.grow.where(same_host="t", different_host=["u"], exclude="b").si("d"), Signature[list[int]])
assert_type(Volumes.grow.where(placement_timeout=3, start_deadline=5).delay("d"), AsyncResult[list[int]])
assert_type(Volumes.count.where(max_attempts=2).call(), int)
assert_type(Volumes.grow.where(requires="gb > 4").apply_async(("d",)), AsyncResult[list[int]])
Volumes.grow.where("gb > 4").call()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.where("gb > 4").call(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.where("gb > 4").call("d", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.where(claim={"gb": 1})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.where(claims={"gb": "1"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
Volumes.grow.where(claims="gb")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.where(only=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.where(max_attempts="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Volumes.grow.where(count=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.where(service="host")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Volumes.grow.where("gb > 4", "a")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


# What is not exposed is no task.

assert_type(volumes.inner("d"), str)
Volumes.inner.call("d")  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
Volumes.nothing.call("d")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


# The mark itself takes methods only, and an override keeps to the signature.


@expose
def measure(manager: Any) -> int:
    return 0


assert_type(measure, Exposed[[], int])
expose(7)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


class Narrow(Volumes):
    @expose
    def grow(self, disk: int) -> list[int]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return []


class Sure(Volumes):
    @expose
    def count(self) -> bool:
        return True


assert_type(Sure.count.call(), bool)
answers: Answers[int] = Sure.count.fanout().gather()


# A manager says which driver it expects.

assert_type(volumes.driver, Disk)
assert_type(volumes.driver.gb, int)
volumes.driver.tb  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
volumes.driver = 7  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
assert_type(Manager[None]("a").driver, None)
