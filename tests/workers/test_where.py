"""Methods that are placed by what they need: from ``.where(...)`` or ``@expose(...)`` to the manager that runs them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, chain
from celery.result import AsyncResult

from managers import Manager, RequestContext, current_context, expose
from managers.context import CONTEXT_HEADER
from managers.errors import CallTimeout, InvalidArguments
from scheduler.errors import InvalidPlacement, InvalidRequirement
from scheduler.placing import CLAIM_HEADER
from tests.workers.placement import Fleet
from workers.methods import refuse_unknown_options


class Network(Manager[None], service_name="network"):
    """Has a method that asks for nothing, and one that asks for a port wherever it runs."""

    @expose
    def attach(self, port: int) -> str:
        context = current_context()
        return f"{port} on {self.host} for {context and context.user}"

    @expose(claims={"ports": 1}, requires="zone == 'x'")
    def claim(self, port: int) -> str:
        return f"{port} on {self.host}"


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Iterator[Celery]:
    app = make_app(Network)
    yield app
    app.close()


@pytest.fixture
def fleet(app: Celery) -> Fleet:
    return Fleet(app)


@pytest.fixture
def attach(app: Celery) -> Any:
    return Network.attach.using(app)


def test_a_placed_method_runs_on_a_host_of_its_service_that_can_take_it(fleet: Fleet, attach: Any) -> None:
    fleet.host("a", service="network", ports=2)
    fleet.host("b", service="network", ports=9)
    fleet.host("c", ports=9)

    with RequestContext(user="ada").as_current():
        result = attach.where("ports > 4", claims={"ports": 1}).delay(port=7)

    request, message = fleet.waits()
    assert (request.service, request.claims) == ("network", {"ports": 1000, "slots": 1000})
    assert CONTEXT_HEADER in message["headers"]
    fleet.place()
    assert {host: fleet.run(host, "network") for host in "abc"} == {"a": [], "b": ["network.attach"], "c": []}
    assert result.get(timeout=1) == "7 on b for ada"


def test_a_method_that_asks_for_nothing_goes_past_the_scheduler(fleet: Fleet, attach: Any) -> None:
    attach.delay(7)
    attach.where().delay(7)

    assert fleet.waiting() == fleet.announced() == []
    assert len(fleet.taken("network")) == 2


def test_what_the_mark_says_counts_for_every_call_and_a_call_may_say_otherwise(fleet: Fleet, app: Celery) -> None:
    claim = Network.claim.using(app)

    claim.delay(7)
    claim.where(claims={"ports": 2}).delay(7)
    claim.where("zone == 'y'").cast(7)

    asked = [(str(request.requires), request.claims["ports"]) for request, _ in fleet.waiting()]
    assert asked == [("zone == 'x'", 1000), ("zone == 'x'", 2000), ("zone == 'y'", 1000)]


def test_a_named_host_is_past_the_scheduler_unless_the_call_says_where(fleet: Fleet, app: Celery) -> None:
    claim = Network.claim.using(app).on("a")

    claim.delay(7)
    assert fleet.waiting() == []
    (direct,) = fleet.taken("network.a")
    assert CLAIM_HEADER not in direct.headers
    claim.where(claims={"ports": 2}).delay(7)

    request, _ = fleet.waits()
    assert (request.only, request.claims["ports"], str(request.requires)) == (("a",), 2000, "zone == 'x'")


def test_a_named_host_that_can_not_take_it_is_not_replaced_by_another(fleet: Fleet, attach: Any) -> None:
    fleet.host("a", service="network", ports=1)
    fleet.host("b", service="network", ports=9)

    attach.on("a").where("ports > 4").delay(7)
    fleet.place()

    assert (fleet.run("a", "network"), fleet.run("b", "network")) == ([], [])
    assert len(fleet.waiting()) == 1


def test_a_call_waits_as_long_as_ever_and_its_message_is_not_begun_later(
    fleet: Fleet, attach: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.remote.has_arrived", lambda result, timeout: False)

    with pytest.raises(CallTimeout, match=r"network\.attach on any host of network gave no answer within 20 s"):
        attach.where("ports > 4").set(timeout=20).call(7)

    request, message = fleet.waits()
    assert request.expires_at == pytest.approx(datetime.now(UTC).timestamp() + 20, abs=5)
    assert message["headers"]["ignore_result"] is False


def test_a_cast_keeps_only_its_failure(fleet: Fleet, attach: Any) -> None:
    result = attach.where("ports > 4").cast(7)

    request, message = fleet.waits()
    assert isinstance(result, AsyncResult)
    assert (request.keeps_errors, message["headers"]["ignore_result"], request.expires_at) == (True, True, None)


def test_in_a_canvas_each_step_is_placed(fleet: Fleet, app: Celery, attach: Any) -> None:
    fleet.host("a", service="network", ports=9, zone="x")

    @app.task(shared=False, name="tasks.more")
    def more(text: str) -> int:
        return len(text)

    result = chain(
        attach.where("ports > 4").s(7),
        more.s().set(queue="mine"),
        Network.claim.using(app).where(claims={"ports": 2}).s(),
    ).apply_async()
    fleet.place()
    fleet.run("a", "network")
    fleet.execute(fleet.taken("mine"), "a")
    fleet.place()

    assert fleet.run("a", "network") == ["network.claim"]
    assert result.get(timeout=1).endswith("on a")


@pytest.mark.parametrize(
    ("placement", "error", "said"),
    [
        ({"requires": "ports >"}, InvalidRequirement, "it ends too early"),
        ({"requires": 7}, InvalidRequirement, "not 7"),
        ({"claims": {"ports": -1}}, InvalidPlacement, "claims ask for ports = -1"),
        ({"prefers": {"ports": "much"}}, InvalidPlacement, "the weight of 'ports'"),
        ({"strategy": "pcak"}, InvalidPlacement, "strategy is 'pcak'; it is one of spread, pack"),
        ({"only": 7}, InvalidPlacement, "only is 7; it is a name or a list of names"),
        ({"max_attempts": 0}, InvalidPlacement, "max_attempts is 0; it is a whole number"),
    ],
)
def test_what_can_not_be_asked_is_refused_where_it_is_said(
    fleet: Fleet, attach: Any, placement: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        attach.where(**placement)


def test_wrong_arguments_of_a_placed_method_are_refused_before_anything_is_recorded(fleet: Fleet, attach: Any) -> None:
    placed = attach.where("ports > 4")

    for verb in (placed.call, placed.cast, placed.delay, placed.si):
        with pytest.raises(TypeError):
            verb(prt=7)
        with pytest.raises(InvalidArguments):
            verb(port=object())
    assert fleet.waiting() == fleet.announced() == []


def test_a_placed_method_is_no_fanout_and_what_its_mark_asks_keeps_none_from_one(fleet: Fleet, app: Celery) -> None:
    with pytest.raises(ValueError, match="leave it out to reach every host"):
        Network.attach.using(app).where("ports > 4").fanout(7)

    Network.claim.using(app).fanout(7)

    assert fleet.waiting() == []


def test_a_method_is_exposed_for_one_host_since_whoever_calls_it_waits_for_one_answer() -> None:
    class Ports(Manager[None], service_name="ports"):
        @expose(count=2)
        def attach(self) -> None: ...

    with pytest.raises(TypeError, match="attach is exposed with 'count', which no method knows"):
        refuse_unknown_options(Ports)
