"""How a run ended, as its caller is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft.app.ancestors import borrowed
from flowcraft.engine import FINALLY, Approval, AttemptRow, RunRow, Spent, StageReport, StateChange, is_judge, stage_of
from flowcraft.engine.ports import RunStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended. ``usd`` is None where no price is known; ``offline`` says that the built-in model answered.

    ``instead`` says that it answered although a real model was in the chain. ``stages`` holds, by name, state, error,
    errors, tries, model, tokens, usd, seconds and origin (``fork:RUN``, ``cache`` or ``set``: it was not carried out here).
    ``waits`` is what people are asked.
    """

    run: str
    state: str
    outputs: Any = None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    offline: bool = False
    instead: bool = False
    error: str = ""
    waits: Sequence[Approval] = ()

    @property
    def done(self) -> bool:
        """Whether the run reached its end."""
        return self.state == "done"


def result_of(store: RunStore, run: str, change: StateChange, reports: Mapping[str, StageReport]) -> RunResult:
    """Return how a run ended, with what the database knows of its cost."""
    bill = _Bill(store.attempts(run))
    taken = _Bill(borrowed(store, run))  # spent there, and counted there alone
    totals = store.totals([run]).get(run)
    return RunResult(
        run=run,
        state=change.state,
        outputs=change.outputs,
        stages={name: {**_told(report), **bill.of(name, report.chosen)} for name, report in reports.items()},
        seconds=change.seconds,
        calls=totals.calls if totals else 0,
        tokens=totals.tokens if totals else 0,
        usd=totals.usd if totals else None,
        offline=bill.offline or taken.offline or change.offline,
        instead=bill.instead or taken.instead,
        error=change.error,
        waits=store.approvals(run, state="open") if change.state == "waiting" else (),
    )


def standing(store: RunStore, row: RunRow) -> RunResult:
    """Return how a run stands that is carried out elsewhere, or was."""
    change = StateChange(state=row.state, outputs=row.outputs, error=row.error, seconds=row.seconds, offline=row.offline)
    return result_of(store, row.id, change, {})


def _told(report: StageReport) -> dict[str, Any]:
    return {**report.data(), "seconds": round(report.seconds, 3), "origin": report.origin or None}


def _stage_of(path: str) -> str:
    """Return the stage of the file that a path belongs to, by its name; those that run last as ``finally/NAME``."""
    first, _, rest = path.partition("/")
    name = stage_of(first)
    return f"{name}/{stage_of(rest.partition('/')[0])}" if name == FINALLY else name


class _Bill:
    """What the stages of a run spent, and whether the offline model answered for a real one."""

    def __init__(self, attempts: Iterable[AttemptRow]) -> None:
        self._stages: dict[str, Spent] = {}
        offline, real = set(), set()
        for row in attempts:
            name = _stage_of(row.path)
            self._stages.setdefault(name, Spent()).add(row.attempt, answers=not is_judge(row.path))
            if not row.attempt.offline:
                real.add(row.path)
            elif row.attempt.outcome == "ok":
                offline.add(row.path)
        self.offline = bool(offline)
        self.instead = bool(offline & real)

    def of(self, stage: str, chosen: str | None) -> dict[str, Any]:
        told = (self._stages.get(stage) or Spent()).data()
        return {**told, "model": chosen or told["model"]}
