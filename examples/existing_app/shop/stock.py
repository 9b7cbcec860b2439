"""What is on the shelves."""

from celery import Task

from shop.celery import app

SHELVES = {"teapot": 3, "cup": 40, "saucer": 0}


@app.task
def count(sku: str) -> int:
    return SHELVES[sku]


@app.task
def reserve(sku: str, wanted: int) -> int:
    return min(wanted, SHELVES[sku])


@app.task
def missing() -> set[str]:
    return {sku for sku, left in SHELVES.items() if not left}


@app.task(autoretry_for=(ConnectionError,), retry_kwargs={"max_retries": 3, "countdown": 0.1}, bind=True)
def import_feed(self: Task, supplier: str) -> str:
    """Read the feed of a supplier, who answers the third time."""
    if self.request.retries < 2:
        raise ConnectionError(supplier)
    return f"{supplier} after {self.request.retries} retries"


@app.task(throws=(KeyError,))
def discontinue(sku: str) -> int:
    return SHELVES[sku]
