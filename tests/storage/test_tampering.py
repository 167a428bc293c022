from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from flowcraft.attempts import Attempt
from flowcraft.engine.ports import AttemptRow, EventRow, Piece, ProcessRow, Write
from flowcraft.errors import StoreError
from flowcraft.llm.ports import CallRecord
from flowcraft.storage import Database, SqlCallStore, SqlRunStore
from flowcraft.storage.hours import Hours

pytestmark = pytest.mark.integration


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def filled(started: SqlRunStore, database: Database) -> SqlRunStore:
    started.write(
        [
            Write(
                run="run-1",
                epoch=1,
                pieces=(Piece(path="a", what="w"),),
                events=(EventRow(sequence=1, kind="said", stage="a", time=0.0, data="{}"),),
                attempts=(AttemptRow(path="a", stage="a", attempt=Attempt(model="m")),),
            )
        ]
    )
    started.join(ProcessRow(id="me", host="h", boot="b", namespace="n", pid=1, started="1"))
    calls = SqlCallStore(database)
    calls.add([CallRecord(id=f"c{number}", attempt=Attempt(model="m")) for number in range(3)])
    assert Hours(database, kept=1).fold() == 2
    return started


READS = {
    "runs": lambda store, _: store.get("run-1"),
    "documents": lambda store, _: store.get("run-1"),
    "pieces": lambda store, _: store.begin("run-1", "me", 1),
    "events": lambda store, _: store.events("run-1"),
    "attempts": lambda store, _: store.attempts("run-1"),
    "processes": lambda store, _: store.process("me"),
    "calls": lambda _, database: SqlCallStore(database).latest(),
    "call_hours": lambda _, database: SqlCallStore(database).statistics(),
}


@pytest.mark.parametrize(
    ("table", "column", "value", "reason"),
    [
        ("pieces", "result", "{broken", "no JSON: Expecting property name"),
        ("pieces", "result", "", "no JSON"),
        ("pieces", "result", "[" * 100_000, "JSON is nested too deeply"),
        ("pieces", "result", "9" * 5000, "Exceeds the limit"),
        ("pieces", "result", b"PICKLE", "text was expected, not bytes"),
        ("pieces", "state", "finished", "'finished' is none of done, failed, skipped"),
        ("pieces", "what", b"\x00", "text was expected, not bytes"),
        ("pieces", "seconds", "soon", "a number was expected, not str"),
        ("runs", "state", "sleeping", "'sleeping' is none of cancelled, done"),
        ("runs", "outputs", "nul", "no JSON"),
        ("runs", "epoch", "one", "an integer was expected, not str"),
        ("runs", "offline", b"PICKLE", "an integer was expected, not bytes"),
        ("documents", "inputs", b"PICKLE", "text was expected, not bytes"),
        ("documents", "snapshot", "[]", "a JSON object was expected"),
        ("events", "data", b"PICKLE", "text was expected, not bytes"),
        ("events", "time", "noon", "a number was expected, not str"),
        ("attempts", "usd", "free", "a number was expected, not str"),
        ("attempts", "message", b"PICKLE", "text was expected, not bytes"),
        ("processes", "pid", "me", "an integer was expected, not str"),
        ("calls", "model", b"PICKLE", "text was expected, not bytes"),
        ("call_hours", "model", b"PICKLE", "text was expected, not bytes"),
        ("call_hours", "calls", "many", "an integer was expected, not float"),
        ("call_hours", "times", b"PICKLE", "text was expected, not bytes"),
        ("call_hours", "times", '{"1": "one"}', "a histogram was expected"),
        ("call_hours", "times", '{"one": 1}', "a histogram was expected"),
        ("call_hours", "times", '{"99999": 1}', "a histogram was expected"),
    ],
)
def test_what_is_not_ours_is_refused_by_table_row_and_column(
    filled: SqlRunStore, database: Database, path: Path, table: str, column: str, value: object, reason: str
) -> None:
    mark = path.parent / "ran"
    stored = pickle.dumps(Bomb(mark)) if value == b"PICKLE" else value
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE {table} SET {column} = ?", (stored,))
    other.close()
    with pytest.raises(StoreError, match=rf"the database is damaged: table {table}, row \S.*, column {column}: {reason}"):
        READS[table](filled, database)
    assert not mark.exists()


def test_statistics_of_tampered_calls_are_refused(filled: SqlRunStore, database: Database, path: Path) -> None:
    for column in ("seconds", "model"):
        with sqlite3.connect(path) as other:
            other.execute(f"UPDATE calls SET {column} = ?", (pickle.dumps([1]),))
        other.close()
        with pytest.raises(StoreError, match="the database is damaged: table calls"):
            SqlCallStore(database).statistics()
        with sqlite3.connect(path) as other:
            other.execute(f"UPDATE calls SET {column} = 1")
        other.close()


def test_totals_of_tampered_attempts_are_refused(filled: SqlRunStore, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("UPDATE attempts SET input = '1.5 tokens'")
    other.close()
    with pytest.raises(StoreError, match="table attempts, row of run run-1, column tokens: an integer was expected"):
        filled.totals(["run-1"])


def test_text_that_is_no_utf_8_is_refused(filled: SqlRunStore, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("UPDATE pieces SET result = CAST(x'22ff22' AS TEXT)")
    other.close()
    with pytest.raises(StoreError, match=r"flowcraft\.db.*(pieces|result)"):
        filled.pieces("run-1")


def test_a_run_without_its_documents_is_refused(filled: SqlRunStore, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM documents")
    other.close()
    with pytest.raises(StoreError, match="table documents, row run-1, column inputs: text was expected, not NULL"):
        filled.get("run-1")


def test_a_table_that_is_missing_is_named(filled: SqlRunStore, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE pieces")
    other.close()
    with pytest.raises(StoreError, match=r"flowcraft\.db: no such table: .*pieces"):
        filled.pieces("run-1")


def test_nothing_stored_is_pickle(filled: SqlRunStore, database: Database, path: Path) -> None:
    database.close()
    with sqlite3.connect(path) as other:
        tables = [name for (name,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        kinds = set()
        for table in tables:
            columns = [row[1] for row in other.execute(f"PRAGMA table_info({table})")]
            for column in columns:
                kinds |= {kind for (kind,) in other.execute(f"SELECT DISTINCT typeof({column}) FROM {table}")}
    other.close()
    assert kinds <= {"text", "integer", "real", "null"}
