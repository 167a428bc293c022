"""The hooks of a plugin: synchronous, cheap, additive. An implementation may take fewer arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pluggy

from flowcraft.plugin.agents import AgentRunner
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.commands import Command
from flowcraft.plugin.judges import Judge
from flowcraft.plugin.provider import Provider
from flowcraft.plugin.stages import StageBody
from flowcraft.plugin.tools import Tool

hookspec = pluggy.HookspecMarker("flowcraft")
hookimpl = pluggy.HookimplMarker("flowcraft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A provider that needs no section in settings: a type, its config, and the environment name of its key.

    ``provider`` is a class or its path ``module:Class``. ``default_model`` is empty where the server's first model is meant.
    ``price_id`` is the id under which genai-prices knows the vendor, where the provider has no address that tells it.
    """

    provider: str | type[Provider]
    config: Mapping[str, Any] = field(default_factory=dict)
    key_env: str = ""
    default_model: str = ""
    price_id: str = ""


@hookspec
def flowcraft_providers() -> Mapping[str, str | type[Provider] | Preset]:
    """Return provider types and presets by name; a path ``module:Class`` is imported on first use."""
    return {}


@hookspec
def flowcraft_models(provider: str, config: Mapping[str, Any]) -> Sequence[ModelInfo]:
    """Return what is known of the models of ``provider``: windows, prices, families, capabilities."""
    return ()


@hookspec
def flowcraft_tools() -> Sequence[Tool | Callable[..., Any]]:
    """Return tools, or functions whose hints and docstring describe them."""
    return ()


@hookspec
def flowcraft_stage_bodies() -> Sequence[str | type[StageBody]]:
    """Return stage bodies, as classes or paths ``module:Class``."""
    return ()


@hookspec
def flowcraft_agent_runners() -> Sequence[str | type[AgentRunner]]:
    """Return agent runners, as classes or paths ``module:Class``, which are made without arguments."""
    return ()


@hookspec
def flowcraft_judges() -> Sequence[str | type[Judge]]:
    """Return judges."""
    return ()


@hookspec
def flowcraft_event_sinks() -> Sequence[Callable[[Any], None]]:
    """Return functions that take every event, one at a time, from a bounded queue."""
    return ()


@hookspec
def flowcraft_commands() -> Sequence[Command]:
    """Return commands."""
    return ()
