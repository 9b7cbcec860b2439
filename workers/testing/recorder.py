"""A Celery application whose broker is a list: every message it sends stays in this process and can be read.

The seam is ``app.producer_or_acquire``. Up to there all is Celery's and kombu's own: routes, signals, declarations, the
serializer. What comes out at the other end is what a worker would have read off the wire, decoded from the same bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from celery import Celery, _state
from celery.app.control import Control
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import TimeoutError as ResultTimeout
from kombu import Exchange, Message, Producer
from kombu.serialization import prepare_accept_content
from kombu.utils.json import dumps, loads

from scheduler.envelope import Recording


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as its receiver decodes it; *queue* is empty where an *exchange* copies it to many."""

    task: str
    queue: str
    exchange: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    headers: dict[str, Any]

    @property
    def host(self) -> str | None:
        """The one host that an exposed method's message is for; None for any host of the service, or for all."""
        service, _, host = self.queue.partition(".")
        return host if host and service == self.task.partition(".")[0] else None


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A message in a queue."""

    queue: str
    message: Message


class Recorder(Producer):
    """Puts messages into queues of this process; what is sent to an exchange without queues is lost, as ever."""

    def __init__(self, app: Celery, *, published: Callable[[], None]) -> None:
        super().__init__(app.connection_for_write(), auto_declare=False)
        self._published = published
        self._accept = prepare_accept_content(app.conf.accept_content)
        self._fanouts: set[str] = set()
        #: Names of the queues that a fanout exchange copies to.
        self.bound: defaultdict[str, list[str]] = defaultdict(list)
        self.sent: list[Sent] = []
        self.waiting: list[Waiting] = []

    def publish(self, body: Any, *, retry: bool = False, retry_policy: Any = None, **options: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        """Encode and keep *body*; there is no connection whose loss would call for a *retry*."""
        super().publish(body, **options)
        self._published()

    def _publish(  # noqa: PLR0917  # kombu's own
        self,
        body: bytes,
        priority: int | None,
        content_type: str | None,
        content_encoding: str | None,
        headers: dict[str, Any] | None,
        properties: dict[str, Any],
        routing_key: str,
        mandatory: bool,  # noqa: ARG002, FBT001
        immediate: bool,  # noqa: ARG002, FBT001
        exchange: str,
        declare: list[Any],
        timeout: float | None = None,  # noqa: ARG002
        confirm_timeout: float | None = None,  # noqa: ARG002
        retry: bool = False,  # noqa: ARG002, FBT001, FBT002
        retry_policy: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> None:
        def message() -> Message:
            return Message(
                body=body,  # type: ignore[arg-type]  # bytes are what brokers give it
                content_type=content_type,
                content_encoding=content_encoding,
                headers=loads(dumps(headers)),
                properties=loads(dumps({**properties, "priority": priority})),
                delivery_info={"exchange": exchange, "routing_key": routing_key, "redelivered": False},
                accept=self._accept,
            )

        self._fanouts.update(entity.name for entity in declare if _is_fanout(entity))
        self.sent.append(sent(message(), "" if exchange else routing_key, exchange))
        if not exchange:
            self.waiting.append(Waiting(routing_key, message()))
        elif exchange in self._fanouts:  # as on Redis: a fanout that its publisher didn't declare reaches nobody
            self.waiting += [Waiting(queue, message()) for queue in self.bound[exchange]]

    def unbind(self, exchange: str, queue: str) -> None:
        """Delete *queue* with what waits in it, as a broker does with a queue of its consumer's own."""
        self.bound[exchange].remove(queue)
        self.lose(queue)

    def lose(self, queue: str) -> list[Waiting]:
        """Forget what waits in *queue* and return it."""
        lost = [waiting for waiting in self.waiting if waiting.queue == queue]
        self.waiting = [waiting for waiting in self.waiting if waiting.queue != queue]
        return lost

    def take_back(self, waiting: Waiting) -> None:
        """Keep a message that its consumer did not want, or died over."""
        waiting.message.delivery_info["redelivered"] = True
        self.waiting.append(waiting)


def sent(message: Message, queue: str, exchange: str = "") -> Sent:
    """Return *message* as its receiver decodes it."""
    args, kwargs, _ = message.payload
    return Sent(message.headers["task"], queue, exchange, tuple(args), kwargs, message.headers)


def _is_fanout(entity: Any) -> bool:
    return isinstance(entity, Exchange) and entity.type == "fanout"


class RecordedApp(Celery):
    """A Celery application of its own, never the current one, that sends to a recorder and lives by *now*."""

    control_cls = "workers.testing.recorder:RecordedControl"

    def __init__(
        self,
        main: str,
        *,
        now: Callable[[], float],
        run: Callable[[], None],
        published: Callable[[], None],
        revoke: Callable[[list[str]], None],
        waits: Callable[[str], str],
    ) -> None:
        super().__init__(main, set_as_current=False)
        self._now = now
        self._published = published
        #: Has every worker know that nobody wants these tasks.
        self.revoke = revoke
        #: Says what a task waits for that has no place yet.
        self.waits = waits
        #: Has the hosts do what there is to do.
        self.run = run
        self.results: dict[Any, Any] = {}
        self.conf.update(
            broker_url="memory://",
            accept_content=["json"],
            result_accept_content=["json"],
            task_default_queue="host",
            task_default_exchange="",
        )

    @cached_property
    def recorder(self) -> Recorder:
        """What every message is sent to."""
        return Recorder(self, published=self._published)

    if not TYPE_CHECKING:  # checkers shall see Celery's own overloads

        def task(self, *args: Any, **options: Any) -> Any:
            """Register a task with this application only; Celery would give it to every other one as well."""
            return super().task(*args, **{"shared": False, **options})

    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]:  # type: ignore[override]
        """Return the recorder, whatever producer the caller has; the scheduler's own stands before it."""
        return nullcontext(producer if isinstance(producer, Recording) else self.recorder)

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Be the current application for the length of the block, as in a worker: shared tasks are this one's."""
        before = _state._tls.current_app  # type: ignore[attr-defined]  # noqa: SLF001  # asking politely makes a default application
        _state._set_current_app(self)  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            yield
        finally:
            _state._set_current_app(before)  # type: ignore[attr-defined]  # noqa: SLF001

    def now(self) -> datetime:
        """Return the cluster's time, which ``expires`` and ``eta`` count from."""
        return datetime.fromtimestamp(self._now(), UTC).astimezone(self.timezone)

    def _get_backend(self) -> "Results":
        return Results(self)


class RecordedControl(Control):
    """Remote control, of which hosts of a cluster know ``revoke``."""

    def broadcast(self, command: str, arguments: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Have every host hear of what was revoked; nothing else is heard."""
        if command != "revoke":
            return super().broadcast(command, arguments, **options)
        ids = arguments["task_id"]
        cast("RecordedApp", self.app).revoke([ids] if isinstance(ids, str) else list(ids))
        return None


class Results(KeyValueStoreBackend):
    """The results of one application's tasks, encoded as ever; who waits for one has the hosts run."""

    supports_native_join = False
    implements_incr = True  # counts a chord's parts, as on Redis, rather than having a task look for them
    app: RecordedApp

    def get(self, key: Any) -> Any:
        """Return what is stored."""
        return self.app.results.get(key)

    def mget(self, keys: Any) -> list[Any]:
        """Return what is stored of each."""
        return [self.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        """Store."""
        self.app.results[key] = value

    def delete(self, key: Any) -> None:
        """Forget."""
        self.app.results.pop(key, None)

    def incr(self, key: Any) -> int:
        """Count one more."""
        counted: int = self.app.results.get(key, 0) + 1
        self.app.results[key] = counted
        return counted

    def expire(self, key: Any, value: Any) -> None:
        """Keep what is stored: nothing outlives the test."""

    def wait_for(  # type: ignore[override]  # the pauses between two looks are nobody's business here
        self, task_id: str, timeout: float | None = None, **_: Any
    ) -> Any:
        """Have the hosts run and return the task's result, or raise TimeoutError at once whatever the *timeout*."""
        del timeout
        self.app.run()
        meta = self.get_task_meta(task_id)
        if meta["status"] not in self.READY_STATES:
            if waits := self.app.waits(task_id):
                raise ResultTimeout(f"task {task_id} has no result: it {waits}")
            queues = ", ".join(sorted({waiting.queue for waiting in self.app.recorder.waiting})) or "none"
            raise ResultTimeout(
                f"task {task_id} has no result, and no host has anything left to do now: is a host up that takes from"
                f" its queue, and its eta reached? Queues in which messages wait: {queues}"
            )
        return meta
