"""The records of all calls, kept across restarts, and the statistics over them."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, bindparam, func, select

from flowcraft.errors import StoreError
from flowcraft.llm.knowledge.statistics import WINDOW
from flowcraft.llm.ports import CallRecord, CallStore, ModelStatistics
from flowcraft.storage.database import Database
from flowcraft.storage.hours import AT_ONCE, Hours, histogram, seconds_of
from flowcraft.storage.rows import ATTEMPT, Reader, attempt_of, attempt_values, integer, optional, real, storable, text
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import call_hours, calls

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
_COUNTED = {**dict.fromkeys(("model", "provider", "outcome"), text), "calls": integer, "usd": optional(real)}
_TIMES = Reader(
    "calls", {"number": integer, "seconds": real, "first_token": optional(real), "output": integer, "outcome": text}
)
_WINDOW = select(*(calls.c[name] for name in _TIMES.columns)).where(*_OF_MODEL).order_by(calls.c.number.desc()).limit(WINDOW)
_HOUR = Reader(
    "call_hours",
    {
        **dict.fromkeys(("hour", "calls"), integer),
        "outcome": text,
        **dict.fromkeys(("seconds", "last"), real),
        "output": integer,
        **dict.fromkeys(("times", "first_tokens"), histogram),
    },
)
_HOURS = (
    select(*(call_hours.c[name] for name in _HOUR.columns))
    .where(call_hours.c.model == bindparam("model"), call_hours.c.provider == bindparam("provider"))
    .order_by(call_hours.c.hour.desc())
)
LOOK = WINDOW
"""New rows after which a process looks whether there are older ones to fold; the first time it does so at once."""


def _counts(table: Table, number: ColumnElement[int]) -> tuple[Table, Reader, Select[Any]]:
    by = (table.c.model, table.c.provider, table.c.outcome)
    return table, Reader(table.name, _COUNTED), select(*by, number, func.sum(table.c.usd)).group_by(*by)


_COUNTS = (_counts(calls, func.count()), _counts(call_hours, func.sum(call_hours.c.calls)))


class SqlCallStore(CallStore):
    """CallStore over a SQL database. Skipped models are no calls and are not kept.

    Of each model at least the last 1,000 calls are rows; older ones are folded into hours, in passing, as others are added.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hours = Hours(database)
        self._new = LOOK
        self._complained = False

    def add(self, records: Sequence[CallRecord]) -> None:
        """Store records in one transaction; those that are stored already are left as they are."""
        rows = [_values(record) for record in records if record.attempt.outcome != "skipped"]
        if not rows:
            return
        with self._database.transaction() as cursor:
            cursor.executemany(self._insert, rows)
        self._new += len(rows)
        if self._new >= LOOK:
            self._fold()

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

        Percentiles, the time to the first token (median) and tokens per second are those of the answers among the last
        1,000 calls. Where fewer of these are rows, they are filled up by whole hours, whose times are known within 5 %.
        """
        labels = {name: label for name, label in (("stage", stage), ("task", task)) if label is not None}
        with self._database.read() as connection:
            found = []
            for (model, provider), counted in sorted(_counted(connection, labels).items()):
                last = _last_calls(connection, {"model": model, "provider": provider}, labels)
                found.append(_statistics(model, provider, counted, last))
        return found

    @cached_property
    def _insert(self) -> str:
        insert = self._database.dialect.insert_new(calls, ("id",))
        return Statement(insert, self._database.engine.dialect, _CALL).text

    def _fold(self) -> None:
        try:
            folded = self._hours.fold()
        except StoreError as error:  # what was added is stored all the same
            if not self._complained:
                logging.getLogger("flowcraft").warning("older calls cannot be folded into hours for now: %s", error)
            self._complained = True
            folded = 0
        self._new = LOOK if folded == AT_ONCE else 0


def _counted(connection: Connection, labels: Mapping[str, str]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return how many calls came to which outcome, and their cost, by model and provider."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for table, read, counts in _COUNTS:
        for row in connection.execute(counts.where(*_bearing(table, labels))):
            counted = read(row, f"of model {row[0]!r}")
            found[counted["model"], counted["provider"]].append(counted)
    return found


def _bearing(table: Table, labels: Mapping[str, str]) -> list[ColumnElement[bool]]:
    return [table.c[name] == label for name, label in labels.items()]


@dataclass(slots=True)
class _Last:
    """The answers among a model's last calls: seconds and how many took them, their sums, and the very last one."""

    calls: int = 0
    last: float | None = None
    seconds: float = 0.0
    output: int = 0
    times: list[tuple[float, int]] = field(default_factory=list)
    first_tokens: list[tuple[float, int]] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a call; the last one comes first."""
        self._sum(row, 1, row["seconds"])
        if row["outcome"] == "ok":
            self.times.append((row["seconds"], 1))
            if row["first_token"] is not None:
                self.first_tokens.append((row["first_token"], 1))

    def add_hour(self, row: Mapping[str, Any]) -> None:
        """Take in calls of an hour."""
        self._sum(row, row["calls"], row["last"])
        if row["outcome"] == "ok":
            self.times += seconds_of(row["times"])
            self.first_tokens += seconds_of(row["first_tokens"])

    def _sum(self, row: Mapping[str, Any], number: int, last: float) -> None:
        self.calls += number
        if row["outcome"] == "ok":
            self.seconds += row["seconds"]
            self.output += row["output"]
            self.last = last if self.last is None else self.last


def _last_calls(connection: Connection, model: Mapping[str, str], labels: Mapping[str, str]) -> _Last:
    found = _Last()
    for row in connection.execute(_WINDOW.where(*_bearing(calls, labels)), model):
        found.add(_TIMES(row, row[0]))
    if found.calls < WINDOW:
        hours = connection.execute(_HOURS.where(*_bearing(call_hours, labels)), model)
        read = (_HOUR(row, f"of model {model['model']!r}") for row in hours)
        for _, of_hour in groupby(read, itemgetter("hour")):
            for hour in of_hour:
                found.add_hour(hour)
            if found.calls >= WINDOW:
                break
    return found


def _percentile(counted: Sequence[tuple[float, int]], share: float) -> float | None:
    """Return the least of the values that at least ``share`` of them do not exceed; None of none."""
    ordered = sorted(counted)
    place = -int(-share * sum(number for _, number in ordered) // 1)
    reached = accumulate(number for _, number in ordered)
    return next((value for (value, _), number in zip(ordered, reached, strict=True) if number >= place), None)


def _statistics(model: str, provider: str, counted: Sequence[Mapping[str, Any]], last: _Last) -> ModelStatistics:
    outcomes: Counter[str] = Counter()
    for row in counted:
        outcomes[row["outcome"]] += row["calls"]
    errors = {outcome: number for outcome, number in sorted(outcomes.items()) if outcome not in {"ok", "cancelled"}}
    costs = [row["usd"] for row in counted if row["usd"] is not None]
    return ModelStatistics(
        model=model,
        provider=provider,
        calls=outcomes.total(),
        successes=outcomes["ok"],
        errors=sum(errors.values()),
        errors_by_class=errors,
        last_response_time=last.last,
        p50=_percentile(last.times, 0.50),
        p95=_percentile(last.times, 0.95),
        p99=_percentile(last.times, 0.99),
        ttft=_percentile(last.first_tokens, 0.50),
        tokens_per_second=last.output / last.seconds if last.seconds else None,
        usd=sum(costs) if costs else None,
    )


def _values(record: CallRecord) -> tuple[Any, ...]:
    labels = (record.id, record.stage, record.task, record.run, record.path)
    return (*map(storable, labels), *attempt_values(record.attempt))


def _record(values: dict[str, Any]) -> CallRecord:
    del values["number"]
    return CallRecord(attempt=attempt_of(values), **values)
