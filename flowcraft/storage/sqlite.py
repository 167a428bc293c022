"""What is particular to SQLite: how a connection is set up, how writing begins, and what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from flowcraft.errors import StoreError

WRITES = "flowcraft_writes"
"""The execution option of the connection that writes: its transactions take the write lock when they begin."""

MEANINGS = {
    "SQLITE_NOTADB": "is no SQLite database; name another file in `storage`",
    "SQLITE_CORRUPT": "is damaged; restore it from a copy, or move it away and start with a new one",
    "SQLITE_CANTOPEN": "cannot be opened; `storage` must name a file in a folder that may be written to",
    "SQLITE_READONLY": "may not be written to; change its permissions, or name another file in `storage`",
    "SQLITE_FULL": "cannot grow: the disk is full",
    "SQLITE_IOERR": "cannot be read or written: is the disk full or out of order, or a limit of this account reached?",
    "SQLITE_PERM": "may not be opened; change its permissions, or name another file in `storage`",
}


class SQLite:
    """One SQLite file. ``timeout`` is how long, in seconds, to wait for other processes that write."""

    begin = "BEGIN IMMEDIATE"
    errors = (sqlite3.Error,)

    def __init__(self, url: URL, timeout: float) -> None:
        if not url.database or url.database == ":memory:" or "mode=memory" in url.database:
            raise StoreError(f"storage {url.render_as_string()!r} names no file; write sqlite:///PATH")
        self.path = Path(url.database).absolute()
        self._url = url.set(database=str(self.path))
        self._timeout = timeout

    def engine(self, *, echo: bool) -> Engine:
        """Return an engine for the file; its folder is created."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder of database {self.path} cannot be created: {error.strerror or error}") from error
        engine = create_engine(self._url, echo=echo, connect_args={"timeout": self._timeout})
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "begin", _begin)
        return engine

    def reading_engine(self, *, echo: bool) -> Engine:
        """Return an engine that only reads the file, also where nothing may be written beside it."""
        # As a URI of the driver's own: only so can it be told not to create or change anything.
        found = f"{self.path.as_uri()}?mode=ro"

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(found, uri=True, timeout=self._timeout, check_same_thread=False, isolation_level=None)

        engine = create_engine("sqlite://", echo=echo, creator=connect, poolclass=QueuePool)
        event.listen(engine, "begin", _begin)
        return engine

    def _connected(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own: _begin does
        self._switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait when several processes switch a new file at once, so this does. The mode stays in the file.
        deadline = time.monotonic() + self._timeout
        while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if not _means(error, "SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return  # a file system without shared memory keeps its own mode

    def lock_for_migration(self, connection: Connection) -> None:
        """Do nothing: a transaction that writes holds the whole file already."""

    def insert_new(self, table: Table, key: Sequence[str]) -> Insert:
        """Return an INSERT that leaves a row with the same key as it is."""
        return insert(table).on_conflict_do_nothing(index_elements=key)

    def insert_or_replace(self, table: Table, key: Sequence[str], columns: Sequence[str]) -> Insert:
        """Return an INSERT that replaces a row with the same key; the row gets a new number, as if it was inserted."""
        into = insert(table)
        replaced = {name: into.excluded[name] for name in (*columns, "number") if name not in key}
        return into.on_conflict_do_update(index_elements=key, set_=replaced)

    def explain(self, error: Exception) -> StoreError:
        """Say what a driver's error means and what to do."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        for name, meaning in MEANINGS.items():
            if _means(cause, name):
                return StoreError(f"database {self.path} {meaning}")
        if _means(cause, "SQLITE_BUSY"):
            return StoreError(
                f"database {self.path} is locked: another process has been writing to it for {self._timeout:g} s; "
                "end that process, or give this one a database of its own"
            )
        return StoreError(f"database {self.path}: {cause}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(SQLite.begin if connection.get_execution_options().get(WRITES) else "BEGIN")


def _means(error: Any, name: str) -> bool:
    # Extended names continue the plain one: SQLITE_READONLY_DIRECTORY.
    return str(getattr(error, "sqlite_errorname", "")).startswith(name)
