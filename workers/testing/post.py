"""The way of messages from queues to hosts, in the test's own thread."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from functools import partial

from kombu import Message

from workers.testing.hosts import InlineHost
from workers.testing.recorder import RecordedApp
from workers.testing.timeline import Timeline

#: Deliveries in one go after which messages are taken to breed for ever.
MOST_DELIVERIES = 10_000


class Post:
    """Brings each message to a host that takes from its queue.

    *ahead* is how many seconds the hosts' clocks, by which messages go, are ahead of the fleet's.
    """

    def __init__(self, app: RecordedApp, timeline: Timeline, hosts: Mapping[str, InlineHost], *, ahead: float) -> None:
        self._app = app
        self._timeline = timeline
        self._hosts = hosts
        self._ahead = ahead
        self._deliveries: Counter[str] = Counter()
        #: How often each queue is held.
        self.held: Counter[str] = Counter()
        #: Whether anything was sent or done since schedulers looked.
        self.is_touched = False

    def deliver(self) -> None:
        """Have hosts do all that waits and can be done now, and what comes of that."""
        for _ in range(MOST_DELIVERIES):
            if self._deliver_one():
                self.is_touched = True
                continue
            is_touched, self.is_touched = self.is_touched, False
            looks = [host.place(is_touched=is_touched) for host in list(self._hosts.values())]
            if not any(looks):
                return
        raise RuntimeError(f"{MOST_DELIVERIES} messages in one go: do tasks send themselves for ever?")

    def _deliver_one(self) -> bool:
        recorder = self._app.recorder
        found = next(((waiting, host) for waiting in recorder.waiting if (host := self._receiver(waiting.queue))), None)
        if found is None:
            return False
        waiting, host = found
        recorder.waiting.remove(waiting)
        if (eta := self._eta(waiting.message)) > self._timeline.now():
            self._timeline.at(eta, partial(recorder.waiting.append, waiting))
        else:
            self._deliveries[waiting.queue] += 1
            host.handle(waiting)
        return True

    def _receiver(self, queue: str) -> InlineHost | None:
        """Return the host whose turn it is to take from *queue*, None where nobody consumes it."""
        if self.held[queue]:
            return None
        listening = [host for host in self._hosts.values() if host.is_live and queue in host.queues]
        return listening[self._deliveries[queue] % len(listening)] if listening else None

    def _eta(self, message: Message) -> float:
        """Return when *message* may be run, by the fleet's clock: whole microseconds, as that has."""
        eta = message.headers.get("eta")
        return round(datetime.fromisoformat(eta).timestamp() - self._ahead, 6) if eta else 0.0
