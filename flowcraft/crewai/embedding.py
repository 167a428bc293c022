"""Vectors for CrewAI's memory and knowledge, made by our layer."""

from __future__ import annotations

import weakref
from typing import Any

from crewai.rag.embeddings.providers.custom.embedding_callable import CustomEmbeddingFunction
from crewai.rag.embeddings.providers.custom.types import EmbeddingFunction

from flowcraft.bridge import Bridge
from flowcraft.crewai.asking import close_with_process
from flowcraft.crewai.failures import FAILURES, for_crewai
from flowcraft.errors import FlowCraftError
from flowcraft.llm.embedding import Embedder
from flowcraft.manager import LLMManager
from flowcraft.plugin import Vectors


class TextVectors:
    """Makes vectors for callers on any thread, with or without a loop."""

    def __init__(self, manager: LLMManager, embedder: Embedder) -> None:
        self.embedder = embedder
        self._bridge = Bridge()
        weakref.finalize(self, close_with_process, manager, self._bridge)

    def made(self, texts: list[str]) -> Vectors:
        """Return the vectors of texts. Raises what CrewAI does not try again: where memory only looks, it goes on without."""
        found: Vectors | FlowCraftError
        try:
            found = self._bridge.run(self.embedder.embed(texts))
        except FAILURES as error:
            found = error
        if isinstance(found, Vectors):
            return found
        raise for_crewai(found, ends=False)  # where no other error is handled: CrewAI would look into it for words


def function_of(vectors: TextVectors) -> type[Any]:
    """Return the class that CrewAI makes its embedding function of."""

    class FlowCraftEmbeddings(CustomEmbeddingFunction, EmbeddingFunction):  # type: ignore[misc, unused-ignore]  # typed only where the library is
        """Makes vectors by FlowCraft's models. A crew takes Chroma's kind of function alone, its factory CrewAI's own."""

        def __init__(self, **config: Any) -> None:
            pass

        def __call__(self, input: Any) -> Any:
            texts = [input] if isinstance(input, str) else list(input)
            return [list(vector) for vector in vectors.made(texts).vectors]

        @staticmethod
        def name() -> str:
            return "flowcraft"

        @staticmethod
        def build_from_config(config: dict[str, Any]) -> Any:
            return FlowCraftEmbeddings()

        def get_config(self) -> dict[str, Any]:
            return {"model": vectors.embedder.name}

    return FlowCraftEmbeddings


def specification(vectors: TextVectors) -> dict[str, Any]:
    """Return what a crew, or a memory, takes as its ``embedder``."""
    return {"provider": "custom", "config": {"embedding_callable": function_of(vectors)}}
