"""No process outlives its parent: the kernel ends the child of a parent that was killed."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# looked up in advance: between fork and exec a child must not import
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(number: int = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Have this process sent signal *number* when its parent dies; call it in the child. Does nothing but on Linux.

    *parent* is the parent's pid as it knew it before the fork: a parent that died in between is noticed by it.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)
