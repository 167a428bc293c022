"""A run in a file of its own: written from a database, read wherever the file is taken."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Table, delete, insert, select, update

from flowcraft.engine.ports import RunRow
from flowcraft.errors import StoreError
from flowcraft.events import AnswerChosen
from flowcraft.redaction import Redactor
from flowcraft.storage.database import Database
from flowcraft.storage.migrations import HEAD, VERSION_TABLE
from flowcraft.storage.rows import to_json
from flowcraft.storage.runs import SqlRunStore
from flowcraft.storage.tables import approvals, attempts, documents, events, pieces, runs

TABLES = (runs, documents, pieces, approvals, events, attempts)
"""What belongs to a run, in the order in which foreign keys let it be written."""

_JSON = frozenset({"inputs", "snapshot", "outputs", "result", "asked", "data", "form"})
_NOT_OURS = frozenset({"owner", "wanted"})
_AT_ONCE = 1000
_HEADER = b"SQLite format 3\0"
_HOW = "'flowcraft runs export RUN' writes one"


def write_export(source: Database, run: str, target: Path, *, redactor: Redactor, force: bool = False) -> None:
    """Write the run with this id, as it stands, to the SQLite file ``target``.

    The secrets that ``redactor`` knows are taken out. Raises StoreError where the file is there already and not to be replaced
    (``force``), or cannot be written.
    """
    if target.is_dir():
        raise StoreError(f"{target} is a folder; name a file")
    if target.exists() and not force:
        raise StoreError(_is_there(target))
    try:
        with tempfile.TemporaryDirectory(prefix=".flowcraft-export-", dir=target.parent) as folder:
            made = Path(folder) / "run.sqlite"
            _fill(source, run, made, redactor)
            _move(made, target, force)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}") from None


def _is_there(target: Path) -> str:
    return f"{target} is there already; name another file, or replace it with --force"


def _fill(source: Database, run: str, made: Path, redactor: Redactor) -> None:
    copy = _database(made)
    try:
        with source.read() as reading, copy.write() as writing:
            for table in TABLES:
                for rows in _rows(reading, table, run, redactor):
                    writing.execute(insert(table), rows)
    finally:
        copy.close()
    with contextlib.closing(sqlite3.connect(made)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, which can be read where nothing may be written
        connection.execute("PRAGMA page_size = 1024")  # most tables of one run are short, and each takes a page
        connection.execute("VACUUM")


def _rows(reading: Connection, table: Table, run: str, redactor: Redactor) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a run in a table, some at a time, without secrets and without who owns the run."""
    key = table.c.id if table is runs else table.c.run
    found = reading.execution_options(yield_per=_AT_ONCE).execute(select(table).where(key == run)).mappings()
    for some in found.partitions():
        yield [{name: _clean(name, value, redactor) for name, value in row.items()} for row in some]


def _clean(name: str, value: Any, redactor: Redactor) -> Any:
    if name in _NOT_OURS:
        return ""
    if not isinstance(value, str) or redactor.text(value) == value:
        return value
    if name not in _JSON:
        return redactor.text(value)
    try:
        return to_json(redactor.value(json.loads(value)))
    except ValueError:
        return redactor.text(value)  # damaged where it came from


def _move(made: Path, target: Path, force: bool) -> None:
    if force:
        made.replace(target)
        return
    try:
        os.link(made, target)  # unlike a renaming it never replaces a file that somebody else wrote meanwhile
    except FileExistsError:
        raise StoreError(_is_there(target)) from None
    except OSError:  # a file system without links
        if target.exists():
            raise StoreError(_is_there(target)) from None
        made.replace(target)


class Export:
    """A run in a file of its own, opened to be read; the file is never changed.

    One that an earlier FlowCraft wrote is read from a copy with today's schema. Raises StoreError where the file is damaged or
    something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        version = _version(path)
        if version > HEAD:
            raise StoreError(f"{path} has schema {version!r}, this FlowCraft knows schemas up to {HEAD!r}: upgrade FlowCraft")
        if version == HEAD:
            self.database = _database(path, read_only=True)
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="flowcraft-export-")
            self.database = _database(copy_export(path, Path(self._folder.name)))
        self.store = SqlRunStore(self.database)
        self.run = self._only_run()

    def _only_run(self) -> RunRow:
        found = self.store.list(2)
        if len(found) != 1:
            told = "several runs; an export holds one" if found else "no run"
            raise StoreError(f"{self.path} is no export of a run: it holds {told}; {_HOW}")
        row = self.store.get(found[0].id)
        assert row is not None
        return row

    def close(self) -> None:
        """Close the file."""
        self.database.close()
        if self._folder is not None:
            self._folder.cleanup()


def copy_export(path: Path, folder: Path) -> Path:
    """Return a copy of an export in ``folder``; a Database brings its schema up to date."""
    made = folder / "run.sqlite"
    shutil.copyfile(path, made)
    return made


def reopen(export: Export, folder: Path, inputs: Mapping[str, Any]) -> str:
    """Copy the run of an export into a database in ``folder``, as if it had just begun with ``inputs``; return its URL.

    It has no pieces. What is known of its attempts stays, and which answers counted: workflows may ask for that.
    """
    made = copy_export(export.path, folder)
    database = _database(made)
    try:
        with database.write() as connection:
            connection.execute(delete(pieces))
            connection.execute(delete(approvals))
            connection.execute(delete(events).where(events.c.kind != AnswerChosen.kind))
            connection.execute(update(runs).values(state="interrupted", seconds=0.0, error="", outputs="null", ended=None))
            connection.execute(update(documents).values(inputs=to_json(dict(inputs))))
    finally:
        database.close()
    return f"sqlite:///{made}"


def is_export(name: str) -> bool:
    """Say whether ``name`` is a file's, and not a run's id: these hold neither dots nor slashes."""
    return any(mark in name for mark in (".", "/", os.sep))


def holds_our_tables(path: Path) -> bool:
    """Say whether a file is a SQLite database with FlowCraft's schema, of whatever version."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (VERSION_TABLE,)).fetchone()
    except sqlite3.Error:
        return False
    return found is not None


def _database(path: Path, *, read_only: bool = False) -> Database:
    return Database(URL.create("sqlite", database=str(path.absolute())), read_only=read_only)


def _version(path: Path) -> str:
    """Return the revision of an export's schema; raise StoreError for what is none or is damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_HEADER))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from None
    if head != _HEADER:
        raise StoreError(f"{path} is no export of a run: it is no SQLite file; {_HOW}")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()
            if damage != ("ok",):
                raise StoreError(f"{path} is damaged: {damage[0] if damage else 'it cannot be checked'}; export the run again")
            known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            version = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608  a constant
            row = connection.execute(version).fetchone() if VERSION_TABLE in known else None
    except sqlite3.Error as error:
        raise StoreError(f"{path} is damaged: {error}; export the run again") from None
    if row is None or not isinstance(row[0], str):
        raise StoreError(f"{path} is no export of a run: it is another program's database; {_HOW}")
    missing = sorted({table.name for table in TABLES} - known)
    if row[0] == HEAD and missing:
        raise StoreError(f"{path} is damaged: it has no table {', '.join(missing)}; export the run again")
    return row[0]
