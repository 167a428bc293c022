"""What is kept of the earlier runs of a workflow, as a forecast reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from flowcraft.engine.forecasts.past import History, PastCall, PastPiece, history
from flowcraft.engine.forecasts.ranges import Range
from flowcraft.storage.database import Database
from flowcraft.storage.rows import Reader, integer, optional, real, text
from flowcraft.storage.tables import attempts, calls, pieces, runs

LOOKED_AT = 30
"""The latest runs of a workflow that a forecast rests on."""

_RUNS = (
    select(runs.c.id)
    .where(
        runs.c.workflow == bindparam("workflow"),
        runs.c.file == bindparam("file"),
        runs.c.state == "done",
        runs.c.offline == bindparam("offline"),
    )
    .order_by(runs.c.created.desc(), runs.c.id.desc())
    .limit(LOOKED_AT)
)
_PIECE = Reader("pieces", {**dict.fromkeys(("run", "path", "state"), text), "seconds": real})
_PIECES = select(*(pieces.c[name] for name in _PIECE.columns)).where(
    pieces.c.run.in_(bindparam("runs", expanding=True)), pieces.c.origin == ""
)
_CALL = Reader(
    "attempts",
    {
        **dict.fromkeys(("run", "path"), text),
        "seconds": real,
        **dict.fromkeys(("input", "output"), integer),
        "usd": optional(real),
    },
)
_CALLS = select(*(attempts.c[name] for name in _CALL.columns)).where(
    attempts.c.run.in_(bindparam("runs", expanding=True)), attempts.c.outcome != "skipped"
)

LAST_CALLS = 5_000
"""The latest calls of all models that are looked at."""

_LAST = Reader("calls", {**dict.fromkeys(("model", "provider"), text), "output": integer, "seconds": real})
_LATEST = (
    select(*(calls.c[name] for name in _LAST.columns))
    .where(calls.c.outcome == "ok")
    .order_by(calls.c.number.desc())
    .limit(LAST_CALLS)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What a call of a model usually takes: tokens of output, and seconds."""

    output: Range
    seconds: Range


class SqlForecasts:
    """Reads what forecasts rest on from a SQL database; writes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def history(self, workflow: str, file: str, *, offline: bool = False) -> History:
        """Return what the latest runs of a workflow that are done tell: those answered ``offline``, or the others."""
        with self._database.read() as connection:
            given = {"workflow": workflow, "file": file, "offline": int(offline)}
            found = list(connection.execute(_RUNS, given).scalars())
            if not found:
                return History()
            done = [PastPiece(**_PIECE(row, row[0])) for row in connection.execute(_PIECES, {"runs": found})]
            calls = [PastCall(**_CALL(row, row[0])) for row in connection.execute(_CALLS, {"runs": found})]
        return history(found, done, calls)

    def models(self) -> Mapping[str, Usual]:
        """Return what the latest calls of each model took, by its id."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(_LATEST):
                told = _LAST(row, row[0])
                found[f"{told['provider']}:{told['model']}"].append((float(told["output"]), told["seconds"]))
        return {
            model: Usual(output=_usual([one[0] for one in took]), seconds=_usual([one[1] for one in took]))
            for model, took in found.items()
        }


def _usual(values: Sequence[float]) -> Range:
    """Return where nine of ten values lie, and the one in the middle."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Range(low=at(0.05), likely=at(0.5), high=at(0.95))
