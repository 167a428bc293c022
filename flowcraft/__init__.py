"""FlowCraft: workflows of agents, written in YAML, on language models that may fail.

The public names are resolved on first use (PEP 562), so that ``import flowcraft`` loads nothing heavy.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # that of typing, which takes as long to load as Python itself

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft as FlowCraft
    from flowcraft.app import RunResult as RunResult
    from flowcraft.diagnostics import LLMTestRunner as LLMTestRunner
    from flowcraft.errors import FlowCraftError as FlowCraftError
    from flowcraft.manager import LLMManager as LLMManager
    from flowcraft.plugin import ChatRequest as ChatRequest
    from flowcraft.plugin import ChatResponse as ChatResponse
    from flowcraft.plugin import Message as Message
    from flowcraft.settings import Settings as Settings
    from flowcraft.tools import Toolbox as Toolbox
    from flowcraft.workflow import load_workflow as load_workflow

_PUBLIC = {
    "ChatRequest": "flowcraft.plugin",
    "ChatResponse": "flowcraft.plugin",
    "FlowCraft": "flowcraft.app",
    "FlowCraftError": "flowcraft.errors",
    "LLMManager": "flowcraft.manager",
    "LLMTestRunner": "flowcraft.diagnostics",
    "Message": "flowcraft.plugin",
    "RunResult": "flowcraft.app",
    "Settings": "flowcraft.settings",
    "Toolbox": "flowcraft.tools",
    "load_workflow": "flowcraft.workflow",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - the keys are text


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'flowcraft' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
