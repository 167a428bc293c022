"""The models of stages: the manager, as the engine and the check ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowcraft.engine import Case, Quality
from flowcraft.engine.bodies.crews import AGENTS
from flowcraft.llm import Chain
from flowcraft.llm.casting import Casting
from flowcraft.llm.scoring import score_request
from flowcraft.manager import LLMManager, Options
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.workflow import Prompt, Stage, Template
from flowcraft.workflow.schema import agents_of


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
        chain = self.manager.llm(self._scorer(judge, stage), stage=stage[1], strategy="single", cache=0)
        said = (await chain.chat(score_request(case.question, case.answer, case.rubric, case.scope))).parsed
        return float(said["score"]), str(said["reason"])

    def doubts(self, stage: Stage, default: str | None) -> Sequence[str]:
        """Return what of a stage's strategy its models cannot carry out, and whether its judge has nothing to do.

        Where one model stands in for all, that is meant.
        """
        if self.override or isinstance(stage.model, Template):
            return ()
        asked = (stage.model, stage.name, default, quality_of(stage))
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

    def cast(self, stage: Stage, default: str | None) -> Casting | None:
        """Return who may be asked for a stage, in which part; None where its model comes from an input."""
        if isinstance(stage.model, Template) and not self.override:
            return None
        model = stage.model if isinstance(stage.model, str) else None
        return self.manager.casting(
            self._choice(model, stage.name, default), stage=stage.name, **self._options(quality_of(stage))
        )

    def scorers(self, stage: Stage, default: str | None) -> Sequence[ModelInfo]:
        """Return who scores the tries of a stage with ``until`` and ``judge``; nobody where one model stands in for all."""
        if self.override or isinstance(stage.model, Template) or stage.judge is None:
            return ()
        asked = (stage.model, stage.name, default)
        return self.manager.casting(self._scorer(stage.judge.model, asked), stage=stage.name, strategy="single").answering

    def _scorer(self, judge: str | None, stage: tuple[str | None, str, str | None]) -> str | None:
        """Return whom a judge's name means; one that comes of a plugin compares two answers, and scores none."""
        named = judge or self.manager.settings.llm.judge.model
        if named is not None and named in self.manager.plugins.judges():
            named = None
        return self._choice(named or stage[0], stage[1], stage[2])


def quality_of(stage: Stage) -> Quality:
    """Return how good an answer a stage wants, its judge's rubric left out."""
    if agents_of(stage.body):
        return AGENTS
    judge = stage.judge.model if stage.judge is not None else None
    tools = isinstance(stage.body, Prompt) and bool(stage.body.tools)
    return Quality(strategy=stage.strategy, judge=judge, confidence=stage.confidence, tools=tools)
