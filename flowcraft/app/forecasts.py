"""What a run of a workflow is going to take, from the earlier ones and from what models are known for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowcraft.app.stage_models import StageModels
from flowcraft.app.workflows import Workflows
from flowcraft.engine.forecasts.figures import Ask, Forecast
from flowcraft.engine.forecasts.forecast import forecast
from flowcraft.engine.forecasts.past import History
from flowcraft.engine.forecasts.ranges import NOTHING, ONCE, Range
from flowcraft.errors import WorkflowError
from flowcraft.llm.casting import Casting
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.storage import Database
from flowcraft.storage.forecast import SqlForecasts, Usual
from flowcraft.workflow import Prompt, Stage, Template, Workflow, bind_inputs
from flowcraft.workflow.checks.sizes import known_value
from flowcraft.workflow.schema import Agent, Crew, agents_of, asks_models, with_model

MENDED = Range(low=1, likely=1, high=2)
"""Calls for an answer with a type, which is asked for again where it does not fit."""
TURNS = Range(low=1, likely=3, high=25)
"""Calls of a prompt with tools."""
ITERATIONS = 25
"""Calls of an agent for one task at most, where it does not say ``max_iter``."""
JUDGED = Range(low=0, likely=2, high=2)
"""Calls that decide between two answers: one in each order, none where the answers are equal."""
ESCALATED = Range(low=0, likely=0.3, high=1)
MEASURED = Range(low=0, likely=1, high=1)
"""Calls that say how sure an answer is: a second sample or a judge, none with log probabilities."""
AGAIN = Range(low=1, likely=1.2, high=2)
HEDGED = Range(low=0, likely=0.05, high=1)
AT_ONCE = Range(low=0, likely=1, high=1)

Part = tuple[ModelInfo, Range, Range | None]


class Forecasts:
    """Forecasts runs with the workflows and models of one settings page. Spends, runs and writes nothing."""

    def __init__(self, workflows: Workflows, storage: str) -> None:
        self._workflows = workflows
        self._storage = storage

    def plan(
        self, workflow: Workflow | str | Path, inputs: Mapping[str, Any] | None = None, *, model: str | None = None
    ) -> Forecast:
        """Return what a run is going to take; reads the database where there is one.

        Raises WorkflowError, where the file or the inputs are wrong, SettingsError and StoreError.
        """
        self._workflows.check_model(model)
        if not isinstance(workflow, Workflow):
            workflow = self._workflows.read(workflow, model=model)
        bound = _bound(workflow, inputs)
        models = StageModels(self._workflows.manager, model)
        past, usual = self._known(workflow, models)
        return forecast(workflow, bound, past, Players(models, usual, bound or {}).asks)

    def _known(self, workflow: Workflow, models: StageModels) -> tuple[History, Mapping[str, Usual]]:
        database = Database(self._storage, read_only=True)
        try:
            if not database.readable():
                return History(), {}
            kept = SqlForecasts(database)
            offline = all(info.offline for stage in workflow.every_stage for info in _answering(models, stage, workflow))
            past = kept.history(workflow.name, workflow.path, offline=offline and _asks_models(workflow))
            return past, kept.models()
        finally:
            database.close()


def _bound(workflow: Workflow, inputs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return all inputs; None where none are given though some are needed."""
    try:
        return bind_inputs(workflow, inputs or {}, importing=False)
    except WorkflowError:
        if inputs:
            raise
        return None


def _asks_models(workflow: Workflow) -> bool:
    return any(asks_models(stage.body) for stage in workflow.every_stage)


def _answering(models: StageModels, stage: Stage, workflow: Workflow) -> Sequence[ModelInfo]:
    cast = models.cast(stage, workflow.default_model) if asks_models(stage.body) else None
    return cast.answering if cast is not None else ()


@dataclass(frozen=True, slots=True)
class Players:
    """Says who is asked for a stage and how often, by its strategy; ``usual`` is what calls of models took so far."""

    models: StageModels
    usual: Mapping[str, Usual]
    inputs: Mapping[str, Any]

    def asks(self, stage: Stage, workflow: Workflow) -> Sequence[Ask]:
        """Return who is asked in each try of a stage; of what is no prompt, who judges it."""
        if isinstance(stage.model, Template):
            named = known_value(stage.model, {"inputs": self.inputs} if self.inputs else {})
            stage = replace(stage, model=str(named) if named else None)
        asked: list[Part] = []
        if agents := agents_of(stage.body):
            asked += self._of_agents(stage, workflow, agents)
        elif isinstance(stage.body, Prompt):
            cast = self.models.cast(stage, workflow.default_model)
            asked += _parts(stage, stage.body, cast) if cast is not None else []
        if stage.judge is not None and stage.until is not None:
            own = self.models.scorers(stage, workflow.default_model) or [info for info, _, _ in asked[:1]]
            asked += [(info, ONCE, None) for info in own[:1]]
        return [self._ask(*part) for part in asked]

    def _of_agents(self, stage: Stage, workflow: Workflow, agents: Sequence[Agent]) -> Iterator[Part]:
        """Yield who is asked for each task of a stage: its agent's model; where a manager hands out, that one too."""
        body = stage.body
        tasks = [task.agent for task in body.tasks] if isinstance(body, Crew) else [agents[0].name]
        known = {agent.name: agent for agent in agents}
        lead = body.manager if isinstance(body, Crew) else None
        if isinstance(body, Crew) and body.process == "hierarchical":
            yield from self._turns(stage, workflow, lead if isinstance(lead, str) else lead.model if lead else None, lead)
        for name in tasks:
            agent = known.get(name) or agents[0]
            yield from self._turns(stage, workflow, agent.model, agent)

    def _turns(self, stage: Stage, workflow: Workflow, model: str | None, agent: Agent | str | None) -> Iterator[Part]:
        cast = self.models.cast(stage if model is None else with_model(stage, model), workflow.default_model)
        most = agent.max_iter if isinstance(agent, Agent) and agent.max_iter is not None else ITERATIONS
        if cast is not None and cast.answering:
            yield cast.answering[0], Range(low=1, likely=min(3, most), high=most), None

    def _ask(self, info: ModelInfo, calls: Range, waits: Range | None) -> Ask:
        usual = self.usual.get(info.id)
        if usual is None:
            return Ask(model=info, calls=calls, waits=waits)
        return Ask(model=info, calls=calls, waits=waits, output=usual.output, seconds=usual.seconds)


def _parts(stage: Stage, body: Prompt, cast: Casting) -> list[Part]:
    """Return the models that are asked in a try of a prompt, how often, and how many of these calls are waited for."""
    if not cast.answering:
        return []
    each = MENDED if stage.output is not None else ONCE
    if body.tools:
        each = TURNS
    first = cast.answering[0]
    if cast.strategy == "best_of_two" and len(cast.contestants) > 1:
        first, second = cast.contestants[:2]
        asked = [(first, each, None), (second, each, NOTHING), *((info, JUDGED, AT_ONCE) for info in cast.judging[:1])]
    elif cast.strategy == "hedge" and len(cast.answering) > 1:
        asked = [(first, each, None), (cast.answering[1], HEDGED, NOTHING)]
    else:
        asked = [(first, each, None)]
    if not cast.measured or (cast.strategy == "cascade" and not cast.instead):
        return asked
    if cast.strategy != "cascade":
        asked = [(info, calls * AGAIN, waits) for info, calls, waits in asked]
    measured = MEASURED if cast.strategy == "cascade" else MEASURED * AGAIN
    return [*asked, (first, measured, None), *((info, each * ESCALATED, None) for info in cast.instead[:1])]
