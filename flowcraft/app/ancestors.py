"""What a fork knows of the run that it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flowcraft.engine import AttemptRow, Before, Fork, RunRow, RunStore, SegmentStart, is_judge
from flowcraft.engine.pieces.reuse import around, source_of, taken_from
from flowcraft.errors import StoreError
from flowcraft.events import AnswerChosen

KEPT_AS = "fork"
"""Where in its snapshot a fork keeps what it is a fork of."""


def source(store: RunStore, row: RunRow) -> RunRow | None:
    """Return the run that ``row`` is a fork of, None where it is none; raise StoreError where that run is gone."""
    told = row.snapshot.get(KEPT_AS)
    if not told:
        return None
    found = store.get(told["run"])
    if found is None or found.id != told["run"]:
        raise StoreError(
            f"run {row.id} is a fork of run {told['run']}, which is not in the database any more: what it has not taken over "
            "yet cannot be found; bring that run back, or start a new one with 'flowcraft run'"
        )
    return found


def known_before(store: RunStore, start: SegmentStart) -> tuple[Fork | None, Before | None]:
    """Return what a fork finds in the run that it was made of; nothing for a run that is none."""
    row = source(store, start.run)
    if row is None:
        return None, None
    told = start.run.snapshot[KEPT_AS]
    pieces = store.pieces(row.id)
    before = Before(
        run=row.id,
        answered=_answered(store, row.id),
        skipped=frozenset(piece.path for piece in pieces if piece.state == "skipped"),
        given=told["set"],
        anew=told["from"],
        same_inputs=bool(told["same_inputs"]),
    )
    return Fork(row.id, pieces, start.pieces.values(), told["from"]), before


def borrowed(store: RunStore, run: str) -> Iterator[AttemptRow]:
    """Yield the attempts that other runs made for what a fork took over, however many forks lie in between."""
    row = store.get(run)
    waiting: list[tuple[str, set[str] | None]] = [(run, None)] if row is not None and row.snapshot.get(KEPT_AS) else []
    while waiting:
        fork, wanted = waiting.pop()
        found: dict[str, set[str]] = {}
        for piece in store.pieces(fork):
            if piece.origin.startswith("fork:") and (wanted is None or piece.path in wanted):
                found.setdefault(taken_from(piece.origin), set()).add(source_of(piece.origin, piece.path))
        for other, paths in found.items():
            yield from (one for one in store.attempts(other) if not paths.isdisjoint(around(one.path)))
            waiting.append((other, paths))


def _answered(store: RunStore, run: str) -> dict[str, tuple[str, str]]:
    """Return the model and provider whose answer counted, by the path of what was asked."""
    found: dict[str, tuple[str, str]] = {}
    for row in store.attempts(run):
        if row.attempt.outcome == "ok" and not is_judge(row.path):
            found[_asked_at(row.path)] = (row.attempt.model, row.attempt.provider)
    for event in store.events(run):
        if event.kind == AnswerChosen.kind:
            told = json.loads(event.data)
            found[told["path"]] = (told["model"], told["provider"])
    return found


def _asked_at(path: str) -> str:
    group, slash, last = path.rpartition("/")
    return group + slash + last.partition("~")[0]
