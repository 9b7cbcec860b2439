"""``where``: a method means a host by what it can do."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from celery import Celery

from managers.errors import NotAdopted
from managers.manager import Manager
from managers.methods import expose
from managers.remote import Placement, Remote


class Ports(Manager[None], service_name="ports"):
    """Has one method."""

    @expose
    def attach(self, port: int) -> str:
        return f"{port} on {self.host}"


class Recorder:
    """A task that keeps what it was asked, and refuses what a test has it refuse."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refuses: Exception | None = None

    def check_placement(self, placement: dict[str, Any]) -> None:
        self.asked.append(("check_placement", placement))
        if self.refuses is not None:
            raise self.refuses

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> str:
            self.asked.append((verb, *args, kwargs))
            return f"the answer to {verb}"

        return record

    def verbs(self) -> list[tuple[Any, ...]]:
        return [asked for asked in self.asked if not asked[0].startswith("check")]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def attach(recorder: Recorder) -> Remote[..., str]:
    app = Celery("recorded", set_as_current=False, broker="memory://")
    app.tasks["ports.attach"] = recorder
    return Ports.attach.using(app)


def test_what_is_asked_goes_with_every_verb(attach: Remote[..., str], recorder: Recorder) -> None:
    placed = attach.where("ports > 4", claims={"ports": 1})
    said = {"requires": "ports > 4", "claims": {"ports": 1}}

    assert placed.call(port=7) == "the answer to call"
    placed.set(timeout=3).cast(7)
    placed.delay(7)
    placed.set(timeout=3, expires=30).apply_async((7,), priority=3)
    placed.s(7)
    placed.si(7)

    assert recorder.verbs() == [
        ("call", (), {"port": 7}, None, said, {}),
        ("cast", (7,), {}, None, {**said, "timeout": 3}, {}),
        ("apply_async", (7,), {}, said),
        ("apply_async", (7,), None, {**said, "expires": 30, "priority": 3}),
        ("signature", (7,), {}, said),
        ("signature", (7,), {}, {"immutable": True, **said}),
    ]


def test_an_option_of_apply_async_has_the_last_word(attach: Remote[..., str], recorder: Recorder) -> None:
    attach.where("ports > 4", sticky="a").apply_async((7,), requires="ports > 9")

    assert recorder.verbs() == [("apply_async", (7,), None, {"requires": "ports > 9", "sticky": "a"})]


@pytest.mark.parametrize("is_host_first", [True, False])
def test_on_a_host_and_where_means_that_host_alone_and_only_if_it_can(
    attach: Remote[..., str], recorder: Recorder, is_host_first: Any
) -> None:
    placed = attach.on("a").where("ports > 4") if is_host_first else attach.where("ports > 4").on("a")

    placed.call(7)
    placed.delay(7)
    placed.s(7)

    said = {"requires": "ports > 4", "only": "a"}
    assert recorder.verbs() == [
        ("call", (7,), {}, None, said, {}), ("apply_async", (7,), {}, said), ("signature", (7,), {}, said),
    ]  # fmt: skip


def test_the_host_that_was_named_wins_over_those_that_are_allowed(attach: Remote[..., str], recorder: Recorder) -> None:
    attach.where(only=["a", "b"]).on("b").call(7)

    assert recorder.verbs()[0][4] == {"only": "b"}


def test_a_placed_method_reaches_no_host_by_a_fanout(attach: Remote[..., str], recorder: Recorder) -> None:
    with pytest.raises(ValueError, match=r"attach is placed on one host by \.where\(\.\.\.\); leave it out to reach"):
        attach.where("ports > 4").fanout(7)
    with pytest.raises(ValueError, match=r"ports\.attach is for a alone"):
        attach.on("a").where("ports > 4").fanout(7)
    assert recorder.verbs() == []


def test_said_twice_the_later_word_wins_and_the_others_stay(attach: Remote[..., str]) -> None:
    placed = attach.where("ports > 4", sticky="a", claims={"ports": 1}).where(sticky="b").where({"zone": "x"})

    assert placed.placement == {"requires": {"zone": "x"}, "sticky": "b", "claims": {"ports": 1}}
    assert attach.placement == {}
    with pytest.raises(FrozenInstanceError):
        placed.placement = {}  # type: ignore[misc]


def test_where_nothing_is_said_any_host_is_meant(attach: Remote[..., str], recorder: Recorder) -> None:
    attach.where().delay(7)
    attach.on("a").where().delay(7)

    assert recorder.verbs() == [("apply_async", (7,), {}, {}), ("apply_async", (7,), {}, {"queue": "ports.a"})]


def test_every_option_named_in_the_types_is_taken(attach: Remote[..., str]) -> None:
    for option in Placement.__annotations__:
        assert attach.where(**{option: 1}).placement == {option: 1}  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("claim", "did you mean 'claims'"), ("strategi", "did you mean 'strategy'"), ("zzz", "there are claims"),
        ("count", "has no option 'count'"), ("service", "has no option 'service'"), ("queue", "has no option 'queue'"),
        ("timeout", "has no option 'timeout'"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_exist_is_refused_with_the_nearest_that_does(
    attach: Remote[..., str], option: str, said: str
) -> None:
    with pytest.raises(TypeError, match=f"ports.attach has no option '{option}'") as caught:
        attach.where("ports > 4", **{option: 1})  # type: ignore[typeddict-item]
    assert said in str(caught.value)


def test_what_can_not_be_asked_is_refused_where_it_is_said(attach: Remote[..., str], recorder: Recorder) -> None:
    recorder.refuses = ValueError("claims ask for ports = -1")

    with pytest.raises(ValueError, match="claims ask for ports = -1"):
        attach.where(claims={"ports": -1})
    assert recorder.asked == [("check_placement", {"claims": {"ports": -1}})]


def test_where_is_refused_by_a_process_that_does_not_know_the_method() -> None:
    app = Celery("empty", set_as_current=False, broker="memory://")

    with pytest.raises(NotAdopted, match=r"doesn't know ports\.attach"):
        Ports.attach.using(app).where("ports > 4")
