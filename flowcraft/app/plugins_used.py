"""Which plugins a run works with: kept when it starts, looked at when it is resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flowcraft import __version__
from flowcraft.app.stage_models import StageModels
from flowcraft.discovery import Plugins
from flowcraft.discovery.metadata import OURS
from flowcraft.engine import Quality, RunRow
from flowcraft.errors import WorkflowError
from flowcraft.settings import Settings
from flowcraft.tools import function_tool
from flowcraft.workflow import Template, Workflow, has_agents, plugin_tools
from flowcraft.workflow.checks.check import every_part
from flowcraft.workflow.schema import Plugin, asks_models, models_of_agents

KEPT_AS = "plugins"
"""Under which name of a run's snapshot it stands what its plugins were."""

_SAID = {"body": "the stage body", "tool": "the tool", "provider": "the provider", "runner": "the agent runner"}


def plugins_used(workflow: Workflow, models: StageModels, plugins: Plugins) -> list[dict[str, str]]:
    """Return what a workflow takes of which plugin in which version, without what is built in or registered by a program."""
    bodies = {stage.key for part in every_part(workflow) for stage in part.every_stage if isinstance(stage.body, Plugin)}
    wanted = [
        *(("body", key) for key in sorted(bodies)),
        *(("tool", name) for name in sorted(plugin_tools(workflow))),
        *(("provider", name) for name in sorted(_providers(workflow, models))),
        *(("runner", name) for name in [models.manager.settings.agents.runner] if has_agents(workflow)),
    ]
    found = []
    for kind, name in wanted:
        owner = plugins.owner(kind, name, function_tool)
        if owner is not None and owner.distribution != OURS:
            found.append({"kind": kind, "name": name, "plugin": owner.distribution, "version": owner.version})
    return found


def _providers(workflow: Workflow, models: StageModels) -> set[str]:
    """Return the provider types of the models that the chains of a workflow's prompts name."""
    settings = models.manager.settings
    found: set[str] = set()
    for part in every_part(workflow):
        for stage in part.every_stage:
            named = [] if isinstance(stage.model, Template) or not asks_models(stage.body) else [stage.model]
            for model in [*named, *models_of_agents(stage.body)]:
                chain = models.written(model, stage.name, part.default_model, Quality(strategy=stage.strategy))
                found.update(_types(chain, settings))
    return found


def _types(chain: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    names = [name for _, listed in chain["roles"] for name in listed] or list(settings.configured_providers()[:1])
    for name in names:
        section = _section(name, settings)
        if section:
            known = settings.providers.get(section)
            yield (known.type if known is not None else None) or section


def _section(name: str, settings: Settings) -> str:
    """Return the section or preset that a model's name belongs to; empty where only the registry could tell."""
    given = (*settings.providers, *settings.configured_providers())
    head, sign, _ = name.partition(":")
    if name in given or (sign and head in given):
        return name if name in given else head
    listed = next((section for section, told in settings.providers.items() if name in told.models), "")
    return listed or settings.llm.default_provider or next(iter(settings.configured_providers()), "")


def check_installed(row: RunRow, plugins: Plugins) -> None:
    """Raise WorkflowError where a plugin of a run, or what it gave, is gone; nothing of the run has begun then."""
    gone = []
    for used in _kept(row):
        owner = plugins.owner(used["kind"], used["name"], function_tool)
        if owner is None or owner.state in ("denied", "other version", "broken"):
            said = f"{_SAID.get(used['kind'], used['kind'])} '{used['name']}' of {used['plugin']} {used['version']}"
            gone.append(f"{said}, which {_what_became(used, owner, plugins)}")
    if gone:
        raise WorkflowError(f"run {row.id} needs {'; and '.join(gone)}; mend that and resume again")


def _what_became(used: Mapping[str, str], owner: Any, plugins: Plugins) -> str:
    if owner is not None:
        return f"is {owner.state}{f' ({owner.error})' if owner.error else ''}"
    now = next((state for state in plugins.states() if state.distribution == used["plugin"]), None)
    if now is None:
        return "is not installed any more"
    broken = f" and is broken ({now.error})" if now.state == "broken" else ""
    return f"is not there any more: {now.version} is installed now{broken}"


def told_versions(row: RunRow, plugins: Plugins) -> str:
    """Say which versions a run started with, where others are installed now; nothing where they are the same."""
    changes: dict[str, tuple[str, str]] = {}
    began = str(row.snapshot.get("flowcraft") or __version__)
    if began != __version__:
        changes["flowcraft"] = (began, __version__)
    for used in _kept(row):
        owner = plugins.owner(used["kind"], used["name"], function_tool)
        if owner is not None and (owner.distribution, owner.version) != (used["plugin"], used["version"]):
            other = f" of {owner.distribution}" if owner.distribution != used["plugin"] else ""
            changes[used["plugin"]] = (used["version"], owner.version + other)
    told = ", ".join(f"{name} {now} instead of {before}" for name, (before, now) in changes.items())
    return f"what is installed is not what this run started with: {told}; it goes on with that" if told else ""


def _kept(row: RunRow) -> Iterable[Mapping[str, str]]:
    return row.snapshot.get(KEPT_AS) or ()
