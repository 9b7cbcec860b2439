"""What users write on the command line, as values."""

import json
import math
import re
import time
from datetime import datetime
from typing import Any, NoReturn

import click

from managers.db.timestamps import moment as moment_of

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h|d)")


class ClaimsType(click.ParamType[dict[str, float]]):
    """``memory_mb=4096,gpus=1``."""

    name = "k=v,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """Return the amounts by resource."""
        if isinstance(value, dict):
            return value
        claims: dict[str, float] = {}
        for part in str(value).split(","):
            name, separator, amount = part.partition("=")
            try:
                claims[name.strip()] = _number(amount)
            except ValueError:
                separator = ""
            if not separator:
                self.fail(f"{part!r} is no claim; write NAME=AMOUNT, such as memory_mb=4096,gpus=1", param, ctx)
        return claims


class SinceType(click.ParamType[float]):
    """A moment, or an age such as ``2h``."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds since 1970."""
        if isinstance(value, float):
            return value
        if age := _AGE.fullmatch(value):
            return max(0.0, time.time() - float(age[1]) * _UNITS[age[2]])
        try:
            return moment_of(datetime.fromisoformat(value)).timestamp()
        except ValueError:
            self._refuse(value, param, ctx)

    def _refuse(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        self.fail(
            f"{value!r} is no moment; write 90s, 30m, 2h, 7d, or 2027-01-31T09:00+00:00 with its zone", param, ctx
        )


def json_or_text(value: str) -> Any:
    """Return the JSON value that *value* is, else itself."""
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except ValueError:
        return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is no amount") from None
        return number
