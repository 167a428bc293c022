"""``until``: the body is tried again until the condition holds, at most ``max`` times; each try is a piece."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft.engine.context import LeavesValue
from flowcraft.engine.goes import Goes, Unit
from flowcraft.engine.job import Stopped
from flowcraft.engine.pieces import Kept
from flowcraft.engine.ports import Piece
from flowcraft.engine.rendering import Latest, most_tries
from flowcraft.engine.values import json_text
from flowcraft.errors import StageFailed
from flowcraft.events import TryFinished
from flowcraft.workflow.expressions import ExpressionError

Scope = Mapping[str, Any]


class Exhausted(LeavesValue):
    """No try passed. ``best`` is the try whose value is left, ``tries`` how many there were."""

    def __init__(self, message: str, value: Any, *, best: int, tries: int) -> None:
        super().__init__(message, value)
        self.best = best
        self.tries = tries


@dataclass(slots=True, kw_only=True)
class Tried:
    """What is told of an element's tries: how many there were, and the judge's word on the one that counts."""

    count: int = 1
    judge: Any = None


class Tries:
    """Carries the tries of one stage out."""

    def __init__(self, goes: Goes) -> None:
        self.goes = goes
        self.stage = goes.stage
        self.book = goes.book

    def first(self, scope: Scope) -> Scope:
        """Return the names that the first try sees; without ``until``, the names as they are."""
        return scope if self.stage.until is None else self._names(scope, 1, None)

    async def carry(self, unit: Unit, piece: Piece | None, scope: Scope, tried: Tried, deadline: float | None) -> Kept:
        """Return the first try that passes; raise Exhausted where none does."""
        # Like goes: a stage whose tries were used up gets as many again when its run is resumed.
        before = json.loads(piece.result).get("tries", 0) if piece is not None and piece.state == "failed" else 0
        try:
            most = most_tries(self.stage, scope)
        except ExpressionError as error:
            raise StageFailed(str(error), run=self.book.run, stage=unit.path) from None
        latest: Latest | None = None
        best: tuple[float, int, Any] | None = None
        for number in range(1, before + most + 1):
            path = f"{unit.path}#{number}"
            kept = await self._try(path, self._names(scope, number, latest), latest, deadline)
            latest = Latest(value=kept.value)
            tried.count = number
            passed = self._passed(path, self._names(scope, number, latest))
            self._tell(path, number, before + most, passed)
            if passed:
                return kept
            best = max(best or (0.0, 0, None), (0.0, number, kept.value), key=lambda one: one[:2])
            if self.goes.frame.stopping:
                raise Stopped
        assert best is not None
        message = f"'until' did not hold in {before + most} tries, the most that 'max' allows: {self._condition}"
        raise Exhausted(message, best[2], best=best[1], tries=before + most)

    def recorded(self, path: str, best: int | None) -> Tried:
        """Return what is told of tries that are recorded; ``best`` is the one that counts, if not the last."""
        count = 0
        while (piece := self.book.known(f"{path}#{count + 1}")) is not None and piece.state == "done":
            count += 1
        return Tried(count=max(count, 1))

    @property
    def _condition(self) -> str:
        return " ".join(self.stage.until.text.split()) if self.stage.until is not None else ""

    def _names(self, scope: Scope, number: int, latest: Latest | None) -> Scope:
        value = latest.value if latest is not None else None
        return {**scope, self.stage.name: value, "iteration": number}

    async def _try(self, path: str, names: Scope, latest: Latest | None, deadline: float | None) -> Kept:
        """Return what is recorded of a try, or carry it out and record it."""
        unit = self.goes.unit(path, names, latest)
        piece = self.book.known(path)
        if piece is not None:
            self.book.check(piece, unit.what)
            if piece.state == "done":
                return Kept(piece.result, json.loads(piece.result))
        await self.goes.ground.may_start()
        begun = time.monotonic()
        kept = await self.goes.finish(unit, piece, deadline)
        await self.book.record(path, unit.what, kept, code=unit.code, seconds=time.monotonic() - begun)
        return kept

    def _passed(self, path: str, names: Scope) -> bool:
        assert self.stage.until is not None
        try:
            return bool(self.stage.until.evaluate(names))
        except ExpressionError as error:
            raise StageFailed(f"until: {error}", run=self.book.run, stage=path) from None

    def _tell(self, path: str, number: int, most: int, passed: bool) -> None:
        self.goes.ground.emit(TryFinished, stage=self.goes.path, path=path, number=number, most=most, passed=passed)


def compact(value: Any) -> str:
    """Return a value as text: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json_text(value)
