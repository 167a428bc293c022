"""Approvals: asked behind the fence of their run, answered by anybody, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, and_, bindparam, func, insert, or_, select, update

from flowcraft.engine.ports import ENDED, Write
from flowcraft.engine.waiting import Answer, Approval
from flowcraft.errors import StoreError
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, integer, json_object, json_value, one_of, optional, real, storable, text, to_json
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import approvals, documents, runs

_READ = Reader(
    "approvals",
    {
        **dict.fromkeys(("run", "path"), text),
        "number": integer,
        "gate": text,
        "state": one_of(("open", "answered", "taken", "timed_out", "withdrawn")),
        **dict.fromkeys(("what", "question"), text),
        "choices": json_object,
        "fields": json_value,
        "asked": real,
        "deadline": optional(real),
        **dict.fromkeys(("choice", "comment", "by"), text),
        "form": json_object,
        "at": optional(real),
    },
)
_COLUMNS = _READ.columns
_ALL = select(*(approvals.c[name] for name in _COLUMNS)).order_by(approvals.c.asked, approvals.c.path)
_AT = and_(approvals.c.run == bindparam("b_run"), approvals.c.path == bindparam("b_path"))
_ONE = and_(_AT, approvals.c.number == bindparam("b_number"))
_ANSWER = (
    update(approvals)
    .where(_ONE, approvals.c.state == "open", or_(approvals.c.deadline.is_(None), approvals.c.deadline > bindparam("b_at")))
    .values({"state": "answered", **{name: bindparam(f"b_{name}") for name in ("choice", "comment", "by", "form", "at")}})
)
_MARK = update(approvals).where(_ONE, approvals.c.state == bindparam("b_before")).values(state=bindparam("b_state"))
WITHDRAW = update(approvals).where(approvals.c.run == bindparam("b_run"), approvals.c.state == "open").values(state="withdrawn")
_DUE = or_(approvals.c.state == "answered", and_(approvals.c.state == "open", approvals.c.deadline <= bindparam("b_now")))
_WAITING = and_(runs.c.id == approvals.c.run, runs.c.state == "waiting")
_NEXT = select(func.min(approvals.c.deadline)).where(approvals.c.state == "open", _WAITING)


class ApprovalStatements:
    """What a batch of writes says about approvals, as text for the driver."""

    def __init__(self, database: Database) -> None:
        dialect: Dialect = database.engine.dialect
        self._drop = Statement(approvals.delete().where(_AT), dialect)
        self._ask = Statement(insert(approvals), dialect, _COLUMNS)
        self._mark = Statement(_MARK, dialect)
        self._withdraw = Statement(WITHDRAW, dialect)

    def carry_out(self, cursor: Any, write: Write) -> None:
        """Store what a run asks and what became of its approvals; those of a run that has ended are withdrawn."""
        for asked in write.asked:
            cursor.execute(self._drop.text, self._drop.bind({"b_run": write.run, "b_path": storable(asked.path)}))
            cursor.execute(self._ask.text, _values(asked))
        for mark in write.marks:
            at = {"b_run": write.run, "b_path": storable(mark.path), "b_number": mark.number}
            cursor.execute(self._mark.text, self._mark.bind({**at, "b_before": mark.before, "b_state": mark.state}))
        if write.state is not None and write.state.state in ENDED:
            cursor.execute(self._withdraw.text, self._withdraw.bind({"b_run": write.run}))


def _values(asked: Approval) -> tuple[Any, ...]:
    found = {name: getattr(asked, name) for name in _COLUMNS if name != "form"}
    found |= {"choices": to_json(dict(asked.choices)), "fields": to_json(asked.fields), "form": to_json(dict(asked.values))}
    return tuple(storable(value) if isinstance(value, str) else value for value in (found[name] for name in _COLUMNS))


def _approval(row: Sequence[Any]) -> Approval:
    found = _READ(row, f"{row[0]} {row[1]}")
    return Approval(values=found.pop("form"), **found)


class SqlApprovals:
    """The part of RunStore that people answer."""

    _database: Database

    def approvals(self, run: str | None = None, *, state: str | None = None) -> Sequence[Approval]:
        """Return the approvals of a run, of all runs without one, in the order in which they were asked."""
        wanted = _ALL
        if run is not None:
            wanted = wanted.where(approvals.c.run == run)
        if state is not None:
            wanted = wanted.where(approvals.c.state == state)
        with self._database.read() as connection:
            return [_approval(row) for row in connection.execute(wanted).all()]

    def approval(self, run: str, path: str) -> Approval | None:
        """Return what was asked last at a path of a run."""
        with self._database.read() as connection:
            row = connection.execute(_ALL.where(_AT), {"b_run": run, "b_path": storable(path)}).first()
        return None if row is None else _approval(row)

    def answer(self, run: str, path: str, number: int, answer: Answer, at: float) -> bool:
        """Answer an approval that is open and whose time is not over at ``at``. False: it is not."""
        said = {f"b_{name}": storable(getattr(answer, name)) for name in ("choice", "comment", "by")}
        one = {"b_run": run, "b_path": storable(path), "b_number": number, "b_form": to_json(dict(answer.values)), "b_at": at}
        with self._database.write() as connection:
            return bool(connection.execute(_ANSWER, {**said, **one}).rowcount)

    def answer_beforehand(self, run: str, answers: Mapping[str, Answer]) -> None:
        """Keep answers, by the names of gates, with a run, beside those that are there already."""
        row = documents.c.run == run
        with self._database.write() as connection:
            found = connection.execute(select(documents.c.snapshot).where(row)).scalar()
            if found is None:
                raise StoreError(f"there is no run {run!r}")
            snapshot = json_object(found)
            kept = {**(snapshot.get("answers") or {}), **{name: answer.data() for name, answer in answers.items()}}
            connection.execute(update(documents).where(row).values(snapshot=to_json({**snapshot, "answers": kept})))

    def due(self, run: str, now: float) -> Sequence[tuple[str, int]]:
        """Return which of a run's approvals, by path and number, were answered or ran out of time and are not taken yet."""
        found = select(approvals.c.path, approvals.c.number).where(approvals.c.run == bindparam("b_run"), _DUE)
        with self._database.read() as connection:
            rows = connection.execute(found.order_by(approvals.c.path), {"b_run": run, "b_now": now})
            return [(text(row[0]), integer(row[1])) for row in rows]

    def due_runs(self, now: float) -> Sequence[str]:
        """Return the runs that wait although an approval of theirs was answered or ran out of time."""
        found = select(approvals.c.run).distinct().where(_DUE, _WAITING).order_by(approvals.c.run)
        with self._database.read() as connection:
            return [text(run) for run in connection.execute(found, {"b_now": now}).scalars()]

    def next_deadline(self) -> float | None:
        """Return when the next approval of a waiting run runs out of time."""
        with self._database.read() as connection:
            return optional(real)(connection.execute(_NEXT).scalar())  # type: ignore[no-any-return]  # a number, or None
