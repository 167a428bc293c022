"""Answers that are kept for a while, by the hash of their question."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select

from flowcraft.errors import StoreError
from flowcraft.llm.ports import AnswerStore, KeptAnswer
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, real, storable, text
from flowcraft.storage.tables import answers

_READ = Reader("answers", {"response": text, "created": real})
_COLUMNS = [answers.c[name] for name in _READ.columns]
_GET = select(*_COLUMNS).where(answers.c.key == bindparam("of"), answers.c.expires > bindparam("now"))
_OF_KEY = delete(answers).where(answers.c.key == bindparam("of"))
_EXPIRED = delete(answers).where(answers.c.expires <= bindparam("now"))


class SqlAnswers(AnswerStore):
    """AnswerStore over a SQL database. A row that was damaged counts as none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str, now: float) -> KeptAnswer | None:
        """Return the answer kept under ``key`` that has not expired."""
        with self._database.read() as connection:
            row = connection.execute(_GET, {"of": key, "now": now}).first()
        if row is None:
            return None
        try:
            return KeptAnswer(**_READ(row, key))
        except StoreError:
            return None

    def put(self, key: str, response: str, now: float, expires: float) -> None:
        """Keep an answer in place of what is there, and forget all that has expired."""
        row = {"key": key, "created": now, "expires": expires, "response": storable(response)}
        with self._database.write() as connection:
            connection.execute(_EXPIRED, {"now": now})
            connection.execute(_OF_KEY, {"of": key})
            connection.execute(answers.insert(), row)
