"""What a run keeps beside its row, changed after its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from flowcraft.storage.database import Database
from flowcraft.storage.rows import json_object, to_json
from flowcraft.storage.tables import documents, runs


class SqlDocuments:
    """The part of RunStore that changes what runs keep."""

    _database: Database

    def amend(self, run: str, epoch: int, changes: Mapping[str, Any]) -> bool:
        """Put ``changes`` into a run's snapshot, if its epoch still is ``epoch``. False: it is not."""
        owned = select(documents.c.snapshot).join(runs, runs.c.id == documents.c.run)
        with self._database.write() as connection:
            found = connection.execute(owned.where(runs.c.id == run, runs.c.epoch == epoch)).scalar()
            if found is None:
                return False
            changed = to_json({**json_object(found), **changes})
            connection.execute(update(documents).where(documents.c.run == run).values(snapshot=changed))
        return True
