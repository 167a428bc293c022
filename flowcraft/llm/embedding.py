"""Vectors of texts by a chain: the same retries, budgets, limits and records as of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowcraft.attempts import Usage
from flowcraft.errors import InvalidOutput
from flowcraft.llm.chain import Chain
from flowcraft.llm.vectors import VECTORS
from flowcraft.plugin.chat import ChatRequest, Scope
from flowcraft.plugin.messages import Message
from flowcraft.plugin.vectors import Vectors


class Embedder:
    """Turns texts into vectors by one model, in batches of at most ``batch`` texts.

    The chain has that model alone, at every provider that is known to have it: vectors of different models do not go
    together. ``name`` is what the model is called.
    """

    def __init__(self, name: str, chain: Chain, batch: int) -> None:
        self.name = name
        self.chain = chain
        self._batch = batch

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text. Raises LLMError, BudgetExceeded, ValueError where texts are none."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError("texts are given as a list of strings")
        answers = [await self.chain.chat(_asked(batch)) for batch in self._batches(texts)]
        vectors = tuple(vector for answer in answers for vector in answer.extra[VECTORS])
        if len({len(vector) for vector in vectors}) > 1:
            raise InvalidOutput("the vectors of one model have different lengths")
        known = [answer.usd for answer in answers if answer.usd is not None]
        return Vectors(
            vectors=vectors,
            model=answers[0].model if answers else "",
            provider=answers[0].provider if answers else "",
            usage=sum((answer.usage for answer in answers), Usage()),
            usd=sum(known) if known else None,
            offline=any(answer.offline for answer in answers),
            attempts=tuple(attempt for answer in answers for attempt in answer.attempts),
        )

    def _batches(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        for start in range(0, len(texts), self._batch):
            yield texts[start : start + self._batch]


def _asked(texts: Sequence[str]) -> ChatRequest:
    messages = tuple(Message.user(text) for text in texts)
    return ChatRequest(messages=messages, max_tokens=1, scope=Scope(embeds=True))
