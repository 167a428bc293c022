"""Where call records go: to everybody who takes them, and into a database that is opened when it is first needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flowcraft.events import Bus, CallFinished
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.ports import CallRecord, CallStore, ModelStatistics, VerdictRecord, VerdictStore

Sink = Callable[[CallRecord], None]


class Fan:
    """Hands every record on to all who take records."""

    def __init__(self, statistics: Statistics, sinks: Sequence[Sink], bus: Bus | None) -> None:
        self._statistics = statistics
        self._sinks = sinks
        self._bus = bus

    def record(self, record: CallRecord) -> None:
        """Hand ``record`` on."""
        self._statistics.record(record)
        for sink in self._sinks:
            sink(record)
        if self._bus is not None:
            self._bus.emit(
                CallFinished(run=record.run, stage=record.stage, time=time.time(), path=record.path, attempt=record.attempt)
            )


class KeptVerdicts:
    """The verdict store of the same database."""

    def __init__(self, kept: KeptStore) -> None:
        self._kept = kept

    def _opened(self) -> VerdictStore:
        from flowcraft.storage import SqlVerdictStore

        return SqlVerdictStore(self._kept.database())

    def add(self, verdicts: Sequence[VerdictRecord]) -> None:
        """Store verdicts in one transaction."""
        self._opened().add(verdicts)

    def latest(self, most: int, after: int = 0) -> tuple[int, Iterable[VerdictRecord]]:
        """Return the last ``most`` verdicts behind row ``after``."""
        return self._opened().latest(most, after)


class KeptStore:
    """The call store of a database that is opened when it is first needed, by ``opened``."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        self._open = opened
        self._lock = threading.Lock()
        self._database: Any = None
        self._stores: dict[str, Any] = {}

    def _opened(self) -> CallStore:
        found: CallStore = self.store("SqlCallStore")
        return found

    def database(self) -> Any:
        """Return the database, opened."""
        with self._lock:
            if self._database is None:
                self._database = self._open()
            return self._database

    def store(self, name: str) -> Any:
        """Return the store that ``storage`` calls ``name``, made once as long as the database is open."""
        from flowcraft import storage

        database = self.database()
        with self._lock:
            store = self._stores.get(name)
            if store is None:
                store = self._stores[name] = getattr(storage, name)(database)
            return store

    def add(self, records: Sequence[CallRecord]) -> None:
        """Store records in one transaction."""
        self._opened().add(records)

    def latest(self, per_model: int = 1000, after: int = 0) -> tuple[int, Iterable[CallRecord]]:
        """Return the last records of each model behind row ``after``."""
        return self._opened().latest(per_model, after)

    def statistics(self, stage: str | None = None, task: str | None = None) -> Sequence[ModelStatistics]:
        """Return the statistics of every model."""
        return self._opened().statistics(stage, task)

    def close(self) -> None:
        """Close the database; the next call opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
                self._stores.clear()
