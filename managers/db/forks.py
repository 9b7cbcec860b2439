"""Forks and open SQLite connections keep out of each other's way.

SQLite remembers its file locks per process and file, not per connection. A child forked while a connection is open
inherits that memory without the locks: its *own* new connections then hold no lock at all, the parent's close deletes
the write-ahead log beneath them, and what the child commits is lost without an error (seen with SQLite 3.40).
Leaving the inherited connection alone doesn't help; none may be open at the moment of the fork. Therefore:

* an opening waits while a fork is under way;
* a fork waits, for `PATIENCE` seconds at most, until the other threads have closed what they had open;
* where one stays open (it outlasts that, or the forking thread holds it itself), the child is refused any connection:
  an error instead of a lost row.
"""

import logging
import os
import sqlite3
import threading
from collections import Counter

#: Seconds a fork waits for other threads' connections.
PATIENCE = 30.0

logger = logging.getLogger(__name__)


class ForkGate:
    """Counts this process's open SQLite connections by thread, and lets connections and forks take turns."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: Counter[int] = Counter()
        self._forks = 0
        self._inherited = 0

    def enter(self) -> int:
        """Return the key to leave with, once no fork is under way; a thread that is inside already needn't wait."""
        thread = threading.get_ident()
        with self._changed:
            if self._inherited:
                raise sqlite3.OperationalError("this process was forked while its parent had the database open")
            self._changed.wait_for(lambda: not self._forks or self._open[thread])
            self._open[thread] += 1
        return thread

    def leave(self, thread: int) -> None:
        """Count one connection of that thread as closed."""
        with self._changed:
            self._open[thread] -= 1
            self._open += Counter()  # forgets the threads at zero
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Shut the gate and wait for the other threads."""
        thread = threading.get_ident()
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._open.total() == self._open[thread], PATIENCE)
            if held := self._open.total():
                logger.warning("fork with %d open database connections: the child can't use the database", held)

    def after_fork_in_parent(self) -> None:
        """Open the gate again."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Begin anew: the threads that held the lock or a connection don't exist here."""
        self._changed = threading.Condition()
        self._inherited += self._open.total()
        self._open = Counter()
        self._forks = 0


#: The one gate of this process.
gate = ForkGate()

os.register_at_fork(
    before=gate.before_fork,
    after_in_parent=gate.after_fork_in_parent,
    after_in_child=gate.after_fork_in_child,
)
