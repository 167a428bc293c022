"""The protocol that everything speaks that answers a chat: one model, a chain, a policy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from flowcraft.plugin.chat import ChatRequest, ChatResponse, StreamEvent


@runtime_checkable
class LLM(Protocol):
    """Anything that answers a chat."""

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer ``request``."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer ``request`` as events; ``Done`` comes last."""
        ...
