"""Find out which of the configured models answer, how fast, and what to use them for."""

from flowcraft.diagnostics.results import ModelTest
from flowcraft.diagnostics.runner import LLMTestRunner

__all__ = ["LLMTestRunner", "ModelTest"]
