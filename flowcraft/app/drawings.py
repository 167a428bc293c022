"""Drawings of workflow files and of runs: what pieces, events and attempts tell of a run is laid over its workflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flowcraft.drawing import Drawing, RunTold, Told, draw
from flowcraft.drawing.drawing import State
from flowcraft.engine import AttemptRow, EventRow, Piece, RunRow, RunStore, is_judge
from flowcraft.errors import StoreError
from flowcraft.plugin.stages import StageBody
from flowcraft.workflow import Workflow, load_workflow

_PLACES = re.compile(r"\[\d+\]|[#~]\d+")
_ELEMENT = re.compile(r"\[\d+\]$")
_ENDS_OF_WAITING = ("approval.answered", "approval.timed_out", "approval.withdrawn")


def draw_run(store: RunStore, row: RunRow, bodies: Mapping[str, type[StageBody]], *, deep: bool = False) -> Drawing:
    """Return the drawing of the workflow that a run started with, with what became of it so far.

    Raises StoreError where the run has no workflow that can be read here.
    """
    pieces, events, attempts = store.pieces(row.id), store.events(row.id), store.attempts(row.id)
    stages = stages_told(row.state, pieces, events, attempts)
    whole = Told()
    for attempt in attempts:
        whole = _with_attempt(whole, attempt)
    run = RunTold(
        id=row.id,
        state=row.state,
        seconds=row.seconds,
        calls=whole.calls,
        tokens=whole.tokens,
        usd=whole.usd,
        error=row.error,
    )
    return draw(_started_with(row, bodies), deep=deep, told=stages, run=run)


def _started_with(row: RunRow, bodies: Mapping[str, type[StageBody]]) -> Workflow:
    snapshot = row.snapshot
    if not isinstance(snapshot.get("files"), Mapping) or "file" not in snapshot:
        raise StoreError(f"run {row.id} was kept in another form ({snapshot.get('v')!r}); it cannot be drawn")
    return load_workflow(snapshot["file"], files=snapshot["files"], bodies=bodies)


def box_of(path: str) -> str:
    """Return the id of the box that a path of a run belongs to: without elements, tries and goes."""
    return _PLACES.sub("", path)


def stages_told(
    run: str, pieces: Sequence[Piece], events: Iterable[EventRow], attempts: Iterable[AttemptRow]
) -> Mapping[str, Told]:
    """Return what became of stages, by the ids of their boxes; ``run`` is the state of the run."""
    stages: dict[str, _Stage] = {}
    for event in events:
        data = json.loads(event.data)
        where = str(data.get("path") or event.stage)
        if where:
            stages.setdefault(box_of(where), _Stage()).take(event.kind, data)
    for piece in pieces:
        stages.setdefault(box_of(piece.path), _Stage()).take_piece(piece)
    found = {name: stage.told(run) for name, stage in stages.items() if stage.known}
    for name in _holding_a_gate(stages):
        if name in found and found[name].state in ("running", "stopped"):
            found[name] = _with_state(found[name], "waiting")
    for attempt in attempts:
        parts = box_of(attempt.path).split("/")
        for count in range(1, len(parts) + 1):
            name = "/".join(parts[:count])
            if name in found:
                found[name] = _with_attempt(found[name], attempt)
    return found


def _holding_a_gate(stages: Mapping[str, _Stage]) -> Iterable[str]:
    """Yield the groups around gates that wait."""
    for name, stage in stages.items():
        around = name
        while stage.asking and "/" in around:
            around = around.rpartition("/")[0]
            yield around


def _with_state(told: Told, state: State) -> Told:
    return replace(told, state=state)


def _with_attempt(told: Told, row: AttemptRow) -> Told:
    """Return what is told with one attempt more; a skip costs nothing, a judge is not who answered."""
    attempt = row.attempt
    if attempt.outcome == "skipped":
        return told
    answered = attempt.outcome == "ok" and not is_judge(row.path)
    return replace(
        told,
        calls=told.calls + 1,
        tokens=told.tokens + attempt.usage.total,
        usd=told.usd if attempt.usd is None else round((told.usd or 0.0) + attempt.usd, 12),
        model=attempt.model if answered else told.model,
    )


@dataclass(slots=True)
class _Stage:
    """What became of one stage, at all the paths that it has in a run: elements, tries, goes of those around."""

    open: dict[str, None] = field(default_factory=dict)
    asking: dict[str, None] = field(default_factory=dict)
    ended: dict[str, tuple[State, str, int]] = field(default_factory=dict)
    last: tuple[State, str] | None = None
    seconds: float = 0.0
    tries: int = 0
    elements: dict[str, int] = field(default_factory=dict)
    done: int = 0
    origins: int = 0
    kept: list[State] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether anything became of it yet."""
        return bool(self.open or self.asking or self.ended or self.kept)

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take an event in."""
        path = str(data.get("path") or data.get("stage"))
        if kind == "stage.started":
            self.open[path] = None
            if data.get("elements") is not None:
                self.elements[path] = int(data["elements"])
        elif kind == "stage.finished":
            self.open.pop(path, None)
            self.asking.pop(path, None)
            self.ended[path] = (data["state"], data.get("reason", ""), int(data.get("errors") or 0))
            self.last = (data["state"], data.get("reason", ""))
            self.seconds += float(data.get("seconds") or 0.0)
        elif kind == "try.finished":
            self.tries = max(self.tries, int(data["number"]))
        elif kind == "approval.asked":
            self.asking[path] = None
        elif kind in _ENDS_OF_WAITING:
            self.asking.pop(path, None)

    def take_piece(self, piece: Piece) -> None:
        """Take a finished bit of work in."""
        self.kept.append(piece.state)
        self.done += bool(_ELEMENT.search(piece.path))
        self.origins += bool(piece.origin)

    def told(self, run: str) -> Told:
        """Return what is told of it; ``run`` is the state of the run."""
        state, reason = self._state(run)
        failed = sum(end[0] == "failed" for end in self.ended.values()) if state != "failed" else 0
        return Told(
            state=state,
            reason=reason,
            seconds=self.seconds if self.ended else None,
            tries=self.tries,
            elements=sum(self.elements.values()) if self.elements else None,
            done=self.done,
            errors=failed + sum(end[2] for end in self.ended.values()),
        )

    def _state(self, run: str) -> tuple[State, str]:
        if self.asking and run in ("running", "waiting"):
            return "waiting", "somebody must answer"
        if self.open:
            return ("running" if run == "running" else "stopped"), ""
        if self.origins and self.origins == len(self.kept):
            return "reused", ""
        if self.last is not None:
            return self.last
        worst = next((state for state in ("failed", "done", "skipped") if state in self.kept), "done")
        return worst, ""  # type: ignore[return-value]  # one of the states of pieces, which are states of boxes
