"""What a replay found: where a workflow asks for something else than its recording, or gives something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft.app.comparing.values import asked_differs, differ, unified
from flowcraft.source import Position
from flowcraft.workflow import Stage, Workflow
from flowcraft.workflow.schema import Group, Uses

KINDS = ("changed", "new", "gone", "inputs", "failed", "outputs")
"""A piece of work asks for something else, is new, or is gone; an input is gone; the run fails; it gives something else."""

_KEYS = {
    "chain": "model",
    "rubric": "judge",
    "quality.rubric": "judge",
    "quality.judge": "judge",
    "quality.strategy": "strategy",
    "quality.confidence": "confidence",
    "previous": "until",
    "reasons": "judge",
    "server": "tools",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference. ``place`` is ``file:line:column``; ``diff`` is unified, from the recording to now; ``order`` sorts."""

    kind: str
    path: str
    message: str
    place: str = ""
    diff: str = ""
    order: tuple[int, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head}\n{self.diff}" if self.diff else head

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        return {name: getattr(self, name) for name in ("kind", "path", "place", "message", "diff")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stage, the workflow that it stands in, and where in the order of the files it comes."""

    workflow: Workflow
    stage: Stage
    order: tuple[int, ...]

    def told(self, key: str = "") -> str:
        """Return ``file:line:column`` of the stage, or of one of its keys where that is written."""
        position = self._position(key)
        return f"{position.file}:{position.line}:{position.column}"

    def _position(self, key: str) -> Position:
        document, stage = self.workflow.document, self.stage
        written = document.data if document is not None else None
        for part in stage.at:
            written = written.get(part) if isinstance(written, dict) else None
        if document is None or not isinstance(written, dict) or key not in written:
            return stage.position
        return document.position((*stage.at, key), key=True)


def locate(workflow: Workflow, path: str) -> Place | None:
    """Return the innermost stage that something at ``path`` belongs to; None where the file has no such stage."""
    found: Place | None = None
    around, stages = workflow, workflow.stages
    order: tuple[int, ...] = ()
    for number, part in enumerate(path.split("/")):
        name = part
        for mark in "[#~":
            name = name.partition(mark)[0]
        if not number and name == "finally":
            stages, order = workflow.finally_, (len(workflow.stages),)
            continue
        if name not in stages:
            return found if found is not None and not isinstance(found.stage.body, Group | Uses) else None
        order = (*order, list(stages).index(name), _place_in_list(part))
        found = Place(workflow=around, stage=stages[name], order=order)
        body = found.stage.body
        if isinstance(body, Group):
            stages = body.stages
        elif isinstance(body, Uses):
            around, stages = body.workflow, body.workflow.stages
        else:
            return found
    return found


def _place_in_list(part: str) -> int:
    inside = part.partition("[")[2].partition("]")[0]
    return int(inside) if inside.isdigit() else -1


def changed(path: str, place: Place | None, old: Mapping[str, Any], new: Mapping[str, Any]) -> Finding:
    """Return the finding that a piece asks for something else."""
    parts = asked_differs(old, new)
    names = list(parts)
    if not names:
        message = f"{path} asks for something else, in a part that the recording does not show"
        return Finding(kind="changed", path=path, message=message, place=place.told() if place else "", order=_order(place))
    key = _KEYS.get(names[0]) or names[0].partition(".")[0]
    return Finding(
        kind="changed",
        path=path,
        message=f"{path}: {differ(names)} from the recording",
        place=place.told(key) if place else "",
        diff="\n".join(unified(before, now, name) for name, (before, now) in parts.items()),
        order=_order(place),
    )


def _order(place: Place | None) -> tuple[int, ...]:
    return place.order if place is not None else ()
