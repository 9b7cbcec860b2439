"""Placement from an operator's side, for scripts of your own: what the command line does, as functions.

Each takes *fleet*: an adopted application, settings, or None for the fleet of this process's environment.
"""

from managers.db import PlacementRecord
from scheduler.claims import Claim
from scheduler.explain import Explanation
from workers.decisions import Drained, disable, drain, enable
from workers.questions import Waiting, claims, explain, history, pending

__all__ = [
    "Claim",
    "Drained",
    "Explanation",
    "PlacementRecord",
    "Waiting",
    "claims",
    "disable",
    "drain",
    "enable",
    "explain",
    "history",
    "pending",
]
