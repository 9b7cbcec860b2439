"""Who asked, and as part of which request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managers.context import RequestContext, get_admin_context

CONTEXTS = st.builds(
    RequestContext,
    user=st.none() | st.text(),
    project=st.none() | st.text(),
    roles=st.lists(st.text(), max_size=4).map(tuple),
    is_admin=st.none() | st.booleans(),
    request_id=st.text(),
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
