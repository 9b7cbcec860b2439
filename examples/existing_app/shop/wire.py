"""How the shop writes its messages: JSON that knows sets and dates."""

import json
from datetime import date
from typing import Any

from kombu.serialization import register


def dumps(value: Any) -> str:
    return json.dumps(value, default=_encode)


def loads(text: str) -> Any:
    return json.loads(text, object_hook=_decode)


def _encode(value: Any) -> Any:
    if isinstance(value, set):
        return {"a set": sorted(value)}
    if isinstance(value, date):
        return {"a date": value.isoformat()}
    raise TypeError(f"{value!r} can't be sent")


def _decode(found: dict[str, Any]) -> Any:
    match found:
        case {"a set": members}:
            return set(members)
        case {"a date": day}:
            return date.fromisoformat(day)
    return found


register("shop", dumps, loads, content_type="application/x-shop", content_encoding="utf-8")
