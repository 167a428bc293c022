"""Saving pieces: `python -m benchmarks.children.storage_side SIDE BATCH COUNT FOLDER`; SIDE is sqlite3 or flowcraft."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

RESULT = json.dumps("x" * 2000)
WHAT = "a" * 64
SCHEMA = """
CREATE TABLE runs (id TEXT PRIMARY KEY NOT NULL, epoch INTEGER);
CREATE TABLE pieces (number INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs (id), path TEXT, what TEXT, code TEXT,
                     state TEXT, result TEXT, seconds REAL, UNIQUE (run, path));
INSERT INTO runs VALUES ('run', 1);
"""
INSERT = "INSERT INTO pieces (run, path, what, code, state, result, seconds) VALUES ('run', ?, ?, '', 'done', ?, 0)"


def plain(folder: Path) -> Callable[[list[str]], None]:
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;" + SCHEMA)

    def save(paths: list[str]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        assert connection.execute("SELECT 1 FROM runs WHERE id = 'run' AND epoch = 1").fetchone()
        connection.executemany(INSERT, [(path, WHAT, RESULT) for path in paths])
        connection.execute("COMMIT")

    return save


def ours(folder: Path) -> Callable[[list[str]], None]:
    from flowcraft.engine.ports import NewRun, Piece, Write
    from flowcraft.storage import Database, SqlRunStore

    store = SqlRunStore(Database(f"sqlite:///{folder}/flowcraft.db"))
    store.create(NewRun(id="run", workflow="", file="", folder="", created=0.0, inputs={}, snapshot={}))
    assert store.begin("run", "me", 0)

    def save(paths: list[str]) -> None:
        fenced = store.write(
            [Write(run="run", epoch=1, pieces=(Piece(path=path, what=WHAT, result=RESULT),)) for path in paths]
        )
        assert not fenced

    return save


def measure(side: str, batch: int, count: int, folder: Path) -> float:
    save = (plain if side == "sqlite3" else ours)(folder)
    save(["warm"])
    batches = [[f"list[{number}]" for number in range(first, first + batch)] for first in range(0, count, batch)]
    begun = time.perf_counter()
    for paths in batches:
        save(paths)
    return time.perf_counter() - begun


if __name__ == "__main__":
    side, batch, count, folder = sys.argv[1:]
    print(json.dumps({"seconds": measure(side, int(batch), int(count), Path(folder))}))
