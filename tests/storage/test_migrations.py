from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from flowcraft.errors import StoreError
from flowcraft.storage import Database, SqlRunStore
from flowcraft.storage.migrations import HEAD, VERSION_TABLE
from flowcraft.storage.tables import metadata

pytestmark = pytest.mark.integration

OPEN_AND_WRITE = """
import sys
from flowcraft.engine.ports import NewRun
from flowcraft.storage import Database, SqlRunStore
url, run = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
store = SqlRunStore(Database(url))
store.create(NewRun(id=run, workflow="w", file="f", folder=".", created=1.0, inputs={}, snapshot={}))
print(len(store.list()), flush=True)
"""


def columns(connection: Connection) -> dict[str, object]:
    """What SQLite says of every column: place, name, type, whether NULL is refused, default, place in the key."""
    return {name: connection.exec_driver_sql(f"PRAGMA table_info({name})").all() for name in metadata.tables}


def test_the_migrated_schema_is_the_one_of_the_tables(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        migrated = columns(connection)
    fresh = create_engine("sqlite://")
    metadata.create_all(fresh)
    with fresh.connect() as connection:
        assert columns(connection) == migrated
    fresh.dispose()


def test_the_code_knows_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", "flowcraft.storage:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_opening_an_up_to_date_database_does_not_import_alembic(database: Database, path: Path) -> None:
    database.engine  # noqa: B018
    script = "import sys; from flowcraft.storage import Database; Database(sys.argv[1]).engine; print('alembic' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script, f"sqlite:///{path}"], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_processes_that_start_at_once_migrate_one_new_file(path: Path) -> None:
    url = f"sqlite:///{path}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_WRITE, url, f"run-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate() for process in processes]
    assert [(process.returncode, error) for process, (_, error) in zip(processes, told, strict=True)] == [(0, "")] * 4
    assert max(int(output) for output, _ in told) == 4


def test_a_migration_that_is_killed_leaves_nothing_half_done(path: Path) -> None:
    script = """
import os, sys
import sqlalchemy as sa
from flowcraft.storage import Database
database = Database(sys.argv[1])
engine = database.dialect.engine(echo=False)
@sa.event.listens_for(engine, "after_cursor_execute")
def stop(connection, cursor, statement, *rest):
    if "CREATE TABLE pieces" in statement:
        os.kill(os.getpid(), 9)
database._migrate(engine)
"""
    killed = subprocess.run([sys.executable, "-c", script, f"sqlite:///{path}"], check=False)
    assert killed.returncode == -9
    database = Database(f"sqlite:///{path}")
    with database.read() as connection:
        options = {"version_table": VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    database.close()


@pytest.mark.parametrize("version", ["0999", b"\x80\x04"])
def test_a_newer_schema_is_refused(database: Database, path: Path, version: object) -> None:
    database.engine  # noqa: B018
    database.close()
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (version,))
    other.close()
    with pytest.raises(StoreError, match=rf"has schema .*, this FlowCraft knows schemas up to '{HEAD}': upgrade FlowCraft"):
        database.engine  # noqa: B018


def test_a_database_of_another_program_keeps_its_tables(database: Database, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE alembic_version (version_num TEXT)")
        other.execute("CREATE TABLE cats (name TEXT)")
        other.execute("INSERT INTO cats VALUES ('Tom')")
    other.close()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT name FROM cats").scalar() == "Tom"


def test_a_database_whose_tables_have_our_names_is_refused(database: Database, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE runs (distance REAL)")
    other.close()
    with pytest.raises(StoreError, match="table runs already exists"):
        database.engine  # noqa: B018


def test_threads_may_open_databases_of_their_own_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def opened(number: int) -> list[object]:
        database = Database(f"sqlite:///{tmp_path}/{number}.db")
        start.wait()
        rows = list(SqlRunStore(database).list())
        database.close()
        return rows

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(opened, range(8))) == [[]] * 8
