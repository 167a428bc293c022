"""Ask a model no more than its limits allow: wait for room, and if that takes too long, leave it to the next model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from flowcraft.attempts import Attempt
from flowcraft.llm.base import rescoped
from flowcraft.llm.sharing.budgets import expected_usage
from flowcraft.llm.sharing.gates import Entry, Gate
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, Scope, StreamEvent
from flowcraft.plugin.llm import LLM


class RateLimit:
    """Passes every call through ``gate``. The time that it waits there is the attempt's ``wait``, no part of its seconds."""

    def __init__(self, inner: LLM, info: ModelInfo, gate: Gate) -> None:
        self._inner = inner
        self._info = info
        self._gate = gate

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the inner LLM, in turn; raises CircuitOpen where there is no time to wait."""
        entry = await self._enter(request)
        own: list[Attempt] = []
        try:
            return await self._inner.chat(_entered(request, entry, own))
        finally:
            await self._leave(entry, own, request.scope)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM, in turn; the place is held until the stream has ended."""
        entry = await self._enter(request)
        own: list[Attempt] = []
        last: Done | None = None
        try:
            async with aclosing(self._inner.stream(_entered(request, entry, own))) as events:
                async for event in events:
                    if isinstance(event, Done):
                        last = event
                        break
                    yield event
        finally:
            await self._leave(entry, own, request.scope)
        if last is not None:
            yield last

    async def _enter(self, request: ChatRequest) -> Entry:
        tokens = expected_usage(request, self._info).total if self._gate.counts_tokens else 0
        tell = request.scope.held
        if tell is None:
            return await self._gate.enter(tokens, request.scope)
        tell(True)
        try:
            return await self._gate.enter(tokens, request.scope)
        finally:
            tell(False)

    async def _leave(self, entry: Entry, own: Sequence[Attempt], scope: Scope) -> None:
        scope.ledger.extend(own)
        tokens = sum(attempt.usage.total for attempt in own)
        if not tokens and any(attempt.outcome == "ok" for attempt in own):
            tokens = entry.tokens  # nobody told how many they were
        await self._gate.leave(entry, min(len(own), 1), tokens if self._gate.counts_tokens else 0, scope.deadline)


def _entered(request: ChatRequest, entry: Entry, own: list[Attempt]) -> ChatRequest:
    return rescoped(request, wait=request.scope.wait + entry.wait, ledger=own)
