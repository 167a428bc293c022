"""Outputs of stages with ``cache``, which later runs may take over, by the hash of what was asked."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select

from flowcraft.engine.ports import KeptOutput
from flowcraft.errors import StoreError
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, json_text, storable, text
from flowcraft.storage.tables import outputs

_READ = Reader("outputs", {"run": text, "path": text, "result": json_text})
_COLUMNS = [outputs.c[name] for name in _READ.columns]
_GET = select(*_COLUMNS).where(outputs.c.key == bindparam("of"), outputs.c.created > bindparam("after"))
_OF_KEY = delete(outputs).where(outputs.c.key == bindparam("of"))
_EXPIRED = delete(outputs).where(outputs.c.expires <= bindparam("now"))


class SqlOutputs:
    """The part of RunStore that keeps outputs. A row that was damaged counts as none."""

    _database: Database

    def kept_output(self, key: str, after: float) -> KeptOutput | None:
        """Return what is kept under ``key`` since a time after ``after``, in seconds since the epoch."""
        with self._database.read() as connection:
            row = connection.execute(_GET, {"of": key, "after": after}).first()
        if row is None:
            return None
        try:
            return KeptOutput(**_READ(row, key))
        except StoreError:
            return None

    def keep_output(self, key: str, output: KeptOutput, now: float, expires: float) -> None:
        """Keep an output in place of what is there, and forget all that has expired."""
        row = {"key": key, "created": now, "expires": expires, "run": output.run, "path": storable(output.path)}
        with self._database.write() as connection:
            connection.execute(_EXPIRED, {"now": now})
            connection.execute(_OF_KEY, {"of": key})
            connection.execute(outputs.insert(), {**row, "result": storable(output.result)})
