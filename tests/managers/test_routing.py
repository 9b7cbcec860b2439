"""Names of services and hosts, and the queues they become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managers.errors import InvalidName
from managers.routing import (
    check_host,
    check_service,
    fanout_exchange,
    fanout_queue,
    host_queue,
    service_queue,
)

SERVICES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,63}", fullmatch=True).filter(lambda name: name != "undefined")
HOSTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True).filter(
    lambda name: name.split(".", 1)[0] != "fanout"
)


def test_queues_are_named_after_the_service_and_the_host() -> None:
    assert service_queue("volume").name == "volume"
    assert host_queue("volume", "rack1-07").name == "volume.rack1-07"
    assert fanout_exchange("volume").name == "volume.fanout"
    assert fanout_queue("volume", "rack1-07").name == "volume.fanout.rack1-07"


def test_work_queues_use_the_anonymous_exchange_and_no_arguments_so_that_they_never_change() -> None:
    for queue in (service_queue("volume"), host_queue("volume", "a")):
        assert (queue.exchange.name, queue.routing_key) == ("", queue.name)
        assert queue.durable
        assert not queue.auto_delete
        assert not queue.queue_arguments
        assert queue.expires is None


def test_a_fanout_queue_goes_when_its_consumer_goes() -> None:
    queue = fanout_queue("volume", "a")

    assert queue.auto_delete
    assert (queue.exchange.name, queue.exchange.type) == ("volume.fanout", "fanout")


@given(st.lists(st.tuples(SERVICES, HOSTS), min_size=2, max_size=2, unique=True))
def test_no_two_names_share_a_queue(pairs: list[tuple[str, str]]) -> None:
    (service, host), (other_service, other_host) = pairs

    names = {service_queue(service).name, host_queue(service, host).name, fanout_queue(service, host).name}
    others = {host_queue(other_service, other_host).name, fanout_queue(other_service, other_host).name}

    assert len(names) == 3
    assert not names & others


@pytest.mark.parametrize("name", ["a", "Z9", "my-service_2", "a" * 64])
def test_a_service_name_at_its_limits_is_taken(name: str) -> None:
    assert check_service(name) == name


@pytest.mark.parametrize("name", ["", "9a", "a.b", "a/b", "a b", "a\n", "ä", "a" * 65, None, 7, b"a"])
def test_a_service_name_beyond_its_limits_is_refused_by_its_name(name: object) -> None:
    with pytest.raises(InvalidName, match=r"service .* is no name"):
        check_service(name)  # type: ignore[arg-type]


def test_the_service_name_undefined_is_refused_with_the_way_to_name_it() -> None:
    with pytest.raises(InvalidName, match=r"class MyManager\(Manager, service_name='mine'\)"):
        check_service("undefined")


@pytest.mark.parametrize("name", ["a", "7", "rack1-07.example.org", "under_score", "a" * 128, "fanout2", "a.fanout"])
def test_a_host_name_at_its_limits_is_taken(name: str) -> None:
    assert check_host(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "a b", "a\n", "hôte", "a" * 129, None, 7])
def test_a_host_name_beyond_its_limits_is_refused_with_the_setting_to_change(name: object) -> None:
    with pytest.raises(InvalidName, match=r"host .* is no name.*CELERIAC_HOST"):
        check_host(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fanout", "fanout.a"])
def test_a_host_whose_queue_would_be_a_fanout_queue_is_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="fanout"):
        check_host(name)


@pytest.mark.parametrize("check", [check_host, check_service])
@pytest.mark.parametrize("name", ["x" * 100_000, 10**5000, ["x"] * 100_000], ids=["long", "huge number", "list"])
def test_whatever_a_stranger_calls_itself_the_refusal_stays_short(check: object, name: object) -> None:
    with pytest.raises(InvalidName) as refused:
        check(name)  # type: ignore[operator]

    assert len(str(refused.value)) < 300
