"""Exposed methods: plain on an instance, remote on the class."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import FrozenInstanceError
from functools import partial, wraps
from types import MethodType
from typing import Any

import pytest
from celery import Celery

from managers.answers import Fanout
from managers.errors import InvalidName, NotAdopted
from managers.manager import Manager, SchedulerDependentManager
from managers.methods import expose, exposed_methods
from managers.remote import Options, Remote


class Volumes(SchedulerDependentManager[None], service_name="volume"):
    """A manager with exposed methods, and one that is not."""

    @expose
    def grow(self, disk: str, *, gb: int = 1) -> str:
        """Grow *disk*."""
        return f"{disk} by {gb} on {self.host}"

    @expose(acks_late=True, autoretry_for=(OSError,), time_limit=30)
    def shrink(self, disk: str) -> str:
        return f"{disk} on {self.host}"

    @expose()
    def names(self) -> list[str]:
        return []

    def inner(self) -> str:
        return "inner"


class Raid(Volumes):
    """A subclass that overrides one method, exposed again, and inherits the others and the service's name."""

    @expose
    def grow(self, disk: str, *, gb: int = 1) -> str:
        return f"raid of {super().grow(disk, gb=2 * gb)}"


class Tape(Volumes, service_name="tape"):
    """A subclass that is a service of its own."""


class Recorder:
    """A task that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            self.asked.append((verb, *args, kwargs))
            return f"the answer to {verb}"

        return record


@pytest.fixture
def app() -> Celery:
    return Celery("recorded", set_as_current=False, broker="memory://")


@pytest.fixture
def recorder(app: Celery) -> Recorder:
    recorder = Recorder()
    app.tasks["volume.grow"] = recorder
    return recorder


@pytest.fixture
def grow(app: Celery, recorder: Recorder) -> Remote[..., str]:
    return Volumes.grow.using(app)


def raw(manager: type, name: str) -> Any:
    return inspect.getattr_static(manager, name)


def test_on_an_instance_an_exposed_method_is_the_plain_method() -> None:
    volumes = Volumes("a")

    assert isinstance(volumes.grow, MethodType)
    assert volumes.grow.__self__ is volumes
    assert volumes.grow.__func__ is raw(Volumes, "grow").method
    assert inspect.signature(volumes.grow) == inspect.signature(partial(raw(Volumes, "grow").method, volumes))
    assert volumes.grow("d", gb=3) == "d by 3 on a"
    assert volumes.grow == volumes.grow


def test_the_mark_wraps_nothing() -> None:
    def plain(self: Any) -> None:
        """Say what it does."""

    marked: Any = expose(plain)

    assert marked.method is plain
    assert marked.__wrapped__ is plain
    assert marked.__doc__ == "Say what it does."
    assert vars(plain) == {}


def test_wrong_arguments_of_a_local_call_are_pythons_own_error() -> None:
    with pytest.raises(TypeError, match=r"grow\(\) got an unexpected keyword argument 'size'"):
        Volumes("a").grow("d", size=3)  # type: ignore[call-arg]


def test_on_the_class_an_exposed_method_is_the_remote_one() -> None:
    assert Volumes.grow == Remote("volume", "grow")
    assert Volumes.grow.name == "volume.grow"


def test_a_method_that_is_not_exposed_is_plain_on_the_class_too() -> None:
    assert inspect.isfunction(Volumes.inner)
    assert [name for name, _ in exposed_methods(Volumes)] == ["grow", "names", "shrink"]


def test_super_reaches_the_method_of_the_base_class() -> None:
    assert Raid("a").grow("d") == "raid of d by 2 on a"
    assert Raid("a").shrink("d") == "d on a"


def test_a_subclass_inherits_the_service_and_a_service_of_its_own_has_tasks_of_its_own() -> None:
    assert Raid.grow == Remote("volume", "grow")
    assert Raid.shrink == Remote("volume", "shrink")
    assert (Tape.grow.name, Tape.shrink.name, Volumes.grow.name) == ("tape.grow", "tape.shrink", "volume.grow")


def test_the_most_derived_definition_is_the_one_exposed() -> None:
    assert dict(exposed_methods(Raid)) == {
        "grow": raw(Raid, "grow"), "names": raw(Volumes, "names"), "shrink": raw(Volumes, "shrink"),
    }  # fmt: skip


def test_a_test_may_replace_the_method_of_one_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = Volumes("a")
    monkeypatch.setattr(volumes, "grow", lambda disk: f"replaced {disk}")

    assert volumes.grow("d") == "replaced d"
    assert Volumes("a").grow("d") == "d by 1 on a"


def test_an_override_that_is_not_exposed_is_refused_with_its_class() -> None:
    with pytest.raises(TypeError, match=r"Forgetful\.grow overrides an exposed method; mark it with @expose too"):

        class Forgetful(Volumes):
            def grow(self, disk: str, *, gb: int = 1) -> str:  # type: ignore[override]
                return ""

    with pytest.raises(TypeError, match=r"Deeper\.shrink overrides an exposed method"):

        class Deeper(Raid):
            shrink = None  # type: ignore[assignment]


def test_an_override_by_a_mixin_that_is_not_exposed_is_refused_too() -> None:
    class Logged:
        def grow(self, disk: str, *, gb: int = 1) -> str:
            return ""

    with pytest.raises(TypeError, match=r"Mixed\.grow overrides an exposed method"):

        class Mixed(Logged, Volumes):  # type: ignore[misc]
            pass

    class Behind(Volumes, Logged):  # type: ignore[misc]
        pass

    assert Behind.grow.name == "volume.grow"


def test_a_mixin_may_expose_methods_of_its_own() -> None:
    class Checked:
        @expose
        def check(self) -> bool:
            return True

    class Mixed(Checked, Volumes):
        pass

    assert Mixed.check.name == "volume.check"
    assert Mixed("a").check() is True


def test_a_method_that_was_plain_in_the_base_may_be_exposed() -> None:
    class Opened(Volumes):
        @expose
        def inner(self) -> str:
            return f"opened {super().inner()}"

    assert Opened.inner.name == "volume.inner"
    assert Opened("a").inner() == "opened inner"


@pytest.mark.parametrize(
    "name",
    ["init_host", "periodic_tasks", "cleanup_host", "update_service_capabilities", "schedule", "memory", "_inner"],
)
def test_hooks_and_private_names_cannot_be_exposed(name: str) -> None:
    def method(self: Any) -> None: ...

    method.__name__ = method.__qualname__ = name

    for mark in (expose, expose(), expose(acks_late=True)):
        with pytest.raises(TypeError, match=rf"{name} can't be exposed: hooks and names that begin with '_'"):
            mark(method)  # type: ignore[operator]


@pytest.mark.parametrize("value", [7, "grow", print, partial(print), staticmethod(print), property(print), Volumes])
def test_what_is_no_method_is_refused(value: Any) -> None:
    for mark in (expose, expose(), expose(acks_late=True)):
        with pytest.raises(TypeError, match="@expose marks a method of a manager"):
            mark(value)


@pytest.mark.parametrize("name", ["schedule", "memory", "driver", "host"])
def test_a_method_that_every_instance_would_hide_is_refused_with_its_class(name: str) -> None:
    def method(self: Any) -> None: ...

    with pytest.raises(TypeError, match=f"Hidden.{name} can't be a method: every manager keeps its {name} there"):
        type("Hidden", (Manager,), {name: method}, service_name="hidden")


async def coroutine(self: Any) -> None: ...
def generator(self: Any) -> Iterator[None]:
    yield


async def stream(self: Any) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("method", [coroutine, generator, stream])
def test_a_method_that_answers_with_no_value_is_refused(method: Any) -> None:
    with pytest.raises(TypeError, match=f"{method.__name__} can't be exposed: its answer must be a value"):
        expose(method)


def test_a_method_is_not_exposed_twice() -> None:
    with pytest.raises(TypeError, match="@expose marks a method"):
        expose(expose(lambda self: None))  # type: ignore[arg-type]


def test_celerys_options_of_a_task_are_kept_with_the_mark() -> None:
    options = {name: dict(exposed.options) for name, exposed in exposed_methods(Volumes)}

    assert options == {
        "grow": {},
        "names": {},
        "shrink": {"acks_late": True, "autoretry_for": (OSError,), "time_limit": 30},
    }


@pytest.mark.parametrize("option", ["base", "bind", "name", "serializer", "service", "shared", "typing"])
def test_what_makes_the_task_this_methods_is_no_option(option: str) -> None:
    with pytest.raises(TypeError, match=f"can't choose {option}: the task's name, base, queue and encoding are fixed"):
        expose(**{option: "x"})(lambda self: None)


def test_a_method_has_the_name_that_its_class_gives_it() -> None:
    def logged(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: Any) -> Any:
            return method(self)

        return wrapper

    class Odd(Manager[None], service_name="odd"):
        @expose
        @logged
        def measure(self) -> str:
            return "measured"

        lookup = expose(lambda self: "looked up")

    assert (Odd.measure.name, Odd.lookup.name) == ("odd.measure", "odd.lookup")
    assert [name for name, _ in exposed_methods(Odd)] == ["lookup", "measure"]
    assert (Odd("a").measure(), Odd("a").lookup()) == ("measured", "looked up")


def test_a_well_made_decorator_may_lie_below_the_mark() -> None:
    def doubled(method: Callable[[Any, int], int]) -> Callable[[Any, int], int]:
        @wraps(method)
        def wrapper(self: Any, number: int) -> int:
            return 2 * method(self, number)

        return wrapper

    class Odd(Manager[None], service_name="odd"):
        @expose
        @doubled
        def same(self, number: int) -> int:
            """Return it."""
            return number

    assert Odd.same.name == "odd.same"
    assert Odd("a").same(4) == 8
    assert raw(Odd, "same").__doc__ == "Return it."


def test_a_modifier_returns_another_remote_and_leaves_this_one_alone(app: Celery) -> None:
    remote = Volumes.grow

    changed = remote.on("a").set(expires=30, countdown=1).set(priority=3, expires=20).using(app)

    assert changed == Remote(
        "volume", "grow", host="a", options={"expires": 20, "countdown": 1, "priority": 3}, app=app
    )
    assert remote == Remote("volume", "grow")
    assert type(changed) is Remote


def test_a_remote_cannot_be_changed() -> None:
    for name in ("service", "method", "host", "options", "app"):
        with pytest.raises(FrozenInstanceError):
            setattr(Volumes.grow, name, None)
    with pytest.raises((AttributeError, TypeError)):
        Volumes.grow.timeout = 3  # type: ignore[attr-defined]


def test_two_remotes_share_no_options() -> None:
    one = Volumes.grow.set(expires=30)
    two = one.set(expires=20)

    assert (one.options["expires"], two.options["expires"]) == (30, 20)
    assert Volumes.grow.options == {}


def test_an_option_that_does_not_exist_is_refused_with_the_nearest_that_does() -> None:
    with pytest.raises(TypeError, match=r"volume\.grow has no option 'time_out'; did you mean 'timeout'\?"):
        Volumes.grow.set(time_out=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"no option 'expire'; did you mean 'expires'\?"):
        Volumes.grow.set(countdown=1, expire=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"no option 'zzz'; there are countdown, eta, .*may_wait, .*timeout"):
        Volumes.grow.set(zzz=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("option", ["queue", "exchange", "routing_key", "serializer", "host", "args", "kwargs"])
def test_where_a_message_goes_and_what_it_says_are_no_options(option: str) -> None:
    with pytest.raises(TypeError, match=f"no option '{option}'"):
        Volumes.grow.set(**{option: "x"})  # type: ignore[typeddict-item]


def test_every_option_named_in_the_types_is_taken() -> None:
    for option in Options.__annotations__:
        assert Volumes.grow.set(**{option: 1}).options == {option: 1}  # type: ignore[typeddict-item]


@pytest.mark.parametrize("host", ["", "a b", "fanout", "fanout.a", None, 7, "å", "a" * 129])
def test_a_host_that_is_no_name_is_refused(host: Any) -> None:
    with pytest.raises(InvalidName, match="host"):
        Volumes.grow.on(host)


def test_call_and_cast_pass_arguments_host_and_options_on(grow: Remote[..., str], recorder: Recorder) -> None:
    assert grow.on("a").set(timeout=3).call("d", gb=2) == "the answer to call"
    grow.cast("d")

    assert recorder.asked == [
        ("call", ("d",), {"gb": 2}, "a", {"timeout": 3}, {}),
        ("cast", ("d",), {}, None, {}, {}),
    ]


def test_a_fanout_goes_to_no_one_host(grow: Remote[..., str], recorder: Recorder) -> None:
    with pytest.raises(ValueError, match=r"volume\.grow is for a alone; leave out \.on\('a'\) to reach every host"):
        grow.on("a").fanout("d")
    grow.set(timeout=3).fanout("d", gb=2)

    assert recorder.asked == [("fanout", ("d",), {"gb": 2}, {"timeout": 3}, {})]


def test_celerys_verbs_get_celerys_options(grow: Remote[..., str], recorder: Recorder) -> None:
    remote = grow.on("a").set(timeout=3, may_wait=True, expires=30)

    remote.delay("d", gb=2)
    remote.apply_async(("d",), {"gb": 2}, expires=20, countdown=1)
    remote.s("d")
    remote.si("d", gb=2)

    of_host = {"queue": "volume.a"}
    assert [asked for asked in recorder.asked if asked[0] != "check"] == [
        ("apply_async", ("d",), {"gb": 2}, {"expires": 30, **of_host}),
        ("apply_async", ("d",), {"gb": 2}, {"expires": 20, "countdown": 1, **of_host}),
        ("signature", ("d",), {}, {"expires": 30, **of_host}),
        ("signature", ("d",), {"gb": 2}, {"immutable": True, "expires": 30, **of_host}),
    ]


def test_a_signature_is_checked_where_it_is_made(grow: Remote[..., str], recorder: Recorder) -> None:
    grow.s("d")
    grow.si("d", gb=2)

    assert [asked for asked in recorder.asked if asked[0] == "check"] == [
        ("check", ("d",), {}, {"partial": True}),
        ("check", ("d",), {"gb": 2}, {}),
    ]


def test_without_a_host_celerys_verbs_name_no_queue(grow: Remote[..., str], recorder: Recorder) -> None:
    grow.delay("d")

    assert recorder.asked == [("apply_async", ("d",), {}, {})]


def test_a_method_that_no_application_knows_is_refused_by_every_verb(app: Celery) -> None:
    for verb in (Tape.grow.call, Tape.grow.cast, Tape.grow.fanout, Tape.grow.delay, Tape.grow.s, Tape.grow.si):
        with pytest.raises(NotAdopted, match=r"knows tape\.grow"):
            verb("d")


def test_an_application_that_does_not_know_the_method_is_named(app: Celery) -> None:
    with pytest.raises(NotAdopted, match=r"recorded.*tape\.grow"):
        Tape.grow.using(app).cast("d")


def test_a_fanout_is_generic_at_run_time_too() -> None:
    assert Fanout[int]("volume.grow", {}, timeout=0).gather().results == {}
