from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft.engine.ports import NewRun
from flowcraft.storage import Database, SqlCallStore, SqlRunStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flowcraft.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{path}", timeout=5)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> SqlRunStore:
    return SqlRunStore(database)


@pytest.fixture
def call_store(database: Database) -> SqlCallStore:
    return SqlCallStore(database)


@pytest.fixture
def new_run():
    def make(run: str = "run-1", **changed: object) -> NewRun:
        given = {
            "id": run,
            "workflow": "digest",
            "file": "digest.yaml",
            "folder": "/work",
            "created": 1.0,
            "inputs": {"topic": "rain"},
            "snapshot": {"files": {"digest.yaml": "stages: {}"}},
        }
        return NewRun(**{**given, **changed})

    return make


@pytest.fixture
def started(store: SqlRunStore, new_run) -> SqlRunStore:
    """The store, with run-1 begun at epoch 1 by the process `me`."""
    store.create(new_run())
    assert store.begin("run-1", "me", 0) is not None
    return store
