"""How a worker stops: in time, and with every task ended, handed back, or answered for.

1. SIGTERM's handler only leaves word; a thread of its own tells the table that the host drains, however long the
   worker's loop takes to notice, and wakes it. A stop without a signal (``control shutdown``) drains as the loop ends.
2. The worker consumes no more. What it had received and no slot has begun goes back to the broker. Its copy of a fanout
   can't: the result becomes ``WorkerLostError``, for whoever gathers.
3. The worker's loop runs on for those who run: results are stored, messages acknowledged, pings answered, and what a
   Redis had already sent is returned. That lasts until the last task has ended, the time is over, or a second SIGTERM.
4. What still runs is handed back. A message that isn't acknowledged is returned to its queue, explicitly, since closing
   the connection alone leaves it to Redis's visibility time-out if anything goes wrong. A message that was acknowledged
   early, or a fanout's, can't be returned: the task's result becomes ``WorkerLostError``. Then children get SIGTERM and
   greenlets are ended; nothing can end a thread.
5. The pool is joined. A child that outlives ``GRACE`` is killed. Where a thread or greenlet does, the worker goes on
   without it and ends its process at the very end, instead of waiting for the thread as Python would.

``cleanup_host`` comes after all that. A cold stop (SIGQUIT) has no time to give: its steps 3 to 5 are at once.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from queue import SimpleQueue
from signal import SIGKILL
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import WorkerLostError
from celery.signals import worker_shutdown, worker_shutting_down
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]  # new in 5.7
from celery.worker import state
from celery.worker.worker import SHUTDOWN_SOCKET_TIMEOUT  # type: ignore[attr-defined]  # new in 5.7
from kombu.common import ignore_errors

from workers.fanouts import is_copy
from workers.lifecycle import Lifecycle

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether the last task has ended.
LOOK = 0.1
#: Seconds in which a thread begins what its executor had given it before it was closed.
BEGIN = 1.0
#: Seconds in which a task that was cut off, and then the pool, must have ended.
GRACE = 5.0


class Stopping:
    """The end of one worker; ``close``, then ``join``, in the worker's main thread."""

    def __init__(self, worker: Any, lifecycle: Lifecycle) -> None:
        self._worker = worker
        self._lifecycle = lifecycle
        self._asked = 0
        self._is_closing = False
        self._began: float | None = None
        self._is_cut = False
        self._is_offline = False
        self._main: Any = worker.pool.getcurrent() if type(worker.pool).__module__.endswith("gevent") else None
        self._word: SimpleQueue[None] = SimpleQueue()  # its put may be called in a signal handler
        if worker.pool.is_green:
            # Celery's would kill greenlets in the signal handler, whose end acknowledges what was to be done again
            worker.consumer.cancel_active_requests = bool
        worker_shutting_down.connect(self._on_signal, sender=worker.hostname)
        threading.Thread(target=self._announce, name="celeriac-stopping", daemon=True).start()

    @property
    def patience(self) -> float:
        """Seconds that running tasks have to end, 0 for as long as they take."""
        soft: float = self._worker.app.conf.worker_soft_shutdown_timeout
        return soft if soft > 0 else self._lifecycle.registry.settings.shutdown_timeout

    def close(self) -> None:
        """Take no more work, and wait for what runs as long as there is time; then hand it back."""
        self._is_closing = True
        self._lifecycle.drain()
        self._began = self._began or time.monotonic()
        hub = self._worker.consumer.hub
        # a closed pool notices the death of a child no more, and its task would be waited for
        notice_deaths = getattr(getattr(self._worker.pool, "_pool", None), "_join_exited_workers", list)
        looks = None if hub is None else hub.call_repeatedly(LOOK, bool)  # no turn of the loop takes longer
        try:
            self._consume_no_more()
            self._give_back(request for request in _waiting(self._worker.consumer) if _is_unclaimed(request))
            while True:
                self._turn()
                notice_deaths()
                waited = time.monotonic() - self._began
                if waited > BEGIN and hasattr(self._worker.pool, "executor"):
                    self._give_back(request for request in _known() if not request.time_start)
                if not _known() or self._is_over(waited):
                    break
            if running := _known():
                self._is_cut = True
                logger.warning("handing back %d tasks that still run after %.1f s", len(running), waited)
                self._cut_off(running)
                self._turn()
        finally:
            if looks is not None:
                looks.cancel()

    def join(self) -> None:
        """End the pool; nothing runs in it any more when this returns, but for threads that nobody can end."""
        pool = self._worker.pool
        limit = GRACE if self._is_cut or self.patience else None
        if pool.uses_semaphore:  # children
            watchdog = threading.Timer(limit or 0, self._kill_children)
            if limit:
                watchdog.start()
            pool.stop()
            watchdog.cancel()
            return
        joining = threading.Thread(target=pool.stop, name="celeriac-joining", daemon=True)
        joining.start()
        joining.join(BEGIN if self._is_cut else limit)
        if joining.is_alive():
            logger.warning("tasks that nobody can end are left to the end of the process")
            pool.on_stop = bool  # Celery would wait for them once more
            worker_shutdown.connect(self._exit, sender=self._worker)

    def _on_signal(self, **_: Any) -> None:
        """Leave word; runs in the signal handler, where a lock could be held by the very code it interrupted."""
        self._asked += 1
        self._began = self._began or time.monotonic()
        self._word.put(None)

    def _announce(self) -> None:
        self._word.get()
        self._lifecycle.drain()
        worker = self._worker
        worker.consumer.call_soon(self._consume_no_more)  # wakes a loop that would see the stop with its next event
        if worker.consumer.hub is None:
            worker.consumer.call_soon(self._leave_loop)  # Celery's loop without a hub would go round once more
        while self._main is not None and not self._is_closing:
            if any(_is_unclaimed(request) for request in tuple(state.reserved_requests)):
                self._interrupt()  # the loop waits for a slot, and would do so for as long as all are taken
            time.sleep(LOOK)

    def _leave_loop(self) -> None:
        if not self._is_closing:
            state.maybe_shutdown()

    def _interrupt(self) -> None:
        from gevent import kill  # type: ignore[import-untyped]  # noqa: PLC0415  # green workers have it

        try:
            state.maybe_shutdown()
        except SystemExit as word:
            kill(self._main, word)

    def _is_over(self, waited: float) -> bool:
        return self._asked > 1 or state.should_terminate is not None or bool(self.patience and waited >= self.patience)

    def _consume_no_more(self) -> None:
        consumer = self._worker.consumer
        if consumer.connection is None:
            self._go_offline("it is away")
        elif consumer.task_consumer is not None:
            bound_open_broker_sockets(consumer.connection, SHUTDOWN_SOCKET_TIMEOUT)  # a silent broker never answers
            ignore_errors(consumer, consumer.task_consumer.cancel)
        if self._worker.semaphore is not None:
            self._worker.semaphore.clear()  # or the end of one task begins the next
        if executor := getattr(self._worker.pool, "executor", None):
            executor.shutdown(wait=False, cancel_futures=True)

    def _give_back(self, requests: Iterable[Any]) -> None:
        """Return messages of tasks that haven't begun; should a timer still begin one, it finds itself revoked."""
        lost = []
        for request in tuple(requests):
            if is_copy(request.message):
                lost.append(request)
            else:
                request.reject(requeue=True)
            request._already_revoked = True  # noqa: SLF001  # what Celery itself asks before it begins a task
            state.task_ready(request)
        self._answer_for(lost, "begun")

    def _turn(self) -> None:
        """Let the worker's loop run on for a moment; without a pool, as after Celery's own cold stop, it can't."""
        if state.should_terminate is not None:
            return
        consumer = self._worker.consumer
        try:
            if consumer.hub is not None:
                consumer.hub.run_once()
            elif self._is_offline:
                time.sleep(LOOK)
            else:
                consumer.perform_pending_operations()
                with suppress(TimeoutError):
                    consumer.connection.drain_events(timeout=LOOK)
        except Exception as error:  # noqa: BLE001  # the transport's, or that of a signal handler; the stop goes on
            self._go_offline(error)

    def _go_offline(self, reason: object) -> None:
        """Go on without the broker: what Celery does before it connects anew, and no more."""
        consumer, hub = self._worker.consumer, self._worker.consumer.hub
        if not self._is_offline:
            self._is_offline = True
            logger.warning("stopping without the broker: %r", reason)
            consumer.blueprint.restart(consumer)  # it only stops; a heart that beats on would wait for the broker
        if hub is not None:
            hub.reset()
            hub.on_tick.clear()
            self._worker.pool.register_with_event_loop(hub)
        time.sleep(LOOK)

    def _cut_off(self, requests: Iterable[Any]) -> None:
        lost = []
        for request in requests:
            if request.acknowledged or is_copy(request.message):
                lost.append(request)
            else:
                request.reject(requeue=True)  # before its end could acknowledge it, as a greenlet's does
            try:
                request.cancel(self._worker.pool, emit_retry=False)
            except NotImplementedError:
                state.task_ready(request)
        self._answer_for(lost, "ended")

    def _answer_for(self, requests: Iterable[Any], verb: str) -> None:
        """Have *requests* fail, which were stopped before they had *verb*."""
        host = self._lifecycle.host
        for request in requests:
            try:
                request.on_failure(_lost(f"its worker on host {host} was stopped before {request} had {verb}"))
            except Exception:
                logger.exception("the result of %s can't be stored", request)

    def _kill_children(self) -> None:
        """Kill what is left of the pool; its join, in the main thread, takes note."""
        with suppress(AttributeError):  # the pool was joined at this very moment
            for pid in self._worker.pool.info["processes"]:
                logger.warning("killing child %d, which doesn't end", pid)
                self._worker.pool.terminate_job(pid, SIGKILL)

    def _exit(self, **_: Any) -> None:
        """End the process as Python would, but for waiting for its threads; not where the worker is but a guest."""
        if threading.current_thread() is not threading.main_thread():
            return
        atexit._run_exitfuncs()  # noqa: SLF001
        os._exit(self._worker.exitcode or 0)


def _known() -> tuple[Any, ...]:
    """Return the requests that have neither ended nor been given back."""
    return tuple(state.requests.values())


def _waiting(consumer: Any) -> Iterable[Any]:
    """Return all requests, those included that Celery keeps apart since their rate limit holds them."""
    yield from _known()
    for bucket in consumer.task_buckets.values():
        if bucket:
            yield from (request for request, _ in bucket.contents)


def _is_unclaimed(request: Any) -> bool:
    """Whether the pool has never heard of *request*."""
    return request._apply_result is None and not request.time_start  # noqa: SLF001  # Celery says it nowhere else


def _lost(reason: str) -> Any:
    try:
        raise WorkerLostError(reason) from None  # noqa: TRY301  # to have a traceback
    except WorkerLostError:
        return ExceptionInfo()
