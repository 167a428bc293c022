"""The processes that own runs, and their beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from sqlalchemy import and_, bindparam, delete, insert, or_, select, update

from flowcraft.engine.ports import CANCEL, Loose, ProcessRow, RunState
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, integer, one_of, text
from flowcraft.storage.tables import processes, runs

_READ = Reader(
    "processes", {**dict.fromkeys(("id", "host", "boot", "namespace", "started"), text), "pid": integer, "beat": integer}
)
_PROCESS = select(*(processes.c[name] for name in _READ.columns)).where(processes.c.id == bindparam("process"))
_WANTED = select(runs.c.id, runs.c.wanted).where(runs.c.owner == bindparam("process"), runs.c.wanted != "")
_BEAT = update(processes).where(processes.c.id == bindparam("process")).values(beat=processes.c.beat + 1)


_RUN = Reader("runs", {"run": text, "state": one_of(get_args(RunState)), "epoch": integer, "wanted": text})
_IDLE = or_(runs.c.state == "queued", and_(runs.c.state == "waiting", runs.c.wanted == CANCEL))
_LOOSE = (
    select(runs.c.id, runs.c.state, runs.c.epoch, runs.c.wanted, *(processes.c[name] for name in _READ.columns))
    .outerjoin(processes, processes.c.id == runs.c.owner)
    .where(
        runs.c.state.in_(("running", "queued", "waiting", "interrupted")),
        or_(
            and_(runs.c.state == "running", runs.c.owner != bindparam("owner")),
            _IDLE,
            and_(runs.c.state == "interrupted", runs.c.wanted != ""),
        ),
    )
    .order_by(runs.c.created, runs.c.id)
)


def _loose(row: Sequence[Any]) -> Loose:
    columns, process = row[: len(_RUN.columns)], row[len(_RUN.columns) :]
    known = None if process[0] is None else ProcessRow(**_READ(process, str(process[0])))
    return Loose(**_RUN(columns, str(row[0])), process=known)


class SqlProcesses:
    """The part of RunStore that knows processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def join(self, process: ProcessRow) -> None:
        """Enter a process."""
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.id == process.id))
            connection.execute(insert(processes), asdict(process))

    def beat(self, process: ProcessRow) -> Mapping[str, str]:
        """Raise the counter of ``process``, which is entered anew where it is not there; return what is wanted of its runs."""
        with self._database.write() as connection:
            if not connection.execute(_BEAT, {"process": process.id}).rowcount:
                connection.execute(insert(processes), asdict(process))
            return {row.id: row.wanted for row in connection.execute(_WANTED, {"process": process.id})}

    def leave(self, process: str) -> None:
        """Take a process that ends off the list."""
        with self._database.write() as connection:
            connection.execute(delete(processes).where(processes.c.id == process))

    def loose(self, owner: str) -> Sequence[Loose]:
        """Return the runs that nobody may be looking after, those of ``owner`` left out, oldest first."""
        with self._database.read() as connection:
            return [_loose(row) for row in connection.execute(_LOOSE, {"owner": owner}).all()]

    def process(self, process: str) -> ProcessRow | None:
        """Return a process."""
        with self._database.read() as connection:
            row = connection.execute(_PROCESS, {"process": process}).first()
        return None if row is None else ProcessRow(**_READ(row, process))
