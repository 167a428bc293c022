"""What differs between two runs: inputs, files, settings, outputs, and stage by stage what was asked, answered and spent."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from flowcraft.app.ancestors import KEPT_AS
from flowcraft.app.comparing.values import Change, asked_differs, changes, differ, unified
from flowcraft.app.drawings import box_of, stages_told
from flowcraft.drawing import Told
from flowcraft.engine import FINALLY, Piece, RunRow, RunStore
from flowcraft.engine.pieces.asked import left_out, told_left_out
from flowcraft.engine.pieces.reuse import SET_BY_HAND
from flowcraft.events import RunStarted

CALLED = ("before", "after")
"""What the two sides of a diff are called."""

_SEGMENT = re.compile(rf"^{FINALLY}\[\d+\]")
_KEPT = ("settings", "model", "flowcraft", "plugins")
"""What else than files a run keeps of what it started with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two runs, or one stage of it. ``seconds`` and ``usd`` are None where nobody knows them.

    ``reused`` of ``pieces`` bits of work were taken over from another run, from a cache, or set by hand.
    """

    state: str
    reason: str = ""
    seconds: float | None = None
    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    model: str = ""
    tries: int = 0
    elements: int | None = None
    errors: int = 0
    pieces: int = 0
    reused: int = 0

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedChange:
    """A piece of work that asks for something else. ``parts`` name in what; ``diff`` is that of all of them.

    ``left_out`` holds the parts that are kept shortened, with how many characters are left out: ``diff`` does not show these.
    """

    path: str
    parts: tuple[str, ...]
    diff: str
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        told = f"{self.path}: {differ(self.parts)}" if self.parts else f"{self.path}: something that is not kept differs"
        return f"{told} ({told_left_out(self.left_out)})" if self.left_out else told

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        return {"path": self.path, "parts": list(self.parts), "diff": self.diff, "left_out": dict(self.left_out)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDifference:
    """One stage in both runs; None where one of them has none of that name."""

    stage: str
    before: Side | None
    after: Side | None
    asked: tuple[AskedChange, ...] = ()
    output: tuple[Change, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything but money, tokens and time differs."""
        return bool(self.facts or self.asked or self.output)

    @property
    def facts(self) -> tuple[str, ...]:
        """What differs of how it went, by name: ``state``, ``reason``, ``model``, ``tries``, ``elements``, ``errors``."""
        one, two = self.before, self.after
        if one is None or two is None:
            return ("state",)
        taken = bool(one.reused or two.reused)
        found = []
        if _ended(one.state) != _ended(two.state):
            found.append("state")
        elif one.state in ("failed", "skipped") and one.reason != two.reason:
            found.append("reason")
        if one.model and two.model and one.model != two.model:
            found.append("model")
        if one.tries != two.tries and not taken:
            found.append("tries")
        found += [name for name in ("elements", "errors") if getattr(one, name) != getattr(two, name) and not taken]
        return tuple(found)

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        return {
            "stage": self.stage,
            "changed": self.changed,
            "differs": list(self.facts),
            **_sides(self.before, self.after),
            "asked": [change.data() for change in self.asked],
            "output": [change.data() for change in self.output],
        }


def _ended(state: str) -> str:
    """Return how a stage ended; whose work it was is another matter."""
    return "done" if state in ("reused", "cached") else state


def _sides(before: Side | None, after: Side | None) -> dict[str, Any]:
    return {name: side and side.data() for name, side in zip(CALLED, (before, after), strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDifference:
    """What differs between two runs, ``first`` and ``second`` by their ids. Paths are those of values: ``notes[3].text``.

    ``files`` holds unified diffs by the names of files, seen from the workflow's folder. ``fork`` is the id of the one that
    is a fork of the other, empty where none is.
    """

    first: str
    second: str
    workflows: tuple[str, str]
    before: Side
    after: Side
    fork: str
    inputs: tuple[Change, ...]
    settings: tuple[Change, ...]
    files: Mapping[str, str]
    outputs: tuple[Change, ...]
    stages: tuple[StageDifference, ...]

    @property
    def same(self) -> bool:
        """Whether nothing but money, tokens and time differs."""
        told = (self.inputs, self.settings, self.files, self.outputs, self.state)
        return not any(told) and not any(stage.changed for stage in self.stages)

    @property
    def state(self) -> bool:
        """Whether the runs ended otherwise."""
        return (self.before.state, self.before.reason) != (self.after.state, self.after.reason)

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        heads = zip((self.first, self.second), self.workflows, (self.before, self.after), CALLED, strict=True)
        return {
            "same": self.same,
            **{called: {"run": run, "workflow": name, **side.data()} for run, name, side, called in heads},
            "fork": self.fork or None,
            **{name: [change.data() for change in getattr(self, name)] for name in ("inputs", "settings", "outputs")},
            "files": dict(self.files),
            "stages": [stage.data() for stage in self.stages],
        }


def differences(first: tuple[RunStore, RunRow], second: tuple[RunStore, RunRow]) -> RunDifference:
    """Return what differs between two runs, each with the store that it is read from."""
    one, two = _Run(*first), _Run(*second)
    return RunDifference(
        first=one.row.id,
        second=two.row.id,
        workflows=(one.row.workflow, two.row.workflow),
        before=one.side,
        after=two.side,
        fork=_fork(one.row, two.row),
        inputs=tuple(changes(dict(one.row.inputs), dict(two.row.inputs))),
        settings=tuple(changes(one.kept, two.kept)),
        files=dict(_files(one.row, two.row)),
        outputs=tuple(changes(one.row.outputs, two.row.outputs)),
        stages=tuple(_stage(name, one, two) for name in _in_order(one, two)),
    )


def _fork(one: RunRow, two: RunRow) -> str:
    """Return which of two runs is a fork of the other."""
    for row, other in ((two, one), (one, two)):
        if (row.snapshot.get(KEPT_AS) or {}).get("run") == other.id:
            return row.id
    return ""


class _Run:
    """What is known of one of the runs."""

    def __init__(self, store: RunStore, row: RunRow) -> None:
        self.store = store
        self.row = row
        pieces, events, attempts = store.pieces(row.id), store.events(row.id), store.attempts(row.id)
        self.begun: dict[str, None] = {}
        for event in events:
            if event.kind == RunStarted.kind:
                self.begun.update(dict.fromkeys(json.loads(event.data).get("stages", ())))
            elif event.stage:
                self.begun.setdefault(box_of(event.stage))
        self.told = stages_told(row.state, pieces, events, attempts)
        self.pieces = {_SEGMENT.sub(FINALLY, piece.path): piece for piece in pieces}
        self.of_stage: dict[str, list[str]] = {name: [] for name in self.begun}
        for path in self.pieces:
            if (name := self._stage(path)) is not None:
                self.of_stage[name].append(path)
        self.side = self._whole()
        self.kept = {name: row.snapshot[name] for name in _KEPT if row.snapshot.get(name)}

    def _stage(self, path: str) -> str | None:
        """Return the innermost stage that a piece belongs to."""
        name = box_of(path)
        while name and name not in self.begun:
            name = name.rpartition("/")[0]
        return name or None

    def _whole(self) -> Side:
        row, totals = self.row, self.store.totals([self.row.id])[self.row.id]
        work = [piece for path, piece in self.pieces.items() if piece.state == "done" and self._stage(path) is not None]
        return Side(
            state=row.state,
            reason=row.error,
            seconds=row.seconds,
            calls=totals.calls,
            tokens=totals.tokens,
            usd=totals.usd,
            pieces=len(work),
            reused=sum(bool(piece.origin) for piece in work),
        )

    def side_of(self, stage: str) -> Side | None:
        """Return how a stage went; None where the run has none of that name."""
        if stage not in self.begun:
            return None
        told = self.told.get(stage) or Told()
        work = [self.pieces[path] for path in self.of_stage[stage] if self.pieces[path].state == "done"]
        taken: dict[str, Any] = {"pieces": len(work), "reused": sum(bool(piece.origin) for piece in work)}
        same = ("state", "reason", "seconds", "calls", "tokens", "usd", "model", "tries", "elements", "errors")
        return Side(**taken, **{name: getattr(told, name) for name in same})

    def holds(self, stage: str) -> bool:
        """Say whether other stages lie in a stage, whose work its own is made of."""
        return any(name.startswith(f"{stage}/") for name in self.begun)

    def results(self, stage: str) -> dict[str, Piece]:
        """Return the pieces that hold what a stage gave, without tries, goes and what they consist of."""
        found = {path: self.pieces[path] for path in self.of_stage.get(stage, ()) if box_of(path) == stage and _whole(path)}
        if not self.holds(stage):
            return found
        return {path: piece for path, piece in found.items() if piece.origin == SET_BY_HAND}

    def asked(self, path: str) -> Mapping[str, Any]:
        """Return what a piece asked for, as far as it is kept."""
        piece = self.pieces[path]
        text = self.store.asked(self.row.id, piece.path)
        asked = json.loads(text) if text else {}
        return asked if isinstance(asked, dict) else {"asked": asked}


def _whole(path: str) -> bool:
    last = path.rpartition("/")[2]
    return "#" not in last and "~" not in last


def _in_order(one: _Run, two: _Run) -> Iterable[str]:
    """Return the names of all stages, in the order of the second run's file, what runs last at the end."""
    names = list({**two.begun, **one.begun})
    outer = {name: place for place, name in enumerate(names)}
    firsts = {name: outer[name.partition("/")[0]] if name.partition("/")[0] in outer else len(names) for name in names}
    return sorted(names, key=lambda name: firsts[name])


def _stage(name: str, one: _Run, two: _Run) -> StageDifference:
    return StageDifference(
        stage=name,
        before=one.side_of(name),
        after=two.side_of(name),
        asked=tuple(_asked(name, one, two)),
        output=tuple(_output(name, one, two)),
    )


def _asked(stage: str, one: _Run, two: _Run) -> Iterator[AskedChange]:
    for path in two.of_stage.get(stage, ()):
        before, after = one.pieces.get(path), two.pieces[path]
        if before is None or (before.what, before.code) == (after.what, after.code) or not _asks(before, after):
            continue
        parts = asked_differs(one.asked(path), two.asked(path)) if before.what != after.what else {}
        diffs = [unified(old, new, part, CALLED) for part, (old, new) in parts.items()]
        names = (*parts, "code") if before.code != after.code else tuple(parts)
        if names or (_whole(path) and box_of(path) == stage and two.asked(path)):
            short = {**left_out(one.asked(path)), **left_out(two.asked(path))}
            yield AskedChange(path=path, parts=names, diff="\n".join(diffs), left_out=short)


def _asks(before: Piece, after: Piece) -> bool:
    """Say whether pieces tell what was asked: what was skipped asks for nothing."""
    return before.state != "skipped" and after.state != "skipped"


def _output(stage: str, one: _Run, two: _Run) -> Iterator[Change]:
    before, after = one.results(stage), two.results(stage)
    for path in {**after, **before}:
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            value = _value(old or new)
            known = {"before": value} if new is None else {"after": value}
            yield Change(path=path, kind="removed" if new is None else "added", **known)
        elif old.result != new.result:
            yield from changes(_value(old), _value(new), path)


def _value(piece: Piece | None) -> Any:
    """Return what a piece gave; of one that gave nothing, why."""
    assert piece is not None
    told = json.loads(piece.result)
    if piece.state == "done" or not isinstance(told, dict):
        return told
    return f"{piece.state}: {told.get('error') or told.get('reason') or ''}"


def _files(one: RunRow, two: RunRow) -> Iterator[tuple[str, str]]:
    """Yield the diffs of the files that both runs started with, the workflow's own under that of the second."""
    before, after = _named(one), _named(two)
    for name in sorted({**after, **before}, key=lambda name: (name != "", name)):
        if before.get(name) != after.get(name):
            shown = name or Path(two.file).name
            yield shown, unified(before.get(name), after.get(name), shown, CALLED)


def _named(row: RunRow) -> dict[str, str]:
    """Return the files of a run by their paths from the workflow's folder, the workflow's own as ``""``."""
    files = row.snapshot.get("files")
    if not isinstance(files, Mapping) or not files:
        return {}
    file = str(row.snapshot.get("file", ""))
    own = next((path for path in files if path == file), None) or next(
        (path for path in files if Path(path).name == Path(file).name), next(iter(files))
    )
    folder = Path(own).parent
    return {"" if path == own else os.path.relpath(path, folder): str(text) for path, text in files.items()}
