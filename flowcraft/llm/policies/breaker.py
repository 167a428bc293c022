"""Keep calls away from a model that is known to fail, and let one through from time to time to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from flowcraft.errors import ProviderUnavailable, RateLimited
from flowcraft.llm.health import ModelHealth, verdict
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, StreamEvent
from flowcraft.plugin.llm import LLM

COOLDOWN = 1.0
"""Seconds that nobody calls a model which asked to slow down without saying for how long."""


class Breaker:
    """Asks the inner LLM only while its model's breaker lets calls through; raises CircuitOpen."""

    def __init__(self, inner: LLM, health: ModelHealth) -> None:
        self._inner = inner
        self._health = health

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the inner LLM, and note what that says of its health."""
        loop = asyncio.get_running_loop()
        probe = self._health.enter(loop.time())
        try:
            response = await self._inner.chat(request)
        except BaseException as error:
            self._failed(probe, error, loop.time())
            raise
        self._health.leave(probe, "good", loop.time())
        return response

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM; one that is closed early says nothing of its health."""
        loop = asyncio.get_running_loop()
        probe = self._health.enter(loop.time())
        try:
            async with aclosing(self._inner.stream(request)) as events:
                async for event in events:
                    if type(event) is Done:
                        break
                    yield event
                else:
                    raise ProviderUnavailable("the stream ended before the answer was complete")
        except BaseException as error:
            self._failed(probe, error, loop.time())
            raise
        self._health.leave(probe, "good", loop.time())
        yield event

    def _failed(self, probe: bool, error: BaseException, now: float) -> None:
        if isinstance(error, RateLimited):
            pause = COOLDOWN if error.retry_after is None else error.retry_after
            self._health.cool_down(now + pause)
        self._health.leave(probe, verdict(error), now, why=type(error).__name__)
