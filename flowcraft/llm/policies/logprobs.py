"""Ask for log probabilities where nobody said whether they are wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from flowcraft.llm.base import Link, copied_request
from flowcraft.plugin.chat import ChatRequest, ChatResponse, StreamEvent
from flowcraft.plugin.llm import LLM


class Logprobs:
    """Adds to every request that says nothing of it that log probabilities are wanted."""

    def __init__(self, inner: LLM) -> None:
        self._inner = inner

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer, with log probabilities."""
        return await self._inner.chat(_asked(request))

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream the answer, with log probabilities."""
        return self._inner.stream(_asked(request))


def _asked(request: ChatRequest) -> ChatRequest:
    return request if request.logprobs is not None else copied_request(request, logprobs=True)


def with_logprobs(link: Link) -> Link:
    """Return ``link`` such that it gives log probabilities, if its model is known to have them."""
    if link.llm is None or not link.info.capabilities.logprobs:
        return link
    return replace(link, llm=Logprobs(link.llm))
