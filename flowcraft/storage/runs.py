"""Runs as the engine writes them: every change of an owned run stands behind its epoch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam, func, insert, or_, select, update

from flowcraft.engine.ports import CANCEL, ENDED, NewRun, RunStore, SegmentStart, StateChange, Write
from flowcraft.errors import StoreError
from flowcraft.storage.approvals import WITHDRAW, ApprovalStatements, SqlApprovals
from flowcraft.storage.database import Database
from flowcraft.storage.documents import SqlDocuments
from flowcraft.storage.outputs import SqlOutputs
from flowcraft.storage.processes import SqlProcesses
from flowcraft.storage.reading import SqlRuns, read_pieces, read_run
from flowcraft.storage.rows import ATTEMPT, attempt_values, storable, to_json
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import attempts, documents, events, pieces, runs

_MINE = (runs.c.id == bindparam("b_run"), runs.c.epoch == bindparam("b_epoch"))
# To end a run leaves its epoch as it is: who looked at the run before that must not begin or end it again.
_BEGIN = (
    update(runs)
    .where(*_MINE, runs.c.state.not_in(("cancelled", "done")))
    .values(
        epoch=runs.c.epoch + 1,
        segment=runs.c.segment + 1,
        owner=bindparam("b_owner"),
        state="running",
        error="",
        outputs="null",
        ended=None,
    )
)
_CHANGE = (
    update(runs)
    .where(*_MINE)
    .values(
        {
            **{name: bindparam(f"b_{name}") for name in ("state", "outputs", "error", "seconds", "ended")},
            # What was answered offline in an earlier segment still stands in the outputs.
            "offline": or_(runs.c.offline == 1, bindparam("b_offline") == 1),
        }
    )
)
_GIVE_BACK = _CHANGE.values(owner="")
_END = _GIVE_BACK.values(wanted="")
_NOT_ENDED = runs.c.state.not_in(sorted(ENDED))
_TAKE_AND_END = _END.where(_NOT_ENDED).values(epoch=runs.c.epoch + 1)
_LAST_EVENT = select(func.max(events.c.sequence)).where(events.c.run == bindparam("run"))
_WANT = (
    update(runs)
    .where(runs.c.id == bindparam("b_run"), _NOT_ENDED, or_(runs.c.wanted != CANCEL, bindparam("b_wanted") == CANCEL))
    .values(wanted=bindparam("b_wanted"))
)

_PIECE = ("run", "path", "what", "code", "state", "result", "seconds", "asked", "origin")
_EVENT = ("run", "sequence", "kind", "stage", "time", "data")
_ATTEMPT = ("run", "path", "stage", *ATTEMPT)


class _Statements:
    """What `write` says, as text for the driver."""

    def __init__(self, database: Database) -> None:
        dialect = database.engine.dialect
        piece = database.dialect.insert_or_replace(pieces, ("run", "path"), _PIECE)
        # Where a transaction holds no lock on the whole database, the lock on this row keeps others from taking the run.
        self.fence = Statement(select(runs.c.id).where(*_MINE).with_for_update(read=True), dialect)
        self.piece = Statement(piece, dialect, _PIECE)
        self.event = Statement(insert(events), dialect, _EVENT)
        self.attempt = Statement(insert(attempts), dialect, _ATTEMPT)
        self.change = Statement(_CHANGE, dialect)
        self.give_back = Statement(_GIVE_BACK, dialect)
        self.end = Statement(_END, dialect)
        self.approvals = ApprovalStatements(database)
        expected = (("b_run", "b_epoch"), _PIECE, _EVENT, _ATTEMPT)
        assert tuple(said.names for said in (self.fence, self.piece, self.event, self.attempt)) == expected

    def of(self, change: StateChange) -> Statement:
        """Return what stores a change: what is not running has no owner, of what has ended nothing is wanted."""
        if change.state == "running":
            return self.change
        return self.end if change.state in ENDED else self.give_back


class SqlRunStore(SqlRuns, SqlDocuments, SqlOutputs, SqlProcesses, SqlApprovals, RunStore):
    """RunStore over a SQL database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @cached_property
    def _statements(self) -> _Statements:
        return _Statements(self._database)

    def create(self, run: NewRun) -> None:
        """Store a new run, queued and without an owner."""
        row = {name: storable(getattr(run, name)) for name in ("id", "workflow", "file", "folder")}
        kept = {"run": run.id, "inputs": to_json(dict(run.inputs)), "snapshot": to_json(dict(run.snapshot))}
        with self._database.write() as connection:
            connection.execute(insert(runs), {**row, "created": run.created, "state": "queued"})
            connection.execute(insert(documents), kept)

    def begin(self, run: str, owner: str, epoch: int) -> SegmentStart | None:
        """Begin a segment in one transaction if the run's epoch still is ``epoch``; None: somebody else was faster.

        A run that is done or cancelled does not begin again.
        """
        with self._database.write() as connection:
            begun = connection.execute(_BEGIN, {"b_run": run, "b_epoch": epoch, "b_owner": owner})
            if not begun.rowcount:
                return None
            row = read_run(connection, run)
            assert row is not None
            found = {piece.path: piece for piece in read_pieces(connection, run)}
            last = connection.execute(_LAST_EVENT, {"run": run}).scalar() or 0
        return SegmentStart(run=row, pieces=found, next_event=last + 1)

    def write(self, batch: Sequence[Write]) -> set[tuple[str, int]]:
        """Store a batch in one transaction; return the (run, epoch) pairs that are fenced, of which only attempts were kept."""
        said = self._statements
        with self._database.transaction() as cursor:
            fenced = _fenced(cursor, said.fence.text, batch)
            kept = [write for write in batch if (write.run, write.epoch) not in fenced] if fenced else batch
            _many(cursor, said.piece, [row for write in kept for row in _piece_rows(write)])
            _many(cursor, said.event, [row for write in kept for row in _event_rows(write)])
            _many(cursor, said.attempt, [row for write in batch for row in _attempt_rows(write)])
            for write in kept:
                if write.asked or write.marks or write.state is not None:
                    said.approvals.carry_out(cursor, write)
                if write.state is not None:
                    change = said.of(write.state)
                    values = {**_changed(write.state), "b_run": write.run, "b_epoch": write.epoch}
                    cursor.execute(change.text, change.bind(values))
        return fenced

    def want(self, run: str, wanted: str) -> bool:
        """Keep what is wanted of a run until it ends. False: it has ended, or is to be cancelled."""
        with self._database.write() as connection:
            if connection.execute(_WANT, {"b_run": run, "b_wanted": wanted}).rowcount:
                return True
            if connection.execute(select(runs.c.id).where(runs.c.id == run)).first() is None:
                raise StoreError(f"there is no run {run!r}")
            return False

    def end_unowned(self, run: str, epoch: int, change: StateChange) -> bool:
        """End a run whose owner is gone, if its epoch still is ``epoch`` and it has not ended. False: it is not."""
        with self._database.write() as connection:
            ended = connection.execute(_TAKE_AND_END, {**_changed(change), "b_run": run, "b_epoch": epoch}).rowcount
            if ended:
                connection.execute(WITHDRAW, {"b_run": run})
            return bool(ended)


def _fenced(cursor: Any, fence: str, batch: Sequence[Write]) -> set[tuple[str, int]]:
    owned = {(write.run, write.epoch) for write in batch}
    return {pair for pair in owned if cursor.execute(fence, pair).fetchone() is None}


def _many(cursor: Any, statement: Statement, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        cursor.executemany(statement.text, rows)


def _piece_rows(write: Write) -> list[tuple[Any, ...]]:
    return [
        (
            write.run,
            storable(piece.path),
            piece.what,
            piece.code,
            piece.state,
            storable(piece.result),
            piece.seconds,
            storable(piece.asked),
            piece.origin,
        )
        for piece in write.pieces
    ]


def _event_rows(write: Write) -> list[tuple[Any, ...]]:
    return [
        (write.run, event.sequence, event.kind, storable(event.stage), event.time, storable(event.data))
        for event in write.events
    ]


def _attempt_rows(write: Write) -> list[tuple[Any, ...]]:
    return [(write.run, storable(row.path), storable(row.stage), *attempt_values(row.attempt)) for row in write.attempts]


def _changed(change: StateChange) -> dict[str, Any]:
    return {
        "b_state": change.state,
        "b_outputs": to_json(change.outputs),
        "b_error": storable(change.error),
        "b_seconds": change.seconds,
        "b_ended": change.ended,
        "b_offline": int(change.offline),
    }
