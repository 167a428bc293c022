from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from flowcraft.errors import StoreError
from flowcraft.storage import Database, SqlRunStore

pytestmark = pytest.mark.integration


def scalar(database: Database, sql: str) -> object:
    with database.read() as connection:
        return connection.execute(text(sql)).scalar()


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/sub/flowcraft.db")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_the_file_is_created(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a/b/flowcraft.db")
    assert scalar(database, "SELECT 1") == 1
    database.close()
    assert (tmp_path / "a/b/flowcraft.db").is_file()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 1), ("foreign_keys", 1), ("busy_timeout", 5000), ("trusted_schema", 0)],
)
def test_every_connection_is_set_up(database: Database, pragma: str, value: object) -> None:
    assert scalar(database, f"PRAGMA {pragma}") == value


def test_a_reader_keeps_nobody_from_writing(database: Database, path: Path) -> None:
    with database.read() as connection:
        connection.execute(text("SELECT count(*) FROM runs")).scalar()
        other = sqlite3.connect(path, timeout=0)
        other.execute("INSERT INTO processes (id) VALUES ('other')")
        other.commit()
        other.close()
        assert connection.execute(text("SELECT count(*) FROM processes")).scalar() == 0, "one transaction sees one state"
    assert scalar(database, "SELECT count(*) FROM processes") == 1


def test_a_writer_keeps_nobody_from_reading(database: Database, path: Path) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO processes (id) VALUES ('me')"))
        assert scalar(database, "SELECT count(*) FROM processes") == 0
    assert scalar(database, "SELECT count(*) FROM processes") == 1


def test_what_raises_is_rolled_back(database: Database) -> None:
    def fail(transaction: Any, enter: Any) -> None:
        with transaction() as writing:
            writing.execute(enter)
            raise ZeroDivisionError

    enter = "INSERT INTO processes (id) VALUES ('me')"
    for transaction, said in ((database.write, text(enter)), (database.transaction, enter)):
        with pytest.raises(ZeroDivisionError):
            fail(transaction, said)
    assert scalar(database, "SELECT count(*) FROM processes") == 0
    with database.transaction() as cursor:
        cursor.execute(enter)
    assert scalar(database, "SELECT id FROM processes") == "me"


def test_threads_write_one_after_the_other(database: Database) -> None:
    def enter(first: int) -> None:
        for number in range(first, first + 25):
            with database.transaction() as cursor:
                cursor.execute("INSERT INTO processes (id) VALUES (?)", (str(number),))

    threads = [threading.Thread(target=enter, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scalar(database, "SELECT count(*) FROM processes") == 100


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_text("stages:\n" * 1000)
    with pytest.raises(StoreError, match=r"flowcraft\.db is no SQLite database; name another file in `storage`"):
        Database(f"sqlite:///{path}").engine  # noqa: B018


def test_a_folder_in_place_of_the_file_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match=r"flowcraft\.db cannot be opened"):
        Database(f"sqlite:///{path}").engine  # noqa: B018


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"the folder of database .*/file/flowcraft\.db cannot be created"):
        Database(f"sqlite:///{tmp_path}/file/flowcraft.db").engine  # noqa: B018


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_to_is_named(database: Database, path: Path) -> None:
    SqlRunStore(database).list()
    database.close()
    path.chmod(0o400)
    with pytest.raises(StoreError, match="may not be written to"):
        SqlRunStore(database).want("run-1", "cancel")


def test_a_database_that_another_process_locks_is_named(database: Database, path: Path) -> None:
    database.engine  # noqa: B018
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = Database(f"sqlite:///{path}", timeout=0.05)
    with pytest.raises(StoreError, match=r"is locked: another process has been writing to it for 0\.05 s"):
        SqlRunStore(impatient).want("run-1", "cancel")
    with pytest.raises(StoreError, match="is locked"):
        SqlRunStore(impatient).write([])
    other.rollback()
    other.close()
    impatient.close()


def test_a_new_file_that_another_process_locks_is_named(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="is locked"):
        Database(f"sqlite:///{path}", timeout=0.05).engine  # noqa: B018
    other.close()


def test_a_damaged_file_is_named(database: Database, path: Path, new_run) -> None:
    store = SqlRunStore(database)
    for number in range(200):
        store.create(new_run(f"run-{number}", snapshot={"text": "x" * 4000}))
    database.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 40] = b"\xff" * (4096 * 37)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"flowcraft\.db is damaged"):
        store.list(limit=200)
    database.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("flowcraft.db", "'flowcraft.db' is no database URL; write sqlite:///PATH"),
        ("postgresql+psycopg://host/name", "'postgresql\\+psycopg' is not supported; write sqlite:///PATH"),
        ("sqlite://", "'sqlite://' names no file; write sqlite:///PATH"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_cannot_be_used_says_what_to_write(url: str, told: str) -> None:
    with pytest.raises(StoreError, match=told):
        Database(url)


def test_a_relative_path_stays_what_it_was_when_the_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite:///here.db")
    monkeypatch.chdir(tmp_path / "other")
    assert scalar(database, "SELECT 1") == 1
    database.close()
    assert (tmp_path / "here.db").is_file()


def test_a_closed_database_opens_again(database: Database, new_run) -> None:
    SqlRunStore(database).create(new_run())
    database.close()
    assert SqlRunStore(database).get("run-1") is not None
    database.close()
    database.close()


def test_closing_leaves_one_file(database: Database, path: Path, new_run) -> None:
    store = SqlRunStore(database)
    store.create(new_run())
    store.list()
    database.close()
    assert [file.name for file in path.parent.iterdir()] == ["flowcraft.db"]
