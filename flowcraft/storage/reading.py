"""Reading runs and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, case, func, literal, select

from flowcraft.engine.pieces.asked import LONGEST_VALUE, SHORTENED
from flowcraft.engine.ports import AttemptRow, EventRow, Piece, RunRow, RunTotals
from flowcraft.errors import StoreError
from flowcraft.storage.database import Database
from flowcraft.storage.rows import (
    ATTEMPT,
    Reader,
    attempt_of,
    flag,
    integer,
    json_object,
    json_text,
    json_value,
    one_of,
    optional,
    real,
    text,
)
from flowcraft.storage.tables import attempts, documents, events, pieces, runs

_RUN = Reader(
    "runs",
    {
        **dict.fromkeys(("id", "workflow", "file", "folder"), text),
        "state": one_of(("queued", "running", "waiting", "interrupted", "failed", "cancelled", "done")),
        "created": real,
        **dict.fromkeys(("epoch", "segment"), integer),
        **dict.fromkeys(("owner", "wanted"), text),
        "ended": optional(real),
        "seconds": real,
        "outputs": json_value,
        "error": text,
        "offline": flag,
    },
)
_DOCUMENTS = Reader("documents", {"inputs": json_object, "snapshot": json_object})
_PIECE = Reader(
    "pieces",
    {
        **dict.fromkeys(("path", "what", "code"), text),
        "state": one_of(("done", "failed", "skipped")),
        "result": json_text,
        "seconds": real,
        "origin": text,
        "asked": text,
    },
)
_EVENT = Reader("events", {"sequence": integer, "kind": text, "stage": text, "time": real, "data": json_text})
_ATTEMPT = Reader("attempts", {"path": text, "stage": text, **ATTEMPT})

_RUN_COLUMNS = [runs.c[name] for name in _RUN.columns]
_WITH_DOCUMENTS = select(*_RUN_COLUMNS, documents.c.inputs, documents.c.snapshot).outerjoin(
    documents, documents.c.run == runs.c.id
)
_BY_ID = _WITH_DOCUMENTS.where(runs.c.id == bindparam("run"))
_BY_PREFIX = (
    select(runs.c.id)
    .where(func.substr(runs.c.id, 1, bindparam("length")) == bindparam("prefix"))
    .order_by(runs.c.created.desc(), runs.c.id)
    .limit(6)
)
_PIECE_COLUMNS = [pieces.c[name] for name in _PIECE.columns]
_ASKED = select(*_PIECE_COLUMNS).where(pieces.c.run == bindparam("run")).order_by(pieces.c.number)
_PIECES = _ASKED.with_only_columns(*_PIECE_COLUMNS[:-1], literal("").label("asked"))
_ASKED_AT = select(pieces.c.asked).where(pieces.c.run == bindparam("run"), pieces.c.path == bindparam("path"))
_EVENTS = (
    select(*(events.c[name] for name in _EVENT.columns))
    .where(events.c.run == bindparam("run"), events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
)
_ATTEMPTS = (
    select(*(attempts.c[name] for name in _ATTEMPT.columns))
    .where(attempts.c.run == bindparam("run"))
    .order_by(attempts.c.number)
)
_TOTAL = Reader("attempts", {"run": text, "calls": integer, "tokens": integer, "usd": optional(real), "offline": integer})
_CALLED = case((attempts.c.outcome == "skipped", 0), else_=1)
_TOTALS = (
    select(
        attempts.c.run,
        func.sum(_CALLED),
        func.sum(attempts.c.input + attempts.c.output),
        func.sum(attempts.c.usd),
        func.sum(_CALLED * attempts.c.offline),
    )
    .where(attempts.c.run.in_(bindparam("runs", expanding=True)))
    .group_by(attempts.c.run)
)
_TOTALS_AT_ONCE = 500
"""SQLite takes a limited number of parameters in one statement."""


def read_run(connection: Connection, run: str) -> RunRow | None:
    """Return a run by its whole id."""
    row = connection.execute(_BY_ID, {"run": run}).first()
    if row is None:
        return None
    *columns, inputs, snapshot = row
    return RunRow(**_RUN(columns, run), **_DOCUMENTS((inputs, snapshot), run))


def read_pieces(connection: Connection, run: str, *, asked: bool = False) -> list[Piece]:
    """Return all pieces of a run in order of writing; what they asked for is left out unless it is wanted."""
    rows = connection.execute(_ASKED if asked else _PIECES, {"run": run}).all()
    return [Piece(**_PIECE(row, f"{run} {row[0]}")) for row in rows]


_SHORTENED = select(func.count()).where(
    pieces.c.run == bindparam("run"), func.length(pieces.c.asked) > LONGEST_VALUE, pieces.c.asked.contains(SHORTENED)
)


class SqlRuns:
    """The part of RunStore that reads."""

    _database: Database

    def get(self, run: str) -> RunRow | None:
        """Return a run by its id, or by the only id that begins so.

        Raises StoreError where several ids begin so.
        """
        with self._database.read() as connection:
            found = read_run(connection, run)
            if found is not None or not run:
                return found
            ids = connection.execute(_BY_PREFIX, {"prefix": run, "length": len(run)}).scalars().all()
            if len(ids) > 1:
                listed = ", ".join(ids[:5]) + (" and more" if len(ids) > 5 else "")
                raise StoreError(f"several runs begin with {run!r}: {listed}; write more of the id")
            return read_run(connection, ids[0]) if ids else None

    def list(self, limit: int = 50, state: str | None = None) -> Sequence[RunRow]:
        """Return the newest runs first, their snapshots left out."""
        newest = (
            select(*_RUN_COLUMNS, documents.c.inputs, literal("{}"))
            .outerjoin(documents, documents.c.run == runs.c.id)
            .order_by(runs.c.created.desc(), runs.c.id.desc())
            .limit(limit)
        )
        if state is not None:
            newest = newest.where(runs.c.state == state)
        with self._database.read() as connection:
            rows = connection.execute(newest).all()
        return [RunRow(**_RUN(row[:-2], row[0]), **_DOCUMENTS(row[-2:], row[0])) for row in rows]

    def pieces(self, run: str, *, asked: bool = False) -> Sequence[Piece]:
        """Return all pieces of a run in order of writing, with what they asked for if that is wanted."""
        with self._database.read() as connection:
            return read_pieces(connection, run, asked=asked)

    def asked(self, run: str, path: str) -> str:
        """Return what a piece of a run asked for; empty where that is not known."""
        with self._database.read() as connection:
            found = connection.execute(_ASKED_AT, {"run": run, "path": path}).scalar()
        return found if isinstance(found, str) else ""

    def shortened(self, run: str) -> int:
        """Return how many pieces of a run keep something that they asked for shortened, for its length."""
        with self._database.read() as connection:
            return integer(connection.execute(_SHORTENED, {"run": run}).scalar())

    def events(self, run: str, after: int = 0) -> Sequence[EventRow]:
        """Return the kept events of a run behind sequence ``after``."""
        with self._database.read() as connection:
            rows = connection.execute(_EVENTS, {"run": run, "after": after})
            return [EventRow(**_EVENT(row, f"{run} {row[0]}")) for row in rows]

    def attempts(self, run: str) -> Sequence[AttemptRow]:
        """Return all attempts of a run."""
        with self._database.read() as connection:
            found = [_ATTEMPT(row, f"{run} {row[0]}") for row in connection.execute(_ATTEMPTS, {"run": run})]
        return [AttemptRow(attempt=attempt_of(values), **values) for values in found]

    def totals(self, runs: Sequence[str]) -> Mapping[str, RunTotals]:
        """Return what each of these runs cost, of those too that have no attempts."""
        found = dict.fromkeys(runs, RunTotals())
        with self._database.read() as connection:
            for first in range(0, len(runs), _TOTALS_AT_ONCE):
                some = list(runs[first : first + _TOTALS_AT_ONCE])
                for row in connection.execute(_TOTALS, {"runs": some}):
                    values = _TOTAL(row, f"of run {row[0]}")
                    run = values.pop("run")
                    found[run] = RunTotals(**values)
        return found
