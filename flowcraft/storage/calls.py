"""The records of all calls, kept across restarts, and the statistics over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import bindparam, func, select

from flowcraft.llm.ports import CallRecord, CallStore, ModelStatistics
from flowcraft.llm.statistics import WINDOW, percentile
from flowcraft.storage.database import Database
from flowcraft.storage.rows import ATTEMPT, Reader, attempt_of, attempt_values, integer, optional, real, storable, text
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import calls

_CALL = ("id", "stage", "task", "run", "path", *ATTEMPT)
_READ = Reader("calls", {"number": integer, **dict.fromkeys(("id", "stage", "task", "run", "path"), text), **ATTEMPT})
_COLUMNS = [calls.c[name] for name in _READ.columns]
_OF_MODEL = (calls.c.model == bindparam("model"), calls.c.provider == bindparam("provider"))
_LATEST = (
    select(*_COLUMNS)
    .where(*_OF_MODEL, calls.c.number > bindparam("after"))
    .order_by(calls.c.number.desc())
    .limit(bindparam("per_model"))
)
_MODELS = select(calls.c.model, calls.c.provider).where(calls.c.number > bindparam("after")).distinct()
_COUNTED = Reader("calls", {**dict.fromkeys(("model", "provider", "outcome"), text), "calls": integer, "usd": optional(real)})
_TIMES = Reader(
    "calls", {"number": integer, "seconds": real, "first_token": optional(real), "output": integer, "outcome": text}
)
_COUNTS = (
    select(calls.c.model, calls.c.provider, calls.c.outcome, func.count(), func.sum(calls.c.usd))
    .group_by(calls.c.model, calls.c.provider, calls.c.outcome)
    .order_by(calls.c.model, calls.c.provider, calls.c.outcome)
)
_WINDOW = select(*(calls.c[name] for name in _TIMES.columns)).where(*_OF_MODEL).order_by(calls.c.number.desc()).limit(WINDOW)


class SqlCallStore(CallStore):
    """CallStore over a SQL database. Skipped models are no calls and are not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[CallRecord]) -> None:
        """Store records in one transaction; those that are stored already are left as they are."""
        rows = [_values(record) for record in records if record.attempt.outcome != "skipped"]
        if not rows:
            return
        insert = self._database.dialect.insert_new(calls, ("id",))
        statement = Statement(insert, self._database.engine.dialect, _CALL)
        with self._database.transaction() as cursor:
            cursor.executemany(statement.text, rows)

    def latest(self, per_model: int = WINDOW, after: int = 0) -> tuple[int, Iterable[CallRecord]]:
        """Return the last records of each model behind row ``after``, oldest first, and the last row's number."""
        found: list[dict[str, Any]] = []
        with self._database.read() as connection:
            for model, provider in connection.execute(_MODELS, {"after": after}).all():
                wanted = {"model": model, "provider": provider, "after": after, "per_model": per_model}
                found += [_READ(row, row[0]) for row in connection.execute(_LATEST, wanted)]
        found.sort(key=itemgetter("number"))
        last = found[-1]["number"] if found else after
        return last, [_record(values) for values in found]

    def statistics(self, stage: str | None = None, task: str | None = None) -> Sequence[ModelStatistics]:
        """Return the statistics of every model, of the calls of one stage, one task, or both, if given.

        Percentiles, the time to the first token (median) and tokens per second are those of the answers
        among the last 1,000 calls.
        """
        meant = [column == label for column, label in ((calls.c.stage, stage), (calls.c.task, task)) if label is not None]
        with self._database.read() as connection:
            counted = [_COUNTED(row, f"of model {row[0]!r}") for row in connection.execute(_COUNTS.where(*meant))]
            found = []
            for (model, provider), rows in groupby(counted, itemgetter("model", "provider")):
                of_model = {"model": model, "provider": provider}
                latest = [_TIMES(row, row[0]) for row in connection.execute(_WINDOW.where(*meant), of_model)]
                answers = [call for call in latest if call["outcome"] == "ok"]
                found.append(_statistics(model, provider, list(rows), answers))
        return found


def _statistics(
    model: str, provider: str, counted: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]
) -> ModelStatistics:
    calls_by_outcome = {row["outcome"]: row["calls"] for row in counted}
    errors = {outcome: number for outcome, number in calls_by_outcome.items() if outcome not in {"ok", "cancelled"}}
    costs = [row["usd"] for row in counted if row["usd"] is not None]
    seconds = sorted(answer["seconds"] for answer in answers)
    firsts = sorted(answer["first_token"] for answer in answers if answer["first_token"] is not None)
    taken = sum(seconds)
    return ModelStatistics(
        model=model,
        provider=provider,
        calls=sum(calls_by_outcome.values()),
        successes=calls_by_outcome.get("ok", 0),
        errors=sum(errors.values()),
        errors_by_class=errors,
        last_response_time=answers[0]["seconds"] if answers else None,
        p50=percentile(seconds, 0.50),
        p95=percentile(seconds, 0.95),
        p99=percentile(seconds, 0.99),
        ttft=percentile(firsts, 0.50),
        tokens_per_second=sum(answer["output"] for answer in answers) / taken if taken else None,
        usd=sum(costs) if costs else None,
    )


def _values(record: CallRecord) -> tuple[Any, ...]:
    labels = (record.id, record.stage, record.task, record.run, record.path)
    return (*map(storable, labels), *attempt_values(record.attempt))


def _record(values: dict[str, Any]) -> CallRecord:
    del values["number"]
    return CallRecord(attempt=attempt_of(values), **values)
