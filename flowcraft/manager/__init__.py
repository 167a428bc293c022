"""LLMManager, the public entry to chains of models: settings, plugins and statistics brought together."""

from flowcraft.manager.llm_manager import FastestModel, GeneratedResponse, LLMManager
from flowcraft.manager.specs import Options

__all__ = ["FastestModel", "GeneratedResponse", "LLMManager", "Options"]
