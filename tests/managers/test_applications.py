"""A manager class speaks through the application under test, else the current one, else the only one that knows it."""

import gc
from collections.abc import Iterator

import pytest
from celery import Celery, _state

from managers import applications
from managers.applications import adopted, application_of, under_test
from managers.errors import NotAdopted

TASK = "volume.grow"


@pytest.fixture(autouse=True)
def _no_other_applications(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(applications, "_adopted", type(applications._adopted)())
    monkeypatch.setattr(_state, "default_app", None)
    before, _state._tls.current_app = _state._tls.current_app, None  # type: ignore[attr-defined]
    yield
    _state._tls.current_app = before  # type: ignore[attr-defined]


def make(name: str, *tasks: str, is_adopted: bool = True) -> Celery:
    app = Celery(name, set_as_current=False, broker="memory://")
    for task in tasks:
        app.tasks[task] = object()
    if is_adopted:
        adopted(app)
    return app


def test_the_only_application_that_knows_the_task_is_meant() -> None:
    knowing = make("knowing", TASK)
    others = [make("other"), make("another", "network.attach")]

    assert application_of(TASK) is knowing
    assert others


def test_an_application_that_does_not_know_the_task_is_never_meant_however_current() -> None:
    knowing, current = make("knowing", TASK), make("current")
    current.set_current()

    assert application_of(TASK) is knowing


def test_of_several_the_current_one_is_meant() -> None:
    first, second = make("first", TASK), make("second", TASK)

    for current in (first, second):
        current.set_current()
        assert application_of(TASK) is current


def test_the_default_application_is_current_where_none_was_made_so(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make("first", TASK), make("second", TASK)
    monkeypatch.setattr(_state, "default_app", second)

    assert application_of(TASK) is second
    first.set_current()
    assert application_of(TASK) is first


def test_several_of_which_none_is_current_are_refused_by_name() -> None:
    kept = [make("first", TASK), make("second", TASK), make("third")]

    with pytest.raises(
        NotAdopted, match=r"2 applications know volume\.grow and none is current: .*first.*second.*using"
    ):
        application_of(TASK)
    kept[2].set_current()
    with pytest.raises(NotAdopted, match="none is current"):
        application_of(TASK)


def test_none_that_knows_the_task_is_refused_with_the_way_out() -> None:
    kept = make("other"), make("not adopted", TASK, is_adopted=False)
    kept[1].set_current()

    with pytest.raises(
        NotAdopted, match=r"no Celery application in this process knows volume\.grow; call workers\.celer"
    ):
        application_of(TASK)


def test_the_application_under_test_comes_before_every_other() -> None:
    real, tested = make("real", TASK), make("tested", TASK, is_adopted=False)
    real.set_current()

    with under_test(tested):
        assert application_of(TASK) is tested
    assert application_of(TASK) is real


def test_no_test_reaches_a_real_application_with_a_task_that_the_one_under_test_lacks() -> None:
    kept, tested = make("real", TASK), make("tested", is_adopted=False)
    kept.set_current()

    with under_test(tested), pytest.raises(NotAdopted, match=r"tested.* under test doesn't know volume\.grow"):
        application_of(TASK)
    assert application_of(TASK) is kept


def test_a_test_within_a_test_has_both_applications() -> None:
    outer, inner = make("outer", TASK, is_adopted=False), make("inner", "network.attach", is_adopted=False)

    with under_test(outer), under_test(inner):
        assert application_of(TASK) is outer
        assert application_of("network.attach") is inner


def test_a_test_that_fails_leaves_no_application_behind() -> None:
    real, tested = make("real", TASK), make("tested", TASK, is_adopted=False)

    with pytest.raises(ZeroDivisionError), under_test(tested):
        _ = 1 / 0

    assert application_of(TASK) is real


def test_an_application_that_is_gone_is_forgotten() -> None:
    kept = make("kept", TASK)
    make("gone", TASK)
    _state._deregister_app(next(app for app in applications._adopted if app.main == "gone"))  # type: ignore[attr-defined]
    gc.collect()

    assert application_of(TASK) is kept


def test_asking_makes_no_default_application() -> None:
    kept = make("knowing", TASK)

    assert application_of(TASK) is kept
    assert _state.default_app is None
