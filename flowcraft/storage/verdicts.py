"""The verdicts of judges, kept across restarts and shared by processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args, get_type_hints

from sqlalchemy import bindparam, select

from flowcraft.llm.ports import VerdictRecord, VerdictStore
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, integer, one_of, real, storable, text
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import verdicts

_TEXTS = ("stage", "task", "run", "path", "first", "second", "winner", "judge", "reasons")
_VERDICT = ("id", "time", *_TEXTS)
_WINNERS = get_args(get_type_hints(VerdictRecord)["winner"])
_READ = Reader(
    "verdicts",
    {"number": integer, "id": text, "time": real, **dict.fromkeys(_TEXTS, text), "winner": one_of(_WINNERS)},
)
_LATEST = (
    select(*(verdicts.c[name] for name in _READ.columns))
    .where(verdicts.c.number > bindparam("after"))
    .order_by(verdicts.c.number.desc())
    .limit(bindparam("most"))
)


class SqlVerdictStore(VerdictStore):
    """VerdictStore over a SQL database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[VerdictRecord]) -> None:
        """Store verdicts in one transaction; those that are stored already are left as they are."""
        rows = [(verdict.id, verdict.time, *(storable(getattr(verdict, name)) for name in _TEXTS)) for verdict in records]
        if not rows:
            return
        insert = self._database.dialect.insert_new(verdicts, ("id",))
        statement = Statement(insert, self._database.engine.dialect, _VERDICT)
        with self._database.transaction() as cursor:
            cursor.executemany(statement.text, rows)

    def latest(self, most: int, after: int = 0) -> tuple[int, Iterable[VerdictRecord]]:
        """Return the last ``most`` verdicts behind row ``after``, oldest first, and the last row's number."""
        with self._database.read() as connection:
            found = [_READ(row, row[0]) for row in connection.execute(_LATEST, {"after": after, "most": most})]
        last = found[0]["number"] if found else after
        return last, [VerdictRecord(**{name: row[name] for name in _VERDICT}) for row in reversed(found)]
