"""The history's thread: batches into a database, and what is too old out of it."""

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from managers.db import InvalidRecord
from managers.errors import DatabaseError
from workers import history
from workers.history import BATCH, HistoryThread

DAY = 86400.0


class Entries:
    """What a scheduler's Redis holds for the history."""

    def __init__(self, number: int) -> None:
        self.left = [{"request_id": f"r-{one}"} for one in range(number)]

    def read(self, limit: int) -> list[dict[str, Any]]:
        return self.left[:limit]

    def drop(self, number: int) -> bool:
        del self.left[:number]
        return True


class Database:
    """A module of database functions that can be away, or find fault with a record."""

    def __init__(self) -> None:
        self.is_away = False
        self.bad: set[str] = set()
        self.written: list[str] = []
        self.batches = 0
        self.pruned: list[float] = []
        self.got = threading.Event()

    def history_add(self, records: Sequence[Any]) -> int:
        if self.is_away:
            raise DatabaseError("the database does not answer")
        for index, record in enumerate(records):
            if record["request_id"] in self.bad:
                raise InvalidRecord(index, f"{record['request_id']} is bad")
        self.written += [record["request_id"] for record in records]
        self.batches += 1
        self.got.set()
        return len(records)

    def history_prune(self, before: float) -> int:
        self.pruned.append(before)
        return 1


def thread(entries: Entries, db: Any, *, days: float = 30.0) -> HistoryThread:
    return HistoryThread(entries, db, days=days)  # type: ignore[arg-type]  # it reads and drops as the real ones


def test_what_ended_is_written_a_batch_at_a_time_and_then_forgotten() -> None:
    entries, db = Entries(BATCH + 1), Database()
    writing = thread(entries, db)

    assert [writing.write(), writing.write(), writing.write()] == [BATCH, 1, 0]

    assert db.batches == 2
    assert len(set(db.written)) == BATCH + 1
    assert entries.left == []


def test_a_database_that_is_away_loses_nothing() -> None:
    entries, db = Entries(3), Database()
    db.is_away = True

    with pytest.raises(DatabaseError):
        thread(entries, db).write()
    assert len(entries.left) == 3

    db.is_away = False
    assert thread(entries, db).write() == 3
    assert entries.left == []


def test_a_record_that_can_not_be_written_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    entries, db = Entries(4), Database()
    db.bad = {"r-0", "r-2"}

    thread(entries, db).write()

    assert db.written == ["r-1", "r-3"]
    assert entries.left == []
    assert caplog.text.count("left out of the history") == 2


def test_no_days_mean_no_history() -> None:
    entries, db = Entries(3), Database()
    writing = thread(entries, db, days=0.0)

    writing.write()
    writing.prune(1_800_000_000.0)

    assert (entries.left, db.written, db.pruned) == ([], [], [])


def test_functions_of_a_database_of_ones_own_need_not_keep_a_history(caplog: pytest.LogCaptureFixture) -> None:
    entries = Entries(3)
    writing = thread(entries, SimpleNamespace(__name__="my.db"))

    writing.start()
    writing.stop()
    writing.write()

    assert entries.left == []
    assert "my.db has no history_add: no history is kept" in caplog.text


def test_what_is_older_than_its_days_goes_once_in_a_while() -> None:
    db = Database()
    writing = thread(Entries(0), db, days=2.0)

    for now in (1_800_000_000.0, 1_800_000_001.0, 1_800_000_000.0 + history.RETENTION_LOOK):
        writing.prune(now)

    assert db.pruned == [1_800_000_000.0 - 2 * DAY, 1_800_000_000.0 + history.RETENTION_LOOK - 2 * DAY]


def test_its_thread_writes_by_itself_and_outlives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOOK", 0.01)
    monkeypatch.setattr(history, "RETRY", 0.01)
    entries, db = Entries(3), Database()
    fails = [RuntimeError("once"), DatabaseError("twice")]
    add = db.history_add
    db.history_add = lambda records: add(records) if not fails else _raise(fails.pop(0))  # type: ignore[method-assign]
    writing = thread(entries, db)

    writing.start()

    assert db.got.wait(10)
    writing.stop()
    assert db.written == ["r-0", "r-1", "r-2"]


def _raise(error: Exception) -> int:
    raise error
