"""What of a workflow can only be checked with knowledge of models or of the environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.errors import Problem
from flowcraft.source import Document, did_you_mean, nearest, plain_document
from flowcraft.workflow.checks.facts import Facts
from flowcraft.workflow.checks.fitness import Fitness, budget_problems
from flowcraft.workflow.checks.sizes import known_value
from flowcraft.workflow.expressions.template import Template
from flowcraft.workflow.loading.reading import Path
from flowcraft.workflow.schema import (
    Crew,
    Prompt,
    Shell,
    Spot,
    Stage,
    ToolName,
    Uses,
    Workflow,
    agents_of,
    asks_models,
    tool_lists,
    with_model,
)
from flowcraft.workflow.types.type import Enumeration, Nullable


def check_workflow(workflow: Workflow, facts: Facts) -> list[Problem]:
    """Return the problems and warnings of ``workflow`` and of all that it uses, in the order of the files."""
    found: list[Problem] = list(workflow.warnings)
    unpriced: list[str] = []
    for part in every_part(workflow):
        checked = _Check(part, facts)
        found += checked.all()
        if "usd" in workflow.budget:
            unpriced += checked.fitness.unpriced(part.every_stage)
        if part is not workflow and part.budget:
            message = "the budget of a workflow that another one uses does not act; that of the file that is run does"
            found.append(checked.document.problem(("budget",), message, key=True, warning=True))
    found += budget_problems(workflow, unpriced)
    place = {part.path: number for number, part in enumerate(every_part(workflow))}
    return sorted(dict.fromkeys(found), key=lambda problem: (place.get(problem.file, -1), problem.line, problem.column))


def environment_names(workflow: Workflow) -> frozenset[str]:
    """Return the environment names that ``workflow`` and all that it uses may read."""
    return frozenset(name for part in every_part(workflow) for name in part.env)


def plugin_tools(workflow: Workflow) -> frozenset[str]:
    """Return the names of plugins' tools that ``workflow`` and all that it uses give to their prompts."""
    stages = (stage for part in every_part(workflow) for stage in part.every_stage)
    return frozenset(tool.written for stage in stages for _, tools in tool_lists(stage) for tool in tools if tool.plugin)


def has_agents(workflow: Workflow) -> bool:
    """Say whether a stage of ``workflow``, or of what it uses, is carried out by agents."""
    return any(agents_of(stage.body) for part in every_part(workflow) for stage in part.every_stage)


def mentions_run(workflow: Workflow) -> bool:
    """Say whether a stage or an output of ``workflow``, or of what it uses, mentions how stages of the run ended."""
    return any(
        any(stage.mentions_run for stage in part.every_stage) or _tells_of_stages(part.outputs) for part in every_part(workflow)
    )


def _tells_of_stages(value: Any) -> bool:
    if isinstance(value, Template):
        return any(expression.run_stages for expression in value.expressions)
    if isinstance(value, Mapping):
        return any(map(_tells_of_stages, value.values()))
    return isinstance(value, list | tuple) and any(map(_tells_of_stages, value))


def every_part(workflow: Workflow) -> list[Workflow]:
    """Return the workflow and those that it uses, each once."""
    parts, seen = [workflow], {id(workflow)}
    for part in parts:
        for stage in part.every_stage:
            used: Workflow | None = stage.body.workflow if isinstance(stage.body, Uses) else None
            if used is not None and id(used) not in seen:  # a file that could not be read is missing where it is used
                seen.add(id(used))
                parts.append(used)
    return parts


class _Check:
    """Checks one workflow."""

    def __init__(self, workflow: Workflow, facts: Facts) -> None:
        self.workflow = workflow
        self.facts = facts
        self.document: Document = workflow.document or plain_document("", workflow.path)
        self.fitness = Fitness(workflow, facts)

    def all(self) -> Iterator[Problem]:
        """Yield what is wrong."""
        for index, name in enumerate(self.workflow.env):
            if name in self.facts.unset_env:
                message = f"the environment name '{name}' is not set"
                hint = "set it before the run starts"
                yield self.document.problem(("env", index), message, hint, warning=not self.facts.starting)
            elif name in self.facts.short_env:
                message = f"the value of '{name}' is so short that it is not hidden in output"
                yield self.document.problem(("env", index), message, warning=True)
        if self.workflow.servers and not self.facts.serves:
            message = "MCP servers need a library that is not installed"
            hint = "pip install 'flowcraft[mcp]'"
            yield self.document.problem(("mcp",), message, hint, key=True, warning=not self.facts.starting)
        if self.workflow.default_model is not None:
            yield from named_problem(self.document, ("defaults", "model"), self.workflow.default_model, self.facts)
        yield from self._runner()
        for stage in self.workflow.every_stage:
            if isinstance(stage.body, Shell) and self.facts.no_shell:
                path, warning = (*stage.at, "shell"), not self.facts.starting
                yield self.document.problem(path, self.facts.no_shell, key=True, warning=warning)
            if asks_models(stage.body) or stage.model is not None or stage.judge is not None:
                yield from self._stage(stage)

    def _runner(self) -> Iterator[Problem]:
        """Yield why the agents of this file cannot be carried out here, at the first stage that has some."""
        first = next((stage for stage in self.workflow.every_stage if agents_of(stage.body)), None)
        why = self.facts.runner()[1] if first is not None else ""
        if first is not None and why:
            key = "crew" if isinstance(first.body, Crew) else "agent"
            yield self.document.problem((*first.at, key), why, key=True, warning=not self.facts.starting)
        for stage in self.workflow.every_stage:
            yield from self._words(stage)

    def _words(self, stage: Stage) -> Iterator[Problem]:
        """Warn of words that the runner of these settings does not understand."""
        tasks = stage.body.tasks if isinstance(stage.body, Crew) else ()
        used = [("agent_words", agent.spot, agent.options) for agent in agents_of(stage.body)]
        used += [("task_words", task.spot, task.options) for task in tasks]
        runner = self.facts.runner()[0] if any(options for _, _, options in used) else None
        for words, spot, options in used if runner is not None else ():
            for name in options:
                if name not in getattr(runner, words, ()):
                    document = spot.document or self.document
                    message = f"the agent runner '{getattr(runner, 'name', '')}' does nothing with '{name}'"
                    yield document.problem((*spot.at, name), message, key=True, warning=True)

    def _stage(self, stage: Stage) -> Iterator[Problem]:
        for spot, tools in tool_lists(stage):
            yield from self._tools(spot, tools)
        yield from self._agents(stage)
        yield from self._models(stage)

    def _agents(self, stage: Stage) -> Iterator[Problem]:
        """Yield what is wrong with the models that agents name, and the words that their runner does not understand."""
        for agent in agents_of(stage.body):
            document, at = agent.spot.document or self.document, agent.spot.at
            if agent.model is not None:
                key = "llm" if "llm" in (written_at(document, at) or {}) else "model"
                yield from named_problem(document, (*at, key), agent.model, self.facts)
        if isinstance(stage.body, Crew) and isinstance(stage.body.manager, str):
            yield from named_problem(self.document, (*stage.at, "crew", "manager"), stage.body.manager, self.facts)

    def _tools(self, spot: Spot, tools: Sequence[ToolName]) -> Iterator[Problem]:
        wanted = [tool.written for tool in tools if tool.plugin]
        known = self.facts.tools() if wanted else ()
        document = spot.document or self.document
        for name in wanted:
            if name not in known:
                hint = did_you_mean(name, known) or "a function is named module:function"
                # Not its place among those that could be read: others may stand before it.
                path = (*spot.at, "tools", (written_at(document, (*spot.at, "tools")) or [name]).index(name))
                yield document.problem(path, f"no plugin offers a tool '{name}'", hint)

    def _models(self, stage: Stage) -> Iterator[Problem]:
        if isinstance(stage.model, str):
            wrong = list(named_problem(self.document, (*stage.at, "model"), stage.model, self.facts))
            yield from wrong
            if any(not problem.warning for problem in wrong):
                return
        judge = stage.judge.model if stage.judge is not None else None
        if judge is not None:
            unknown = list(named_problem(self.document, (*stage.at, "judge", "model"), judge, self.facts))
            unknown = [] if unknown and self.facts.knows_judge(judge) else unknown
            yield from unknown
            if any(not problem.warning for problem in unknown):
                return
        if isinstance(stage.model, Template):
            if not self.facts.starting:  # of a run it is known which of them it is
                yield from self._offered(stage, stage.model)
            return
        if isinstance(stage.body, Prompt) and (stage.strategy is not None or stage.judge is not None):
            for doubt in self.facts.doubts(stage, self.workflow.default_model):
                yield self.document.problem(self._strategy_at(stage), doubt, warning=True)
        yield from self.fitness.stage(stage)

    def _offered(self, stage: Stage, model: Template) -> Iterator[Problem]:
        """Warn of what is wrong with the models among which an input chooses by its words."""
        if self.facts.cast(stage, self.workflow.default_model) is not None:
            return  # one model stands in for all
        for name, kind in ((name, given.type) for name, given in self.workflow.inputs.items()):
            chosen = kind.inner if isinstance(kind, Nullable) else kind
            for word in chosen.words if isinstance(chosen, Enumeration) else ():
                offered = known_value(model, {"inputs": {name: word}})
                if not isinstance(offered, str) or not offered:
                    continue
                wrong = list(named_problem(self.document, ("inputs", name), offered, self.facts))
                if not wrong:
                    one = with_model(stage, offered)
                    doubts = self.facts.doubts(one, self.workflow.default_model) if isinstance(stage.body, Prompt) else ()
                    wrong = [self.document.problem((*stage.at, "model"), doubt) for doubt in doubts]
                    wrong += self.fitness.stage(one)
                for problem in wrong:
                    message = f"with '{word}' of the input '{name}': {problem.message}"
                    yield replace(problem, message=message, warning=True)

    def _strategy_at(self, stage: Stage) -> Path:
        own = written_at(self.document, stage.at) or {}
        if "strategy" in own or stage.strategy is None:
            return (*stage.at, "strategy" if "strategy" in own else "judge")
        return ("defaults", "strategy")


def written_at(document: Document, path: Path) -> Any:
    """Return what stands at ``path`` in a document; None where nothing does."""
    data = document.data
    for part in path:
        if isinstance(data, list) and isinstance(part, int):
            data = data[part]
        else:
            data = data.get(part) if isinstance(data, Mapping) else None
    return data


def named_problem(document: Document, path: Path, name: str, facts: Facts) -> Iterator[Problem]:
    """Yield a problem where ``name`` is no tier and no model, a warning where a provider may or may not know it."""
    known = True if name in facts.tiers else facts.knows_model(name)
    if known is None and not {":", "/"} & set(name) and (hint := did_you_mean(name, sorted(facts.tiers | facts.aliases))):
        message = f"no tier, alias or listed model is called '{name}': it will be asked for as a model's id"
        yield document.problem(path, message, hint, warning=True)
    elif known is None and (meant := provider_meant(name, facts.model_names)):
        message = f"no provider is called '{name.partition(':')[0]}': '{name}' will be asked for as a model's id"
        yield document.problem(path, message, f"did you mean '{meant}'?", warning=True)
    elif known is False:
        names = [*sorted(facts.tiers), *facts.model_names]
        vendors = name.replace("/", ":", 1)  # CrewAI and LiteLLM write a slash
        theirs = vendors != name and facts.knows_model(vendors) is not False
        near = "" if theirs else did_you_mean(name, names)
        hint = near or f"the tiers are: {', '.join(sorted(facts.tiers)) or 'none'}"
        hint = f"write {vendors}: the provider stands before a colon" if theirs else hint
        yield document.problem(path, f"unknown model or tier '{name}'", hint, warning=not facts.starting and not near)


def provider_meant(name: str, names: Iterable[str]) -> str:
    """Return ``provider:id`` where ``name`` begins with what is nobody's name but nearly one of ``names``, else nothing."""
    before, colon, model = name.partition(":")
    near = nearest(before, names, 0.85) if colon else None  # many models' ids have a colon of their own
    return f"{near}:{model}" if near and near != before else ""
