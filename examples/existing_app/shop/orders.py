"""Orders, from the cart to the confirmation."""

from typing import Any

from celery import Task, chord
from celery.canvas import Signature

from shop.celery import app

CENTS = {"teapot": 2490, "cup": 690, "saucer": 390}


@app.task
def price(sku: str, count: int) -> int:
    return CENTS[sku] * count


@app.task
def total(prices: list[int], shipping: int = 0) -> int:
    return sum(prices) + shipping


def bill(lines: dict[str, int]) -> Signature[int]:
    """Price every line of a cart by itself, then add up."""
    return chord([price.s(sku, count) for sku, count in sorted(lines.items())], total.s(shipping=490))


@app.task(bind=True)
def checkout(self: Task, lines: dict[str, int]) -> Any:
    return self.replace(bill(lines))


@app.task
def confirm(order: dict[str, Any]) -> dict[str, Any]:
    return {**order, "state": "confirmed"}


@app.task(ignore_result=False, max_retries=0)
def cancel(order: dict[str, Any], reason: str) -> dict[str, Any]:
    return {**order, "state": "cancelled", "reason": reason}
