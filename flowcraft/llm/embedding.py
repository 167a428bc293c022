"""Vectors of texts by a chain: the same retries, budgets, limits and records as of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flowcraft.attempts import Usage
from flowcraft.errors import InvalidOutput
from flowcraft.llm.chain import Chain
from flowcraft.llm.sharing.vectors import KeptVector, VectorBook
from flowcraft.llm.vectors import VECTORS
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Scope
from flowcraft.plugin.messages import Message
from flowcraft.plugin.vectors import Vector, Vectors


class Embedder:
    """Turns texts into vectors by one model, in batches of at most ``batch`` texts.

    The chain has that model alone, at every provider that is known to have it: vectors of different models do not go
    together. ``name`` is what the model is called. Texts whose vectors are ``kept`` are not asked about again.
    """

    def __init__(self, name: str, chain: Chain, batch: int, kept: VectorBook | None = None) -> None:
        self.name = name
        self.chain = chain
        self._batch = batch
        self._kept = kept

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text. Raises LLMError, BudgetExceeded, ValueError where texts are none."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError("texts are given as a list of strings")
        if self._kept is None:
            answers = [await self._ask(batch) for batch in self._batches(texts)]
            return _made([vector for answer in answers for vector in answer.extra[VECTORS]], answers)
        known = await self._kept.find(texts)
        some = bool(known)
        answers = await self._filled(texts, known)
        if some and len({len(one.vector) for one in known.values()}) > 1:
            # Another model stands behind the name by now: what was kept does not go with what came.
            known = {}
            answers += await self._filled(texts, known)
        made = _made([known[text].vector for text in texts], answers)
        if answers or not texts:
            return made
        first = known[texts[0]]
        return replace(made, model=first.model, provider=first.provider, usd=0.0)

    async def _filled(self, texts: Sequence[str], known: dict[str, KeptVector]) -> list[ChatResponse]:
        """Ask about the texts that are not ``known`` yet, each once, and keep what comes; return the answers."""
        assert self._kept is not None
        answers = []
        for batch in self._batches([text for text in dict.fromkeys(texts) if text not in known]):
            answer = await self._ask(batch)
            found = [KeptVector(vector, answer.model, answer.provider) for vector in answer.extra[VECTORS]]
            known.update(zip(batch, found, strict=True))
            if not answer.offline:
                await self._kept.keep(dict(zip(batch, found, strict=True)))
            answers.append(answer)
        return answers

    async def _ask(self, batch: Sequence[str]) -> ChatResponse:
        return await self.chain.chat(_asked(batch))

    def _batches(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        for start in range(0, len(texts), self._batch):
            yield texts[start : start + self._batch]


def _made(vectors: Sequence[Vector], answers: Sequence[ChatResponse]) -> Vectors:
    """Return vectors with what the answers cost that they came by."""
    if len({len(vector) for vector in vectors}) > 1:
        raise InvalidOutput("the vectors of one model have different lengths")
    known = [answer.usd for answer in answers if answer.usd is not None]
    return Vectors(
        vectors=tuple(vectors),
        model=answers[0].model if answers else "",
        provider=answers[0].provider if answers else "",
        usage=sum((answer.usage for answer in answers), Usage()),
        usd=sum(known) if known else None,
        offline=any(answer.offline for answer in answers),
        attempts=tuple(attempt for answer in answers for attempt in answer.attempts),
    )


def _asked(texts: Sequence[str]) -> ChatRequest:
    messages = tuple(Message.user(text) for text in texts)
    return ChatRequest(messages=messages, max_tokens=1, scope=Scope(embeds=True))
