"""What the owner wants to know."""

from datetime import date, timedelta

from shop.celery import app


@app.task
def week_of(day: date) -> list[date]:
    monday = day - timedelta(days=day.weekday())
    return [monday + timedelta(days=number) for number in range(7)]


@app.task
def best_seller(sold: dict[str, int]) -> str:
    return max(sold, key=lambda sku: sold[sku])


@app.task
def sweep() -> str:
    """Throw away abandoned carts; beat asks for it."""
    return "swept"
