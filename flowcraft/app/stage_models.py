"""The models of stages: the manager, as the engine and the check ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowcraft.engine import Case, Quality
from flowcraft.llm import Chain
from flowcraft.llm.scoring import score_request
from flowcraft.manager import LLMManager, Options
from flowcraft.workflow import Prompt, Stage, Template


@dataclass(frozen=True, slots=True)
class StageModels:
    """The manager, as the engine asks it; ``override`` stands in for every model of the run."""

    manager: LLMManager
    override: str | None = None

    def _choice(self, model: str | None, stage: str, default: str | None) -> str | None:
        if self.override or model:
            return self.override or model
        return None if stage in self.manager.settings.llm.expensive_stages else default

    def llm(self, model: str | None, stage: str, default: str | None, quality: Quality) -> Chain:
        """Return the chain for a tier, alias or model; without one, what settings give this stage, then ``default``."""
        return self.manager.llm(self._choice(model, stage, default), stage=stage, **self._options(quality))

    def written(self, model: str | None, stage: str, default: str | None, quality: Quality) -> Any:
        """Return that chain as settings write it."""
        return self.manager.written(self._choice(model, stage, default), stage=stage, **self._options(quality))

    async def score(self, judge: str | None, stage: tuple[str | None, str, str | None], case: Case) -> tuple[float, str]:
        """Return how good a try is, from 0 to 1, and why; asked of the judge, else of the stage's own models."""
        named = judge or self.manager.settings.llm.judge.model
        if named is not None and named in self.manager.plugins.judges():
            named = None  # it compares two answers, and scores none
        chain = self.manager.llm(
            self._choice(named or stage[0], stage[1], stage[2]), stage=stage[1], strategy="single", cache=0
        )
        said = (await chain.chat(score_request(case.question, case.answer, case.rubric, case.scope))).parsed
        return float(said["score"]), str(said["reason"])

    def doubts(self, stage: Stage, default: str | None) -> Sequence[str]:
        """Return what of a stage's strategy its models cannot carry out, and whether its judge has nothing to do.

        Where one model stands in for all, that is meant.
        """
        if self.override or isinstance(stage.model, Template):
            return ()
        judge = stage.judge.model if stage.judge is not None else None
        tools = isinstance(stage.body, Prompt) and bool(stage.body.tools)
        quality = Quality(strategy=stage.strategy, judge=judge, confidence=stage.confidence, tools=tools)
        asked = (stage.model, stage.name, default, quality)
        written = self.written(*asked)
        if stage.judge is not None and stage.until is None and "judge" not in written:
            told = f"'judge' has nothing to choose from with strategy {written['strategy']}, which settings say"
            return (f"{told}; write strategy: best_of_two",)
        return self.llm(*asked).notes

    def _options(self, quality: Quality) -> Options:
        judge = {"model": quality.judge, "criteria": quality.rubric} if quality.judge or quality.rubric else None
        return Options(
            strategy=quality.strategy,
            judge=judge,
            confidence=quality.confidence,
            confined=self.override is not None,
            tools=quality.tools,
        )

    def lacks(self, model: str | None, stage: str, default: str | None, wanted: frozenset[str]) -> str:
        """Return who of the stage's chain cannot do all that is wanted, nothing where everybody can."""
        return self.manager.lacks(wanted, self._choice(model, stage, default), stage=stage)
