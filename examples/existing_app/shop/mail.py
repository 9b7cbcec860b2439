"""Letters to customers; they have a queue of their own."""

from celery import shared_task


@shared_task
def welcome(name: str) -> str:
    return f"Welcome, {name}!"


@shared_task
def receipt(name: str, cents: int) -> str:
    return f"{name}, you paid {cents / 100:.2f} EUR."


@shared_task
def reminder(name: str, days: int) -> str:
    return f"{name}, your cart has been waiting for {days} days."


@shared_task
def newsletter(readers: set[str]) -> set[str]:
    """Send it to each reader once."""
    return {f"{reader}@example.org" for reader in readers}
