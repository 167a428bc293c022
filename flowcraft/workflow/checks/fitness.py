"""Whether the models of a stage can do what it asks of them: capabilities, room in their windows, prices under a budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flowcraft.errors import Problem
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.source import Document, listed, plain_document
from flowcraft.workflow.checks.facts import Cast, Facts
from flowcraft.workflow.checks.sizes import known_texts_tokens, known_tokens
from flowcraft.workflow.loading.attachments import CAPABILITIES
from flowcraft.workflow.loading.reading import Path
from flowcraft.workflow.schema import (
    Crew,
    Prompt,
    Stage,
    Workflow,
    agents_of,
    asks_models,
    models_of_agents,
    with_model,
)

NEEDED_BY_PARAMS: Mapping[str, str] = {
    "temperature": "temperature",
    "seed": "seed",
    "stop": "stop",
    "min_p": "min_p",
    "grammar": "gbnf",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "reasoning": "reasoning",
}
_PASSED_OVER = frozenset({"tools", "logprobs", *CAPABILITIES.values()})
"""What a model that lacks it is not asked for; anything else it may be asked for in vain."""

_KINDS: Mapping[str, str] = {"image": "images", "audio": "sounds", "file": "files"}
_DOUBT = 2
"""By how much the count of tokens may be too large."""


class Fitness:
    """Checks the stages of one workflow against their models; ``scope`` is what is known of names so far."""

    def __init__(self, workflow: Workflow, facts: Facts, scope: Mapping[str, Any] | None = None) -> None:
        self.workflow = workflow
        self.facts = facts
        self.scope = scope or {}
        self.document: Document = workflow.document or plain_document("", workflow.path)

    def stage(self, stage: Stage) -> Iterator[Problem]:
        """Yield what the models of ``stage`` cannot do; nothing where nobody knows them yet."""
        cast = self.facts.cast(stage, self.workflow.default_model)
        if cast is None or not cast.answering:
            return
        if wanted := _wanted(stage):
            yield from self._capable(stage, cast, wanted)
        if agents_of(stage.body):
            yield from self._agents(stage, cast)
            yield from self._judge(stage, cast)
        elif isinstance(stage.body, Prompt):
            yield from self._attachments(stage, stage.body, cast)
            yield from self._room(stage, stage.body, cast)
            yield from self._judge(stage, cast)
            yield from self._judges_room(stage, stage.body, cast)

    def _capable(self, stage: Stage, cast: Cast, wanted: frozenset[str]) -> Iterator[Problem]:
        lacking = {info.id: info.capabilities.lacks(wanted) for info in _who_answers(cast)}
        without = {id: lacks for id, lacks in lacking.items() if lacks}
        if len(without) == len(lacking):
            message = f"{listed(lacking)} cannot do what stage '{stage.name}' needs: {listed(sorted(wanted))}"
            yield self._problem(stage.at, message, "name another model", key=True, warning=self._elsewhere(cast))
        elif without:
            lacks = frozenset().union(*without.values())
            message = f"{listed(without)} cannot do what stage '{stage.name}' needs ({listed(sorted(lacks))})"
            yield self._problem(stage.at, f"{message}{_becomes(cast, without, lacks)}", key=True, warning=True)

    def _agents(self, stage: Stage, own: Cast) -> Iterator[Problem]:
        """Warn of agents that have tools on models that can call none: these are told of them in text, or fail."""
        tasks = stage.body.tasks if isinstance(stage.body, Crew) else ()
        for agent in agents_of(stage.body):
            tooled = agent.tools or (isinstance(stage.body, Prompt) and stage.body.tools)
            if not tooled and not any(task.tools for task in tasks if task.agent in ("", agent.name)):
                continue
            cast = own if agent.model is None else self.facts.cast(with_model(stage, agent.model), self.workflow.default_model)
            answering = _who_answers(cast) if cast is not None else ()
            without = [info.id for info in answering if info.capabilities.lacks(frozenset({"tools"}))]
            if without:
                message = f"{listed(without)} cannot call tools, and the agent '{agent.name}' has some"
                hint = "name another model; without such calls, tools are described in text where the runner can do that"
                document = agent.spot.document or self.document
                yield document.problem(agent.spot.at, message, hint, key=True, warning=True)

    def _attachments(self, stage: Stage, body: Prompt, cast: Cast) -> Iterator[Problem]:
        for attachment in body.attach:
            if not attachment.kind:
                continue  # known when the stage runs
            capability = CAPABILITIES[attachment.kind]
            without = [info.id for info in _who_answers(cast) if info.capabilities.lacks(frozenset({capability}))]
            what = _KINDS[attachment.kind]
            if len(without) == len(_who_answers(cast)):
                message = f"{listed(without)} takes no {what}: '{attachment.what}' cannot be attached"
                yield self._problem(attachment.at, message, "name another model", warning=self._elsewhere(cast))
            elif without:
                message = f"{listed(without)} takes no {what}" + _becomes(cast, without, frozenset({capability}))
                yield self._problem(attachment.at, message, warning=True)

    def _room(self, stage: Stage, body: Prompt, cast: Cast) -> Iterator[Problem]:
        """Say where what is known of a prompt, and the answer that it asks for, are more than a window holds."""
        windows = {info.id: info.context for info in _who_answers(cast) if info.context is not None}
        if not windows:
            return
        answer = stage.params.get("max_tokens")
        room = answer if isinstance(answer, int) else 0
        asked = known_tokens(stage, body, self.scope, self.facts.tokens)
        small = {id: window for id, window in windows.items() if asked + room > window}
        if not small:
            return
        told = f"about {asked:,.0f} tokens" + (f" and {room:,} of max_tokens" if room else "")
        held = listed([f"{id}: {window:,}" for id, window in small.items()])
        everybody = len(windows) == len(_who_answers(cast)) and asked / _DOUBT + room > max(windows.values())
        message = f"the prompt of stage '{stage.name}' does not fit: {told} are more than the window holds ({held})"
        if not everybody:
            message = f"the prompt of stage '{stage.name}' may not fit: {told}, and the window holds ({held})"
        hint = "shorten it, lower max_tokens, or name another model"
        yield self._problem((*stage.at, "prompt"), message, hint, key=True, warning=not everybody)

    def _judge(self, stage: Stage, cast: Cast) -> Iterator[Problem]:
        """Warn where tries are judged by the model that made them."""
        if stage.judge is None or stage.until is None:
            return
        judge = next(iter(self.facts.scorers(stage, self.workflow.default_model)), None)
        if judge is not None and not judge.offline and judge.id == cast.answering[0].id:
            message = f"{judge.id} answers stage '{stage.name}' and judges its own answers"
            hint = "name another one: judge: {model: ..., rubric: ...}, or set llm.judge.model"
            yield self._problem((*stage.at, "judge"), message, hint, key=True, warning=True)

    def _judges_room(self, stage: Stage, body: Prompt, cast: Cast) -> Iterator[Problem]:
        """Say where what a judge is shown is more than its window holds: the question, its rubric, the answers."""
        tried = stage.judge is not None and stage.until is not None
        judges = self.facts.scorers(stage, self.workflow.default_model) if tried else cast.judging
        windows = {info.id: info.context for info in judges if info.context is not None}
        texts = [body.prompt, body.system, stage.judge.rubric if stage.judge is not None else None]
        asked = known_texts_tokens(stage, texts, self.scope, self.facts.tokens) if windows else 0.0
        answer = stage.params.get("max_tokens")
        shown = (answer if isinstance(answer, int) else 0) * (1 if tried else 2)
        small = {id: window for id, window in windows.items() if asked + shown > window}
        if not small:
            return
        # An answer may stay below its limit, and where a judge of two answers fails, one of them is taken.
        everybody = tried and len(windows) == len({info.id for info in judges}) and asked / _DOUBT > max(windows.values())
        told = f"about {asked:,.0f} tokens" + (f" and answers of up to {shown:,}" if shown else "")
        held = listed([f"{id}: {window:,}" for id, window in small.items()])
        verb = "does not fit" if everybody else "may not fit"
        message = f"what the judge of stage '{stage.name}' is shown {verb}: {told}, and its window holds less ({held})"
        at = (*stage.at, "judge") if tried else stage.at
        yield self._problem(at, message, "name another judge, or shorten the prompt", key=True, warning=not everybody)

    def unpriced(self, stages: Iterable[Stage]) -> Iterator[str]:
        """Yield the models that stages may ask and whose price nobody knows."""
        default = self.workflow.default_model
        for stage in stages:
            asked: list[ModelInfo] = []
            for one in [stage, *(with_model(stage, name) for name in models_of_agents(stage.body))]:
                cast = self.facts.cast(one, default) if asks_models(stage.body) else None
                asked += (*cast.answering, *cast.instead, *cast.judging) if cast is not None else ()
            asked += self.facts.scorers(stage, default) if stage.judge and stage.until else ()
            yield from (info.id for info in asked if info.price is None and not info.offline)

    def _elsewhere(self, cast: Cast) -> bool:
        """Say whether another machine may have what is missing here: where no model at all is configured."""
        return not self.facts.starting and all(info.offline for info in cast.answering)

    def _problem(self, path: Path, message: str, hint: str = "", **at: Any) -> Problem:
        return self.document.problem(path, message, hint, **at)


def budget_problems(workflow: Workflow, unpriced: Iterable[str]) -> Iterator[Problem]:
    """Yield a warning where the budget of ``workflow`` in USD counts nothing for these models."""
    names = list(dict.fromkeys(unpriced))
    if names and "usd" in workflow.budget and workflow.document is not None:
        message = f"the price of {listed(names, 4)} is not known: the budget in USD counts nothing for what is asked there"
        hint = "limit 'tokens' or 'calls' besides, or tell the price in settings (providers.NAME.models.MODEL.price)"
        yield workflow.document.problem(("budget", "usd"), message, hint, warning=True)


def _wanted(stage: Stage) -> frozenset[str]:
    """Return the capabilities that a stage needs of its model."""
    wanted = {NEEDED_BY_PARAMS[name] for name in stage.params if name in NEEDED_BY_PARAMS}
    if isinstance(stage.body, Prompt) and stage.body.system is not None:
        wanted.add("system")
    if isinstance(stage.body, Prompt) and stage.body.tools and stage.body.agent is None:
        wanted.add("tools")
    return frozenset(wanted)


def _who_answers(cast: Cast) -> Sequence[ModelInfo]:
    return list({info.id: info for info in (*cast.answering, *cast.instead)}.values())


def _becomes(cast: Cast, without: Iterable[str], lacks: frozenset[str]) -> str:
    """Return what comes of it that some of the models lack something."""
    lost = set(without)
    if not lacks <= _PASSED_OVER:
        return ": it may refuse to answer, and others of the stage's models are asked then"
    if all(info.id in lost for info in cast.answering):
        return ": the expensive models answer every time"
    if cast.instead and all(info.id in lost for info in cast.instead):
        return ": no answer is ever given to the expensive models"
    left = [info for info in cast.contestants if info.id not in lost]
    if len(left) < 2 <= len(cast.contestants):
        return ": best_of_two is left with one model and runs as single"
    return " and is passed over"
