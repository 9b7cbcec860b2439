"""The kit for testing managers: hosts in one process, time in the test's hand, and no server.

``pytest_plugins = ["workers.testing"]`` gives the fixture ``cluster``. What is tested is the real thing: messages pass
through the router and the serializer, reports through the scheduler's code into the real table, on a Redis in memory;
only the wire, the threads and the waiting are left out. All runs in the test's own thread, when the test says so.

PYTEST_DONT_REWRITE: a test module may import from here before pytest takes this module for a plugin.
"""

from workers.testing.clusters import Cluster, Failure, cluster
from workers.testing.recorder import Sent

__all__ = ["Cluster", "Failure", "Sent", "cluster"]
