"""A retry that would come after the message's expiry is none: the task fails with what it would be retried for."""

from datetime import timedelta
from typing import Any

import pytest
from celery import current_task
from celery.exceptions import MaxRetriesExceededError

from managers import Manager, expose
from tests.workers.network import NetworkManager, warnings
from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class Tries(Manager[None], service_name="tries"):
    """Retries as it is told."""

    @expose(default_retry_delay=30)
    def again(self, options: dict[str, Any]) -> None:
        """Never succeed."""
        if "eta" in options:
            options["eta"] = current_task.app.now() + timedelta(seconds=options["eta"])
        raise current_task.retry(**options)


def test_a_call_whose_method_cannot_be_tried_again_in_time_raises_what_it_raised(
    here: NetworkManager, caplog: pytest.LogCaptureFixture
) -> None:
    here.faults = [OSError("busy")]

    with pytest.raises(OSError, match="busy"):
        NetworkManager.insist.set(timeout=20).call("once")

    assert here.calls == ["once"]
    assert [line for line in warnings(caplog) if "is not tried again: it expires at" in line]


def test_a_cast_is_tried_again_until_it_would_expire(cluster: Cluster, here: NetworkManager) -> None:
    here.faults = [OSError("first"), OSError("second"), OSError("third")]

    result = NetworkManager.insist.on("here").set(expires=50).cast("again")
    cluster.advance(60)

    assert here.calls == ["again", "again"]
    assert (result.state, str(result.result)) == ("FAILURE", "second")


@pytest.mark.parametrize("options", [{}, {"countdown": 21}, {"eta": 21}])
def test_a_retry_of_ones_own_for_no_error_fails_in_words(cluster: Cluster, options: dict[str, Any]) -> None:
    cluster.start(Tries, hosts=["here"], driver=None)

    with pytest.raises(MaxRetriesExceededError, match=r"tries\.again\[.*\] is not tried again: it expires at"):
        Tries.again.set(timeout=20).call(options)


@pytest.mark.parametrize("options", [{"countdown": 0}, {"countdown": 19}, {"eta": 19}, {"expires": 90}])
def test_a_retry_in_time_is_celerys(cluster: Cluster, options: dict[str, Any]) -> None:
    cluster.start(Tries, hosts=["here"], driver=None)

    result = Tries.again.set(expires=20).delay(options)

    assert result.state in {"RETRY", "FAILURE"}
    assert len(cluster.casts) > 1
