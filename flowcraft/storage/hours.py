"""Older calls folded into hours: sums and histograms in place of rows, so that the table of calls stays small.

A histogram counts seconds in buckets that grow by a constant factor (as DDSketch does: C. Masson, J. Rim and H. Lee, PVLDB
12, 2019): whatever it tells lies within ``ERROR`` of what was counted, and two of them add up without loss.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select

from flowcraft.llm.knowledge.statistics import WINDOW
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, integer, json_object, optional, real, text, to_json
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import call_hours, calls

ERROR = 0.05
"""How far a time from a histogram may be from the real one, as a share of it."""
AT_ONCE = 2000
"""Rows that are folded in one transaction at most: tens of milliseconds, while other processes wait to write."""

_GROWTH = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH = math.log(_GROWTH)
_LEAST, _MOST = 1e-6, 1e9
"""Seconds are counted as at least and at most these: their logarithm has to exist."""
_MOST_COUNT = 2**53
_LAST_HOUR = 2**31

_KEY = ("model", "provider", "hour", "stage", "task", "outcome")
_TOKENS = ("input", "cached", "cache_write", "output", "reasoning", "audio")
_ROW = Reader(
    "calls",
    {
        "number": integer,
        **dict.fromkeys(("model", "provider"), text),
        "started": real,
        **dict.fromkeys(("stage", "task", "outcome"), text),
        "seconds": real,
        "first_token": optional(real),
        "usd": optional(real),
        **dict.fromkeys(_TOKENS, integer),
    },
)


def histogram(value: Any) -> Counter[int]:
    """Take a JSON text that says how many were in each bucket."""
    told = json_object(value)
    try:
        found = Counter({int(bucket): integer(count) for bucket, count in told.items()})
        sound = all(_bucket(_LEAST) <= bucket <= _bucket(_MOST) for bucket in found)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("a histogram was expected")
    return found


_SUMS: Mapping[str, Callable[[Any], Any]] = {
    "calls": integer,
    **dict.fromkeys(("seconds", "last"), real),
    **dict.fromkeys(_TOKENS, integer),
    "usd": optional(real),
    **dict.fromkeys(("times", "first_tokens"), histogram),
}
_READ = Reader("call_hours", _SUMS)


@dataclass(slots=True)
class Hour:
    """What the calls of one hour came to that have a model, a stage, a task and an outcome in common.

    ``last`` is the seconds of the last one; ``times`` and ``first_tokens`` count seconds by their bucket.
    """

    calls: int = 0
    seconds: float = 0.0
    last: float = 0.0
    tokens: Counter[str] = field(default_factory=Counter)
    usd: float | None = None
    times: Counter[int] = field(default_factory=Counter)
    first_tokens: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, found: dict[str, Any]) -> Hour:
        """Return the hour of a checked row."""
        return cls(tokens=Counter({name: found.pop(name) for name in _TOKENS}), **found)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take in calls, the last one last: of each the seconds, those to the first token, USD and tokens."""
        seconds, first_tokens, usd, *tokens = zip(*rows, strict=True)
        self.calls += len(seconds)
        self.seconds += sum(seconds)
        self.last = seconds[-1]
        self.times.update(map(_bucket, seconds))
        self.first_tokens.update(_bucket(value) for value in first_tokens if value is not None)
        if spent := [value for value in usd if value is not None]:
            self.usd = (self.usd or 0.0) + sum(spent)
        for name, counts in zip(_TOKENS, tokens, strict=True):
            self.tokens[name] += sum(counts)

    def values(self) -> tuple[Any, ...]:
        """Return the values of its columns, in the order of ``_SUMS``."""
        tokens = (min(self.tokens[name], _MOST_COUNT) for name in _TOKENS)
        return (self.calls, self.seconds, self.last, *tokens, self.usd, to_json(self.times), to_json(self.first_tokens))


def seconds_of(counted: Mapping[int, int]) -> Iterable[tuple[float, int]]:
    """Return the seconds that the buckets of a histogram stand for, and how many there were."""
    return ((2 * _GROWTH**bucket / (_GROWTH + 1), count) for bucket, count in counted.items())


def _bucket(seconds: float) -> int:
    return math.ceil(math.log(min(_MOST, max(_LEAST, seconds))) / _LOG_GROWTH)


class _Compiled:
    """The statements, as the driver takes them."""

    def __init__(self, database: Database) -> None:
        of_model = (calls.c.model == bindparam("of"), calls.c.provider == bindparam("at"))
        of_hour = tuple(call_hours.c[name] == bindparam(f"the_{name}") for name in _KEY)
        older = calls.c.number <= bindparam("upto")
        numbers = select(calls.c.number).where(*of_model).order_by(calls.c.number.desc())
        rows = select(*(calls.c[name] for name in _ROW.columns)).where(*of_model, older).order_by(calls.c.number)
        models = select(calls.c.model, calls.c.provider).group_by(calls.c.model, calls.c.provider)
        statements = {
            "crowded": models.having(func.count() > bindparam("crowded")),
            "upto": numbers.offset(bindparam("kept")).limit(1),
            "older": rows.limit(bindparam("most")),
            "forget": delete(calls).where(*of_model, older),
            "hour": select(*(call_hours.c[name] for name in _SUMS)).where(*of_hour),
            "replaced": delete(call_hours).where(*of_hour),
        }
        dialect = database.engine.dialect
        self._statements = {name: Statement(statement, dialect) for name, statement in statements.items()}
        self.put = Statement(insert(call_hours), dialect, (*_KEY, *_SUMS)).text

    def run(self, cursor: Any, name: str, **values: Any) -> Any:
        statement = self._statements[name]
        return cursor.execute(statement.text, statement.bind(values))


class Hours:
    """Folds the older calls of each model that has twice as many rows as are ``kept``: seldom, and many at a time.

    Two processes never fold the same row: each writes alone.
    """

    def __init__(self, database: Database, *, kept: int = WINDOW) -> None:
        self._database = database
        self._kept = kept

    def fold(self, most: int = AT_ONCE) -> int:
        """Fold at most so many rows, in one transaction, and return how many. Raises StoreError."""
        folded = 0
        with self._database.transaction() as cursor:
            for model, provider in self._compiled.run(cursor, "crowded", crowded=2 * self._kept).fetchall():
                if folded < most:
                    folded += self._fold_model(cursor, model, provider, most - folded)
        return folded

    @cached_property
    def _compiled(self) -> _Compiled:
        return _Compiled(self._database)

    def _fold_model(self, cursor: Any, model: Any, provider: Any, most: int) -> int:
        sql, whose = self._compiled, {"of": model, "at": provider}
        (upto,) = sql.run(cursor, "upto", **whose, kept=self._kept).fetchone()
        rows = sql.run(cursor, "older", **whose, upto=upto, most=most).fetchall()
        by_hour: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
        for row in rows:
            _ROW.check(row, row[0])
            by_hour[*row[1:3], _hour(row[3]), *row[4:7]].append(row[7:])
        for key, of_hour in by_hour.items():
            hour = self._known(cursor, key)
            hour.add(of_hour)
            sql.run(cursor, "replaced", **_named(key))
            cursor.execute(sql.put, (*key, *hour.values()))
        sql.run(cursor, "forget", **whose, upto=rows[-1][0])
        return len(rows)

    def _known(self, cursor: Any, key: Sequence[Any]) -> Hour:
        found = self._compiled.run(cursor, "hour", **_named(key)).fetchone()
        return Hour() if found is None else Hour.of(_READ(found, f"of {key!r}"))


def _hour(started: float) -> int:
    return int(min(max(started / 3600, 0.0), _LAST_HOUR))


def _named(key: Sequence[Any]) -> dict[str, Any]:
    return {f"the_{name}": value for name, value in zip(_KEY, key, strict=True)}
