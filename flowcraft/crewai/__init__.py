"""CrewAI's agents on FlowCraft's models. The only room that imports the library crewai, and only when it is needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcraft.crewai.llm import FlowCraftLLM as FlowCraftLLM
    from flowcraft.settings import Settings
    from flowcraft.tools import Workspace

__all__ = ["FlowCraftLLM", "create_embedder_for_crewai", "create_executor_agent", "create_llm_for_crewai"]


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


def create_embedder_for_crewai(config_path: Settings | str | Path | None = None, model: str | None = None) -> dict[str, Any]:
    """Return what ``Crew(memory=True, embedder=...)`` and ``Memory(embedder=...)`` take, on a model of ours.

    ``config_path`` is a settings file (None: the one found by its usual names) or a ``Settings``; ``model`` makes the vectors,
    None: ``llm.embeddings.model``. Raises PluginError where the library crewai is not installed, SettingsError where settings
    are wrong or name no such model.
    """
    from flowcraft.crewai.library import load_library

    load_library()
    from flowcraft.crewai.embedding import TextVectors, specification
    from flowcraft.manager import LLMManager

    manager = LLMManager(config_path)
    return specification(TextVectors(manager, manager.embedder(model)))


def create_executor_agent(
    project_dir: Workspace | str | Path,
    use_llm_manager: bool = True,
    use_parallel: bool = False,
    *,
    config_path: Settings | str | Path | None = None,
    tier: str | None = None,
    commands: Iterable[str] = (),
    dry: bool = False,
    **options: Any,
) -> Any:
    """Return an agent of CrewAI's that reads, lists, searches, writes and patches files of one folder, and only there.

    ``commands`` are the programs that it may start there; ``dry`` changes nothing and shows the diffs. A ``Workspace`` in the
    place of the folder settles both itself, and has all diffs as its ``diff``. With ``use_llm_manager`` the chain of settings
    answers (``config_path``, ``tier`` and ``use_parallel`` as in ``create_llm_for_crewai``), without it ``llm`` among the
    ``options``, else what CrewAI asks by itself. ``options`` are those of CrewAI's ``Agent``.

    Raises PluginError where the library crewai is not installed, SettingsError where settings are wrong, ValueError for a
    folder or a program that is not there and for arguments that do not go together.
    """
    from flowcraft.tools import Workspace

    made = isinstance(project_dir, Workspace)
    if made and (dry or tuple(commands)):
        raise ValueError("a Workspace settles 'commands' and 'dry' itself: give them to it")
    if use_llm_manager and "llm" in options:
        raise ValueError("the LLM manager is the agent's llm: leave out 'llm', or say use_llm_manager=False")
    if not use_llm_manager and (use_parallel or tier is not None or config_path is not None):
        raise ValueError("'use_parallel', 'tier' and 'config_path' are the LLM manager's: leave use_llm_manager as it is")
    from flowcraft.crewai.library import load_library

    load_library()
    workspace = project_dir if isinstance(project_dir, Workspace) else Workspace(project_dir, commands, dry)
    llm = create_llm_for_crewai(config_path, tier, use_parallel=use_parallel) if use_llm_manager else None
    from flowcraft.crewai.executor import executor

    return executor(workspace, llm, options)


def __getattr__(name: str) -> Any:
    if name != "FlowCraftLLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flowcraft.crewai.library import load_library

    load_library()
    from flowcraft.crewai.llm import FlowCraftLLM

    return FlowCraftLLM
