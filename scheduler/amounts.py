"""Amounts that tasks claim: fixed point, three decimals, so that what was withdrawn in parts adds up again."""

from collections.abc import Mapping
from typing import Any

from managers.errors import shown
from managers.reports import Capabilities
from scheduler.errors import InvalidPlacement

#: Thousandths are what scripts and keys hold; 1.5 GPUs are 1500.
Amounts = Mapping[str, int]

#: The most of one resource. Redis's JSON writes 14 digits: report larger quantities in larger units.
MOST = 10**11 - 1

#: What every task claims of its host unless it says otherwise.
SLOTS = "slots"


def amounts(claims: Mapping[str, Any] | None) -> dict[str, int]:
    """Return *claims*, such as {"gpus": 1, "memory_mb": 4096}, as thousandths, with one slot unless they name slots.

    A resource of which 0 is claimed is left out: {"slots": 0} claims no slot.

    Raises:
        InvalidPlacement: the message names the resource, what is wrong with its amount, and what it may be.
    """
    if claims is not None and not isinstance(claims, Mapping):
        raise InvalidPlacement(f"claims are {shown(claims)}; write a dict such as {{'memory_mb': 4096}}")
    asked = {SLOTS: 1, **(claims or {})}
    checked = {name: _thousandths(name, value) for name, value in asked.items()}
    return {name: amount for name, amount in sorted(checked.items()) if amount}


def totals(capabilities: Capabilities) -> dict[str, int]:
    """Return how much can be claimed of each capability: of every number, rounded down, of nothing else."""
    return {
        name: int(round(min(value, MOST) * 1000, 6))  # 0.57 * 1000 is a little less than 570
        for name, value in capabilities.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    }


def quantity(amount: int) -> int | float:
    """Return *amount*, thousandths, as people say it."""
    return amount // 1000 if amount % 1000 == 0 else amount / 1000


def _thousandths(name: object, value: object) -> int:
    if not isinstance(name, str) or not name or len(name) > 128:
        raise InvalidPlacement(f"claims name {shown(name)}; a resource is a capability's name, such as 'gpus'")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MOST:
        raise InvalidPlacement(f"claims ask for {name} = {shown(value)}; an amount is a number from 0 to {MOST}")
    amount = round(value * 1000)
    if abs(amount - value * 1000) > 1e-6 * max(1.0, abs(amount)):
        raise InvalidPlacement(f"claims ask for {name} = {value}; amounts have three decimals at most")
    return amount
