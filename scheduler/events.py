"""What happens by which a request may fit that did not fit before, read from a stream: none is missed."""

from typing import Any, cast

from scheduler.table import Table


class Events:
    """The events of the fleet whose *table* it is, from when this reader was made; not thread-safe."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._last: str | None = None

    def read(self, wait: float = 0.0) -> list[tuple[str, str]]:
        """Return (what, host) of each event since the last reading; wait so many seconds for one if there is none.

        The first reading returns a "begin" and remembers where the stream is: what was before is for its reader to
        find out by looking at everything once.
        """
        key = self._table.key("events")
        with self._table.reached():
            if self._last is None:
                newest = cast("Any", self._table.redis.xrevrange(key, count=1))
                self._last = newest[0][0] if newest else "0-0"
                return [("begin", "")]
            block = max(1, int(wait * 1000)) if wait > 0 else None
            answer = cast("Any", self._table.redis.xread({key: self._last}, count=1000, block=block))
        entries = answer[0][1] if answer else []
        if entries:
            self._last = entries[-1][0]
        return [(values["what"], values["host"]) for _, values in entries]
