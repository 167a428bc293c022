"""What was spent from budgets: one row for each scope and unit, changed only by adding to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam, delete, exists, func, select, update

from flowcraft.llm.ports import Spending, SpendingLine, SpendingStore
from flowcraft.llm.sharing.stores import ROUNDING
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, real, storable, text
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import runs, spending

DAY = 86_400.0
KEPT = 90 * DAY
"""Seconds after which what was spent is forgotten. What a run spent is known as long as the run is."""

_READ = Reader("spending", {"scope": text, "unit": text, "spent": real, "allowed": real})
_COLUMNS = [spending.c[name] for name in _READ.columns]
_OF_LINE = (spending.c.scope == bindparam("of"), spending.c.unit == bindparam("unit_of"))
_ADD = update(spending).where(*_OF_LINE).values(spent=spending.c.spent + bindparam("amount"))
_RESERVE = _ADD.where(spending.c.spent + bindparam("amount") <= bindparam("most")).values(allowed=bindparam("limit"))
_ALLOW = update(spending).where(*_OF_LINE).values(allowed=bindparam("limit"))
_SPENT = select(spending.c.spent).where(*_OF_LINE)
_SINCE = select(spending.c.scope).where(spending.c.created >= bindparam("since")).limit(1)
_OF_RUN = exists().where(runs.c.id == func.substr(spending.c.scope, len("run:") + 1))
_FORGET = delete(spending).where(spending.c.created < bindparam("before"), ~_OF_RUN)


class _NoRoom(Exception):
    """Takes back what the lines before have taken."""

    def __init__(self, left: Spending) -> None:
        self.left = left


class _Compiled:
    def __init__(self, database: Database) -> None:
        dialect = database.engine.dialect
        key = ("scope", "unit")
        self.new = Statement(database.dialect.insert_new(spending, key), dialect, (*key, "created"))
        self.add, self.reserve, self.spent = (Statement(made, dialect) for made in (_ADD, _RESERVE, _SPENT))
        self.allow, self.since, self.forget = (Statement(made, dialect) for made in (_ALLOW, _SINCE, _FORGET))


class SqlSpending(SpendingStore):
    """SpendingStore over a SQL database: each line is one ``UPDATE ... WHERE spent + amount <= limit``.

    ``clock`` tells seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def reserve(self, lines: Sequence[SpendingLine]) -> Spending | None:
        """Take all of ``lines``, or none of them: then return how the first stands that has no room."""
        try:
            with self._database.transaction() as cursor:
                for line in lines:
                    self._take(cursor, line)
        except _NoRoom as full:
            self._carry_out(self._compiled.allow, lines)
            return full.left
        return None

    def settle(self, lines: Sequence[SpendingLine]) -> None:
        """Add ``amount`` of each line, which may be below 0, whatever the limit."""
        self._carry_out(self._compiled.add, lines)

    def spending(self) -> Sequence[Spending]:
        """Return what was spent, by scope and unit."""
        ordered = select(*_COLUMNS).order_by(spending.c.scope, spending.c.unit)
        with self._database.read() as connection:
            rows = [_READ(row, f"of {row[0]!r}") for row in connection.execute(ordered)]
        return [Spending(scope=row["scope"], unit=row["unit"], spent=row["spent"], limit=row["allowed"]) for row in rows]

    @cached_property
    def _compiled(self) -> _Compiled:
        return _Compiled(self._database)

    def _carry_out(self, statement: Statement, lines: Sequence[SpendingLine]) -> None:
        with self._database.transaction() as cursor:
            cursor.executemany(statement.text, [statement.bind(_values(line)) for line in lines])

    def _take(self, cursor: Any, line: SpendingLine) -> None:
        sql, values = self._compiled, _values(line)
        cursor.execute(sql.reserve.text, sql.reserve.bind(values))
        if cursor.rowcount:
            return
        self._begin(cursor, line)
        cursor.execute(sql.reserve.text, sql.reserve.bind(values))
        if not cursor.rowcount:
            cursor.execute(sql.spent.text, sql.spent.bind(values))
            found = real(cursor.fetchone()[0])
            raise _NoRoom(Spending(scope=line.scope, unit=line.unit, spent=found, limit=line.limit))

    def _begin(self, cursor: Any, line: SpendingLine) -> None:
        """Make the row of a budget; with the first of a day, forget what is old."""
        sql, now = self._compiled, self._clock()
        cursor.execute(sql.since.text, sql.since.bind({"since": now - now % DAY}))
        if cursor.fetchone() is None:
            cursor.execute(sql.forget.text, sql.forget.bind({"before": now - KEPT}))
        cursor.execute(sql.new.text, sql.new.bind({"scope": storable(line.scope), "unit": line.unit, "created": now}))


def _values(line: SpendingLine) -> dict[str, Any]:
    return {
        "of": storable(line.scope),
        "unit_of": line.unit,
        "amount": float(line.amount),
        "most": line.limit + ROUNDING,
        "limit": float(line.limit),
    }
