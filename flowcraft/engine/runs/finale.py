"""``finally``: the stages that run last, however a run ended; how it did is recorded before they begin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft.engine.pieces.reuse import Wanted
from flowcraft.engine.pieces.values import digest
from flowcraft.engine.ports import Piece
from flowcraft.engine.stages.ground import Ground
from flowcraft.engine.stages.job import Frame
from flowcraft.errors import BudgetExceeded, RunDiverged, StageFailed
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.words import FINALLY


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a run ended: its state, what it returns, and the error."""

    state: str
    outputs: Any = None
    error: str = ""


class Finale:
    """Carries ``finally`` out. ``number`` is the how manieth end of the run this is; ``frame`` is there once it has begun."""

    def __init__(self, ground: Ground, root: Frame, number: int) -> None:
        self.ground = ground
        self.root = root
        self.path = f"{FINALLY}[{number}]"
        self.stages = root.workflow.finally_
        self.frame: Frame | None = None

    def begun_as(self) -> str:
        """Return in which state the run had ended when ``finally`` began; empty where it has not begun."""
        piece = self.ground.book.known(self.path)
        return "" if piece is None else str(json.loads(piece.result)["state"])

    def recorded(self) -> End | None:
        """Return how the run ended, where it was stopped while ``finally`` ran and nothing but that is left to do."""
        piece = self.ground.book.known(self.path)
        if piece is None:
            return None
        told = json.loads(piece.result)
        return None if told["state"] == "done" else End(state=told["state"], error=told["error"] or "")

    async def carry(self, end: End) -> End:
        """Carry the stages out; return how the run ended with them: a done run that fails here is failed."""
        if not self.stages:
            return end
        try:
            names = await self._names(end)
            self.frame = Frame(
                stages=self.stages,
                workflow=self.root.workflow,
                inputs=self.root.inputs,
                around=names,
                prefix=f"{self.path}/",
            )
            await self.ground.walk(self.frame)
            if self.frame.failure is None:
                return end
            error = f"{FINALLY}: stage {self.frame.failure.stage}: {self.frame.failure}"
        except (BudgetExceeded, RunDiverged, ExpressionError, StageFailed) as raised:
            error = f"{FINALLY}: {self.ground.job.redactor.text(str(raised))}"
        both = f"{end.error}; {error}" if end.error else error
        return End(state="failed" if end.state == "done" else end.state, error=both)

    def _replayed(self, end: End) -> Piece | None:
        """Return how a run that is replayed ended; of what failed side by side another one may be first now."""
        job = self.ground.job
        if not job.replays or job.reuse is None or end.state == "done":
            return None
        return job.reuse.find(Wanted(path=self.path, what="", asks={"state": end.state}))

    async def _names(self, end: End) -> Mapping[str, Any]:
        """Record how the run ended with what ``finally`` may ask of it; return the names that its stages see."""
        mentioned = [name for name in self.root.stages if name in self.root.workflow.seen_last]
        scope = self.ground.names(self.root, mentioned)
        book = self.ground.book
        piece = book.known(self.path) or self._replayed(end)
        if piece is None:
            values = {name: scope[name] for name in mentioned}
            told = {"state": end.state, "error": end.error or None, "values": values, "stages": scope["run"]["stages"]}
            recorded = await book.record(self.path, digest("", {FINALLY: list(self.stages)}), book.kept(self.path, told))
        else:
            recorded = json.loads(piece.result)
        run = {**scope["run"], **{name: recorded[name] for name in ("state", "error", "stages")}}
        return {**scope, **recorded["values"], "run": run}
