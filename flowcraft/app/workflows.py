"""Workflow files, checked against what settings, plugins and this machine have."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowcraft.app.stage_models import StageModels
from flowcraft.engine.bodies.shell import why_no_shell
from flowcraft.engine.preflight import function_problems
from flowcraft.errors import PluginError, Problem, SettingsError, WorkflowError
from flowcraft.llm.tokens import text_tokens
from flowcraft.manager import LLMManager
from flowcraft.plugin.agents import AgentRunner
from flowcraft.redaction import SHORTEST, Redactor
from flowcraft.settings import Settings
from flowcraft.source import did_you_mean
from flowcraft.tools import can_serve, function_tool
from flowcraft.workflow import (
    Facts,
    Workflow,
    bind_inputs,
    check_start,
    check_workflow,
    environment_names,
    has_agents,
    load_workflow,
)
from flowcraft.workflow.checks.check import provider_meant


class Workflows:
    """Loads workflow files and says what is wrong with them here."""

    def __init__(self, manager: LLMManager) -> None:
        self.manager = manager
        self.settings = manager.settings
        self.plugins = manager.plugins

    def load(self, path: str | Path, *, model: str | None = None) -> Workflow:
        """Return the checked workflow of a file, ready to run; raise WorkflowError with every problem of it at once.

        ``model`` stands in for every model, as in ``run``.
        """
        check = functools.partial(self.check, starting=True, model=model)
        return load_workflow(path, bodies=self.plugins.bodies(), check=check)

    def read(self, path: str | Path, *, model: str | None = None) -> Workflow:
        """Return the checked workflow of a file that is not run now; raise WorkflowError with every problem of it at once.

        What only this machine lacks is none.
        """
        return load_workflow(path, bodies=self.plugins.bodies(), check=functools.partial(self.check, model=model))

    def check(self, workflow: Workflow, *, starting: bool = False, model: str | None = None) -> list[Problem]:
        """Return what is wrong or doubtful about a workflow with these settings, plugins and environment.

        What only this machine lacks, such as an environment name, is a problem where a run is ``starting``, else a warning.
        ``model`` stands in for every model.
        """
        return check_workflow(workflow, self._facts(workflow, starting, model))

    def environment(self, workflow: Workflow) -> dict[str, str]:
        """Return the values of the environment names that a workflow and its parts may read; an empty one is not set."""
        known = self.settings.environment
        return {name: known[name] for name in environment_names(workflow) if known.get(name)}

    def redactor(self, workflow: Workflow) -> Redactor:
        """Return what takes the secrets of settings and of a workflow out of everything."""
        return Redactor([*self.manager.secrets, *self.environment(workflow).values()])

    def runner_of(self, workflow: Workflow, settings: Settings | None = None) -> AgentRunner | None:
        """Return who carries out the agents of a workflow; None where it has none.

        Raises PluginError where no plugin offers the runner of the settings, or what it needs is not installed.
        """
        if not has_agents(workflow):
            return None
        runner, why = self._runner((settings or self.settings).agents.runner)
        if runner is None or why:
            raise PluginError(why)
        return runner

    def _runner(self, name: str) -> tuple[AgentRunner | None, str]:
        """Return the runner of a name, and what keeps it from carrying anything out, nothing where nothing does."""
        offered = self.plugins.agent_runners()
        if name in offered:
            return offered[name], _missing(offered[name])
        known = did_you_mean(name, offered) or f"the runners are: {', '.join(offered) or 'none'}"
        broken = "; why a plugin cannot be used: flowcraft plugins"
        return None, f"no plugin offers the agent runner '{name}' (settings: agents.runner); {known}{broken}"

    def _facts(self, workflow: Workflow, starting: bool, model: str | None) -> Facts:
        models = StageModels(self.manager, model)
        return Facts(
            tiers=self.manager.tiers,
            knows_model=self.manager.knows_model if model is None else lambda name: True,
            model_names=self.manager.model_names,
            aliases=frozenset(self.settings.llm.aliases),
            cast=models.cast,
            scorers=models.scorers,
            tokens=text_tokens,
            doubts=models.doubts,
            knows_judge=lambda name: name in self.plugins.judges(),
            tools=lambda: self.plugins.tools(function_tool),
            serves=can_serve(),
            runner=lambda: self._runner(self.settings.agents.runner),
            unset_env=self.unset(workflow),
            no_shell=why_no_shell(),
            short_env=frozenset(name for name, value in self.environment(workflow).items() if len(value) < SHORTEST),
            starting=starting,
        )

    def check_model(self, model: str | None) -> None:
        """Raise SettingsError where nobody knows the model that stands in for all."""
        tiers = self.manager.tiers
        known = True if model is None or model in tiers else self.manager.knows_model(model)
        if model is None or known:
            return
        meant = provider_meant(model, self.manager.model_names)
        if meant:
            own = "a model whose own name has a colon needs its provider before it"
            raise SettingsError(f"no provider is called {model.partition(':')[0]!r}; did you mean {meant!r}? ({own})")
        if known is None:
            return
        hint = did_you_mean(model, [*sorted(tiers), *self.manager.model_names])
        raise SettingsError(f"unknown model or tier {model!r}; {hint or 'flowcraft models list shows those that are known'}")

    def settled(self, workflow: Workflow, inputs: Mapping[str, Any], model: str | None = None) -> list[Problem]:
        """Return what these inputs make wrong or doubtful: settings of stages, what is attached, what models can do."""
        return check_start(workflow, inputs, self._facts(workflow, True, model))

    def warnings(self, workflow: Workflow, inputs: Mapping[str, Any], model: str | None = None) -> list[Problem]:
        """Return what is doubtful about a workflow, and about these inputs to it."""
        bound = bind_inputs(workflow, inputs, importing=False)
        found = [*self.check(workflow, model=model), *self.settled(workflow, bound, model)]
        return [problem for problem in dict.fromkeys(found) if problem.warning]

    def check_settled(self, workflow: Workflow, inputs: Mapping[str, Any], model: str | None) -> None:
        """Raise WorkflowError where inputs make stages wrong, or where functions do not take what they are given.

        Functions whose signature cannot be read from their source are imported for that.
        """
        problems = [problem for problem in self.settled(workflow, inputs, model) if not problem.warning]
        problems += function_problems(workflow)
        if problems:
            raise WorkflowError(problems=problems)

    def unset(self, workflow: Workflow) -> frozenset[str]:
        """Return the environment names that a workflow and its parts may read and that have no value."""
        return environment_names(workflow) - self.environment(workflow).keys()


def _missing(runner: AgentRunner) -> str:
    """Return what keeps an agent runner from carrying anything out, in its own words."""
    try:
        return runner.missing() or ""
    except Exception as error:  # noqa: BLE001 - border: a plugin's
        return f"the agent runner '{runner.name}' cannot say what it needs: {type(error).__name__}: {error}"
