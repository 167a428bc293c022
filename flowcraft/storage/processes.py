"""The processes that own runs, and their beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import bindparam, delete, insert, select, update

from flowcraft.engine.ports import ProcessRow
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, integer, text
from flowcraft.storage.tables import processes, runs

_READ = Reader(
    "processes", {**dict.fromkeys(("id", "host", "boot", "namespace", "started"), text), "pid": integer, "beat": integer}
)
_PROCESS = select(*(processes.c[name] for name in _READ.columns)).where(processes.c.id == bindparam("process"))
_WANTED = select(runs.c.id, runs.c.wanted).where(runs.c.owner == bindparam("process"), runs.c.wanted != "")
_BEAT = update(processes).where(processes.c.id == bindparam("process")).values(beat=processes.c.beat + 1)


class SqlProcesses:
    """The part of RunStore that knows processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def join(self, process: ProcessRow) -> None:
        """Enter a process."""
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.id == process.id))
            connection.execute(insert(processes), asdict(process))

    def beat(self, process: str) -> Mapping[str, str]:
        """Raise the counter of ``process`` and return what is wanted of the runs it owns, of those with a wish."""
        with self._database.write() as connection:
            connection.execute(_BEAT, {"process": process})
            return {row.id: row.wanted for row in connection.execute(_WANTED, {"process": process})}

    def leave(self, process: str) -> None:
        """Take a process that ends off the list."""
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.id == process))

    def process(self, process: str) -> ProcessRow | None:
        """Return a process."""
        with self._database.read() as connection:
            row = connection.execute(_PROCESS, {"process": process}).first()
        return None if row is None else ProcessRow(**_READ(row, process))
