"""Who asked, and as part of which request."""

import json
import logging
import math
import threading
from contextvars import copy_context
from dataclasses import fields, replace
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from managers.context import (
    MAX_DEADLINE,
    MAX_NAME,
    MAX_ROLES,
    ContextFilter,
    RequestContext,
    current_context,
    get_admin_context,
    without_context,
)
from managers.errors import InvalidContext

NAMES = st.text(max_size=MAX_NAME)
CONTEXTS = st.builds(
    RequestContext,
    user=st.none() | NAMES,
    project=st.none() | NAMES,
    roles=st.lists(NAMES, max_size=4).map(tuple),
    is_admin=st.none() | st.booleans(),
    request_id=NAMES,
    deadline=st.none() | st.integers(0, 253402300799) | st.floats(0, MAX_DEADLINE, exclude_max=True),
)
#: What a stranger could put in a header.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(CONTEXTS)
def test_a_context_survives_its_travel_as_json(context: RequestContext) -> None:
    assert RequestContext.from_dict(json.loads(json.dumps(context.to_dict()))) == context


def test_the_role_admin_in_any_case_makes_an_admin_unless_told_otherwise() -> None:
    assert RequestContext(roles=("reader", "AdMin")).is_admin is True
    assert RequestContext(roles=("reader",)).is_admin is False
    assert RequestContext(roles=("admin",), is_admin=False).is_admin is False
    assert RequestContext(is_admin=True).is_admin is True


def test_an_elevated_context_is_the_same_request_with_admin_rights() -> None:
    context = RequestContext(user="ada", project="engine")

    elevated = context.elevated()

    assert elevated.is_admin is True
    assert (elevated.request_id, elevated.user, elevated.project) == (context.request_id, "ada", "engine")
    assert context.is_admin is False


def test_an_admin_context_is_nobody_in_particular() -> None:
    context = get_admin_context()

    assert (context.user, context.project, context.is_admin) == (None, None, True)


def test_every_request_has_an_id_of_its_own() -> None:
    assert RequestContext().request_id != RequestContext().request_id
    assert RequestContext().request_id.startswith("req-")


def test_keys_of_a_newer_version_are_passed_over() -> None:
    assert RequestContext.from_dict({"user": "ada", "auth_token": "x"}).user == "ada"


def test_a_context_cannot_be_changed_on_its_way() -> None:
    with pytest.raises(AttributeError):
        RequestContext().is_admin = True  # type: ignore[misc]


@given(CONTEXTS)
def test_an_elevated_context_differs_in_nothing_but_its_rights(context: RequestContext) -> None:
    assert replace(context.elevated(), is_admin=context.is_admin) == context
    assert context.elevated().is_admin is True


@given(st.fixed_dictionaries({}, optional={field.name: JSON for field in fields(RequestContext)}) | JSON)
def test_a_header_of_unknown_origin_is_a_context_or_is_refused(header: Any) -> None:
    try:
        context = RequestContext.from_dict(header)
    except InvalidContext:
        return
    assert isinstance(header, dict)
    assert RequestContext.from_dict(json.loads(json.dumps(context.to_dict()))) == context


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"user": 7}, "user has 7, which is no text of up to 256 letters"),
        ({"user": b"ada"}, "user has b'ada'"),
        ({"project": "x" * (MAX_NAME + 1)}, "project has 'xxx"),
        ({"request_id": None}, "request_id has None"),
        ({"request_id": 7}, "request_id has 7"),
        ({"roles": "admin"}, "roles are 'admin', not a list of up to 64 names"),
        ({"roles": {"admin"}}, "roles are {'admin'}"),
        ({"roles": None}, "roles are None"),
        ({"roles": ["x"] * (MAX_ROLES + 1)}, "roles are ['x'"),
        ({"roles": ["reader", 7]}, "roles has 7"),
        ({"roles": ["reader", None]}, "roles has None"),
        ({"is_admin": 1}, "is_admin is 1, neither true nor false"),
        ({"is_admin": "yes"}, "is_admin is 'yes'"),
        ({"deadline": "soon"}, "deadline is 'soon', not seconds since the epoch"),
        ({"deadline": True}, "deadline is True, not seconds since the epoch"),
        ({"deadline": math.nan}, "deadline is nan, no moment between 1970 and 9999"),
        ({"deadline": math.inf}, "deadline is inf, no moment"),
        ({"deadline": -1}, "deadline is -1, no moment"),
        ({"deadline": 10**400}, "no moment between 1970 and 9999"),
        ({"deadline": MAX_DEADLINE}, "no moment between 1970 and 9999"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_key(values: dict[str, Any], says: str) -> None:
    for make in (lambda: RequestContext(**values), lambda: RequestContext.from_dict(values)):
        with pytest.raises(InvalidContext) as caught:
            make()
        assert says in str(caught.value)


@pytest.mark.parametrize("header", [None, [], "req-1", 7, ["user", "ada"]])
def test_what_is_no_object_is_no_context(header: Any) -> None:
    with pytest.raises(InvalidContext, match="a context is an object, not"):
        RequestContext.from_dict(header)


def test_values_at_the_limits_are_taken() -> None:
    name = "x" * MAX_NAME

    context = RequestContext(user=name, project=name, request_id=name, roles=(name,) * MAX_ROLES, deadline=0)

    assert RequestContext.from_dict(context.to_dict()) == context
    assert RequestContext(user="", deadline=math.nextafter(MAX_DEADLINE, 0)).user == ""


def test_roles_given_as_a_list_are_kept_as_nobody_can_change_them() -> None:
    roles = ["reader"]
    context = RequestContext(roles=roles)  # type: ignore[arg-type]
    roles.append("admin")

    assert context.roles == ("reader",)
    assert hash(context)


def test_nothing_is_current_at_first() -> None:
    assert current_context() is None


def test_a_context_is_current_for_the_length_of_the_block() -> None:
    outer, inner = RequestContext(), RequestContext()

    with outer.as_current() as named:
        assert named is outer
        assert current_context() is outer
        with inner.as_current():
            assert current_context() is inner
            with outer.as_current():
                assert current_context() is outer
            assert current_context() is inner
        assert current_context() is outer
    assert current_context() is None


def test_a_block_that_fails_leaves_no_context_behind() -> None:
    with pytest.raises(ZeroDivisionError), RequestContext().as_current():
        _ = 1 / 0

    assert current_context() is None


def test_one_context_may_be_current_twice_over() -> None:
    context = RequestContext()

    with context.as_current(), context.as_current():
        assert current_context() is context
    assert current_context() is None


def test_a_block_without_a_context_hides_it_and_gives_it_back() -> None:
    with RequestContext().as_current() as context:
        with without_context():
            assert current_context() is None
            with RequestContext().as_current() as inner:
                assert current_context() is inner
            assert current_context() is None
        assert current_context() is context


def test_threads_do_not_see_one_anothers_context() -> None:
    seen: dict[str, RequestContext | None] = {}
    own, both_in, read = RequestContext(), threading.Barrier(2, timeout=10), threading.Barrier(2, timeout=10)

    def run() -> None:
        seen["before"] = current_context()
        with RequestContext(user="thread").as_current():
            both_in.wait()
            seen["inside"] = current_context()
            read.wait()

    with own.as_current():
        thread = threading.Thread(target=run)
        thread.start()
        both_in.wait()
        assert current_context() is own
        read.wait()
        thread.join(10)

    assert seen["before"] is None
    assert seen["inside"] is not None
    assert seen["inside"].user == "thread"


def test_greenlets_do_not_see_one_anothers_context() -> None:
    seen: list[tuple[str, str | None]] = []

    def run(user: str) -> None:
        with RequestContext(user=user).as_current():
            for _ in range(3):
                gevent.sleep(0)  # lets the others run, within their blocks
                context = current_context()
                seen.append((user, context and context.user))

    gevent.joinall([gevent.spawn(run, user) for user in ("ada", "bob", "eve")], raise_error=True)

    assert [user for user, _ in seen] == ["ada", "bob", "eve"] * 3
    assert all(user == current for user, current in seen)
    assert current_context() is None


def test_a_greenlet_keeps_the_context_of_its_spawner_to_itself() -> None:
    own = RequestContext(user="main")

    def run() -> None:
        with RequestContext(user="greenlet").as_current():
            gevent.sleep(0)

    with own.as_current():
        greenlet = gevent.spawn(run)
        gevent.sleep(0)
        assert current_context() is own
        greenlet.join()
        assert current_context() is own


def test_what_runs_in_a_copy_of_the_context_changes_nothing_here() -> None:
    def run() -> None:
        RequestContext().as_current().__enter__()

    copy_context().run(run)

    assert current_context() is None


def record(**extra: Any) -> logging.LogRecord:
    """Return a log record with this *extra*, as it comes out of the filter."""
    made = logging.getLogger("test").makeRecord("test", logging.INFO, "f", 1, "said", (), None, extra=extra)
    assert ContextFilter().filter(made) is True
    return made


def test_every_log_record_says_who_asked() -> None:
    with RequestContext(user="ada", project="engine", request_id="req-1").as_current():
        made = vars(record())

    assert (made["request_id"], made["user"], made["project"]) == ("req-1", "ada", "engine")


def test_a_log_record_of_nobody_has_dashes() -> None:
    made = vars(record())
    assert (made["request_id"], made["user"], made["project"]) == ("-", "-", "-")

    with RequestContext(request_id="req-1").as_current():
        made = vars(record())
    assert (made["request_id"], made["user"], made["project"]) == ("req-1", "-", "-")


def test_what_the_caller_gave_in_extra_stays() -> None:
    with RequestContext(user="ada", project="engine", request_id="req-1").as_current():
        made = vars(record(user="root", request_id=None))

    assert (made["request_id"], made["user"], made["project"]) == (None, "root", "engine")


def test_a_format_may_name_the_context_on_every_record() -> None:
    formatter = logging.Formatter("%(request_id)s %(user)s %(message)s")

    assert formatter.format(record()) == "- - said"
