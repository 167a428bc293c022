"""CrewAI's agents on FlowCraft's models. The only room that imports the library crewai, and only when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcraft.crewai.llm import FlowCraftLLM as FlowCraftLLM
    from flowcraft.settings import Settings

__all__ = ["FlowCraftLLM", "create_llm_for_crewai"]


def create_llm_for_crewai(
    config_path: Settings | str | Path | None = None,
    tier: str | None = None,
    stage: str | None = None,
    use_fastest: bool = True,
    use_parallel: bool = False,
    **params: Any,
) -> FlowCraftLLM:
    """Return an LLM for an agent of CrewAI's that is answered by a chain of models.

    ``config_path`` is a settings file (None: the one found by its usual names) or a ``Settings``; ``tier`` a tier, an alias or
    a model, ``stage`` the stage whose chain answers. ``use_fastest`` asks the model first that is expected to answer first;
    ``use_parallel`` lets two models answer and a judge choose, except where the agent may call tools. ``params`` are
    those of CrewAI's own LLMs: ``temperature``, ``max_tokens``, ``stop``, ``stream`` and so on.

    Every agent has its own: what it used is counted by it. ``copy.copy(llm)`` makes another on the same models. Raises
    PluginError where the library crewai is not installed, SettingsError where settings are wrong.
    """
    from flowcraft.crewai.library import load_library

    load_library()
    from flowcraft.crewai.asking import Models
    from flowcraft.crewai.llm import llm_of
    from flowcraft.manager import LLMManager

    order = "fastest" if use_fastest else None
    strategy = "best_of_two" if use_parallel else None
    return llm_of(Models.of(LLMManager(config_path), tier, stage, order=order, strategy=strategy), params)


def __getattr__(name: str) -> Any:
    if name != "FlowCraftLLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flowcraft.crewai.library import load_library

    load_library()
    from flowcraft.crewai.llm import FlowCraftLLM

    return FlowCraftLLM
