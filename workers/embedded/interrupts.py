"""Ctrl-C and its like: the first ends the work in order, the second in a hurry."""

import signal
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Raised in the main thread by the first signal; no Exception, so that nothing on the way swallows it."""


class Interrupts:
    """A context in which the first SIGINT, SIGTERM or SIGHUP raises Stopped, and further ones only count as hurry."""

    def __init__(self) -> None:
        self._count = 0
        self._earlier: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._earlier = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def hurried(self) -> bool:
        """Say whether there was a second one."""
        return self._count > 1

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            raise Stopped
