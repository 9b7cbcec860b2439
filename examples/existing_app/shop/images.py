"""Pictures of what is for sale; they have a queue of their own."""

from shop.celery import app


@app.task(time_limit=60)
def thumbnail(width: int, height: int) -> list[int]:
    return [128, height * 128 // width]


@app.task
def watermark(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    return f"{stem}-marked.{kind}"


@app.task(rate_limit="100/s")
def palette(pixels: list[str]) -> dict[str, int]:
    return {colour: pixels.count(colour) for colour in sorted(set(pixels))}
