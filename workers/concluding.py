"""The thread of a scheduler's main process that tells the ends of what can't be run, beside all placing."""

import logging
import threading

from scheduler.conclusions import Conclusions
from scheduler.errors import TableUnavailable

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether there are any.
LOOK = 1.0


class ConcludingThread:
    """Takes the turns of *conclusions*, each second and when woken."""

    def __init__(self, conclusions: Conclusions) -> None:
        self._conclusions = conclusions
        self._is_stopping = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-concluding", daemon=True)

    def start(self) -> None:
        """Conclude from now on."""
        self._thread.start()

    def wake(self) -> None:
        """Have it look now; called in any thread, never blocks."""
        self._woken.set()

    def stop(self) -> None:
        """Conclude no more; what is left is another scheduler's, or this one's next life's."""
        self._is_stopping = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def _run(self) -> None:
        is_lost = False
        while True:
            self._woken.wait(LOOK)
            self._woken.clear()
            if self._is_stopping:
                return
            try:
                self._conclusions.turn()
                is_lost = False
            except TableUnavailable as error:
                if not is_lost:
                    logger.error("the ends of requests wait: %s", error)  # noqa: TRY400
                is_lost = True
            except Exception:
                logger.exception("concluding goes on after an error")
