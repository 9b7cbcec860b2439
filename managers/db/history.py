"""The history of placements: what was placed where, when, and how it ended.

A batch is written by whoever saw its attempts end, and may be written again: a row is known by its request and attempt,
and the first word stays. So a writer that dies between writing and forgetting its batch loses nothing and doubles
nothing. Writers of overlapping batches insert in the same order, so that they wait for each other and never in a ring.
Times go in as seconds since 1970, by Redis's clock, and come out as datetimes in UTC. Every function is callable from
any thread and process, and raises DatabaseError if the database can't be used.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, select

from managers.db.engine import session
from managers.db.inserts import insert
from managers.db.models import Placement
from managers.db.placements import is_storable, rows
from managers.db.records import PlacementRecord
from managers.db.timestamps import moment

#: Rows that one transaction of `history_prune` deletes.
PRUNE_BATCH = 1000
#: Seconds between two of them, in which a waiting writer gets SQLite's only write lock.
PRUNE_PAUSE = 0.01

_KEY = (Placement.request_id, Placement.attempt)


def history_add(records: Sequence[Mapping[str, Any]]) -> int:
    """Write a batch in one transaction and return how many of its rows were new; what is there already stays.

    The keys are the columns' names: request_id, attempt, task_id, task, service, outcome, submitted_at and ended_at,
    and where they are known host, placed_at, started_at, claims (a mapping of names to amounts) and reasons (cut at
    `placements.MAX_REASONS` letters).

    Raises:
        InvalidRecord: a record is bad, named by its `index`; nothing is written.
        DatabaseError: nothing is written, or the answer was lost: write the same batch again.
    """
    added = sorted(rows(records), key=lambda row: (row["request_id"], row["attempt"]))
    if not added:
        return 0
    with session() as opened:
        statement = insert(opened, Placement).on_conflict_do_nothing(index_elements=_KEY)
        # Inserts are counted only on demand.
        counted = {"preserve_rowcount": True}
        return opened.connection().execute(statement, added, execution_options=counted).rowcount


def history_list(
    *,
    task: str | None = None,
    host: str | None = None,
    service: str | None = None,
    task_id: str | None = None,
    outcome: str | None = None,
    since: datetime | float | None = None,
    limit: int = 100,
) -> list[PlacementRecord]:
    """Return the newest that ended, the last first, narrowed by what is given; *since* is when they ended at least."""
    if limit < 1:
        raise ValueError(f"limit is {limit}; ask for 1 or more")
    asked = {
        Placement.task: task,
        Placement.host: host,
        Placement.service: service,
        Placement.task_id: task_id,
        Placement.outcome: outcome,
    }
    given = {column: value for column, value in asked.items() if value is not None}
    if not all(is_storable(value) for value in given.values()):
        return []  # a database refuses the question, and nothing has such a name
    found = select(Placement).where(*(column == value for column, value in given.items()))
    if since is not None:
        found = found.where(Placement.ended_at >= moment(since))
    newest = found.order_by(Placement.ended_at.desc(), *(column.desc() for column in _KEY)).limit(limit)
    with session(write=False) as opened:
        return [PlacementRecord.of(row) for row in opened.scalars(newest)]


def history_prune(before: datetime | float) -> int:
    """Delete what ended before that moment and return how many rows that were; run by several at once they share it.

    Each `PRUNE_BATCH` is a transaction of its own, so nobody waits for the whole; after a DatabaseError half-way the
    next call goes on.
    """
    oldest = moment(before)
    pruned = deleted = _prune_batch(oldest)
    while deleted == PRUNE_BATCH:
        time.sleep(PRUNE_PAUSE)
        deleted = _prune_batch(oldest)
        pruned += deleted
    return pruned


def _prune_batch(before: datetime) -> int:
    old = select(*_KEY).where(Placement.ended_at < before).order_by(Placement.ended_at).limit(PRUNE_BATCH)
    gone = delete(Placement).where(*(column == bindparam(f"old_{column.key}") for column in _KEY))
    with session() as opened:
        # Locked, so that each is this call's to delete and to count; SQLite's writing transaction has that lock.
        found = opened.execute(old.with_for_update(skip_locked=True)).all()
        if found:
            opened.connection().execute(gone, [{"old_request_id": key[0], "old_attempt": key[1]} for key in found])
        return len(found)
