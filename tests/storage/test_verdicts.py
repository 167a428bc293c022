"""Verdicts come back as they were."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from sqlalchemy import text

from flowcraft.errors import StoreError
from flowcraft.llm.ports import VerdictRecord
from flowcraft.storage import Database, SqlVerdictStore

pytestmark = pytest.mark.integration

numbers = itertools.count()


def verdict(**changed: object) -> VerdictRecord:
    given = {"id": f"v-{next(numbers)}", "time": 1.5, "first": "p:a", "second": "p:b", "winner": "first"}
    return VerdictRecord(**{**given, **changed})  # type: ignore[arg-type]


@pytest.fixture
def store(database: Database) -> SqlVerdictStore:
    return SqlVerdictStore(database)


def test_verdicts_come_back_as_they_were_after_a_restart(store: SqlVerdictStore, database: Database, path: Path) -> None:
    records = [
        verdict(judge="p:j", reasons="лучше 🦆 'quoted'", stage="s", task="t", run="r", path="s/call[1]"),
        *(verdict(winner=winner) for winner in ("second", "tie", "none")),
    ]
    store.add(records)
    database.close()
    again = Database(f"sqlite:///{path}")
    assert SqlVerdictStore(again).latest(10) == (4, records)
    again.close()


def test_what_is_stored_already_is_left(store: SqlVerdictStore) -> None:
    records = [verdict(), verdict()]
    store.add(records[:1])
    store.add(records)
    store.add([])
    assert store.latest(10)[1] == records


def test_the_last_ones_behind_a_row_come_oldest_first(store: SqlVerdictStore) -> None:
    assert store.latest(10) == (0, [])
    records = [verdict() for _ in range(5)]
    store.add(records)
    assert store.latest(2) == (5, records[3:])
    assert store.latest(10, after=3) == (5, records[3:])
    assert store.latest(10, after=5) == (5, [])


def test_text_that_utf8_cannot_hold_is_kept(store: SqlVerdictStore) -> None:
    store.add([verdict(reasons="half \ud83d")])
    assert [found.reasons for found in store.latest(1)[1]] == ["half \\ud83d"]


def test_a_winner_that_nobody_knows_is_told_with_its_row(store: SqlVerdictStore, database: Database) -> None:
    store.add([verdict()])
    with database.write() as connection:
        connection.execute(text("UPDATE verdicts SET winner = 'both'"))
    with pytest.raises(StoreError, match="table verdicts, row 1, column winner"):
        store.latest(10)
