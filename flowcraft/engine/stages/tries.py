"""``until``: the body is tried again until the condition holds, at most ``max`` times; each try is a piece."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from flowcraft.engine.context import LeavesValue
from flowcraft.engine.pieces.book import Kept
from flowcraft.engine.pieces.reuse import Wanted
from flowcraft.engine.pieces.values import digest
from flowcraft.engine.ports import Case, Piece, Quality
from flowcraft.engine.stages.goes import Goes, Unit
from flowcraft.engine.stages.ground import JUDGE_PART
from flowcraft.engine.stages.job import Stopped
from flowcraft.engine.stages.rendering import Latest, most_tries
from flowcraft.errors import StageFailed
from flowcraft.events import TryFinished
from flowcraft.plugin.chat import Scope as Place
from flowcraft.workflow.expressions.expression import ExpressionError, as_json
from flowcraft.workflow.expressions.template import inserted
from flowcraft.workflow.schema import Crew, Prompt, Stage

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
        best: tuple[float, int, Latest] | None = None
        for number in range(1, before + most + 1):
            path = f"{unit.path}#{number}"
            names = self._names(scope, number, latest)
            asked, kept = await self._try(path, names, latest, deadline)
            verdict = await self._judged(path, asked, {**names, self.stage.name: kept.value}, kept, deadline)
            latest = Latest(value=kept.value, judge=verdict)
            tried.count, tried.judge = number, verdict
            passed = self._passed(path, self._names(scope, number, latest))
            score = verdict["score"] if verdict is not None else None
            self._tell(path, (number, before + most), passed, score)
            if passed:
                return kept
            best = max(best or (-1.0, 0, latest), (score or 0.0, number, latest), key=lambda one: one[:2])
            if self.goes.frame.stopping:
                raise Stopped
        assert best is not None
        tried.judge = best[2].judge
        message = f"'until' did not hold in {before + most} tries, the most that 'max' allows: {self._condition}"
        raise Exhausted(message, best[2].value, best=best[1], tries=before + most)

    def recorded(self, path: str, best: int | None) -> Tried:
        """Return what is told of tries that are recorded; ``best`` is the one that counts, if not the last."""
        count = 0
        while (piece := self.book.known(f"{path}#{count + 1}")) is not None and piece.state == "done":
            count += 1
        judged = self.book.known(f"{path}#{best or count}/{JUDGE_PART}")
        return Tried(count=max(count, 1), judge=json.loads(judged.result) if judged is not None else None)

    @property
    def _condition(self) -> str:
        return " ".join(self.stage.until.text.split()) if self.stage.until is not None else ""

    def _names(self, scope: Scope, number: int, latest: Latest | None) -> Scope:
        names = {**scope, self.stage.name: latest.value if latest is not None else None, "iteration": number}
        if self.stage.judge is not None:
            names["judge"] = latest.judge if latest is not None else None
        return names

    async def _try(self, path: str, names: Scope, latest: Latest | None, deadline: float | None) -> tuple[Unit, Kept]:
        """Return what was asked in a try, and what is recorded of it; where nothing is, carry it out and record it."""
        unit = self.goes.unit(path, names, latest)
        piece = self.book.known(path) if self.goes.container else await self.book.recorded(unit.wanted)
        if piece is not None:
            self.book.check(piece, unit.wanted)
            if piece.state == "done":
                return unit, Kept(piece.result, json.loads(piece.result))
            if piece.state == "failed" and self.stage.on_error == "continue":
                raise _failure(piece, self.book.run)  # what the stage goes on in spite of is not done again
        if not self.goes.container:
            await self.goes.ground.may_start()
        begun = time.monotonic()
        kept = await self.goes.finish(unit, piece, deadline)
        origin = self.goes.ground.origin(path) if self.goes.container else ""
        await self.book.done(self.goes.told_of(unit), kept, seconds=time.monotonic() - begun, origin=origin)
        return unit, kept

    async def _judged(
        self, path: str, asked: Unit, names: Scope, kept: Kept, deadline: float | None
    ) -> Mapping[str, Any] | None:
        """Return what the judge says of a try, which is a piece of its own; None where the stage has no judge."""
        judge, ground, default = self.stage.judge, self.goes.ground, self.goes.frame.workflow.default_model
        if judge is None:
            return None
        path = f"{path}/{JUDGE_PART}"
        try:
            rubric = judge.rubric.text(names)
        except ExpressionError as error:
            raise StageFailed(f"judge: {error}", run=self.book.run, stage=path) from None
        what = digest(path.rpartition("#")[2], rubric, judge.model)
        scope = Place(run=self.book.run, path=path, stage=self.stage.name, deadline=deadline, budget=ground.budget)
        case = Case(question=question_of(self.stage, asked), answer=inserted(kept.value), rubric=rubric, scope=scope)
        chain = ground.written(judge.model or asked.rendered.model, self.stage.name, default, Quality())
        # A run knows which try its judge was asked about; another run takes the word over only of the very same.
        judged = digest(asked.wanted.what, asked.wanted.code, case.question, case.answer, chain)
        wanted = Wanted(path=path, what=what, code=judged, asks={"rubric": rubric, "model": judge.model, "chain": chain})
        known = await self.book.recorded(wanted)
        if known is not None:
            return cast("Mapping[str, Any]", json.loads(known.result))
        await ground.may_start()
        begun = time.monotonic()
        score, reason = await ground.job.models.score(judge.model, (asked.rendered.model, self.stage.name, default), case)
        said = self.book.kept(path, {"score": score, "reasons": [reason]})
        return cast("Mapping[str, Any]", await self.book.done(wanted, said, seconds=time.monotonic() - begun))

    def _passed(self, path: str, names: Scope) -> bool:
        assert self.stage.until is not None
        try:
            return bool(self.stage.until.evaluate(names))
        except ExpressionError as error:
            raise StageFailed(f"until: {error}", run=self.book.run, stage=path) from None

    def _tell(self, path: str, counts: tuple[int, int], passed: bool, score: float | None) -> None:
        number, most = counts
        stage = self.goes.path
        self.goes.ground.emit(TryFinished, stage=stage, path=path, number=number, most=most, passed=passed, score=score)


def _failure(piece: Piece, run: str) -> StageFailed:
    """Return the failure that a piece records."""
    told = json.loads(piece.result)
    message = str(told["error"])
    failure = LeavesValue(message, told["value"]) if "value" in told else StageFailed(message)
    failure.run, failure.stage = run, piece.path
    return failure


def question_of(stage: Stage, asked: Unit) -> str:
    """Return what a try was asked, as its judge is shown it."""
    options, arguments = asked.rendered.options, asked.arguments
    if isinstance(stage.body, Crew):
        return "\n\n".join(task.description for task in options.tasks)
    if isinstance(stage.body, Prompt):
        return "\n\n".join(text for text in (options.system, options.prompt) if text)
    given = f" with {as_json(arguments)}" if arguments else ""
    return f"The stage '{stage.name}' of a workflow was carried out{given}."
