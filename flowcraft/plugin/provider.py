"""Provider: a plugin's adapter to one vendor or server. One coroutine is required."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from flowcraft.plugin.capabilities import Capabilities, ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, StreamEvent, TextDelta, ToolCallEvent
from flowcraft.plugin.clients import PerLoop
from flowcraft.plugin.vectors import Vectors


class ProviderConfig(BaseModel):
    """What a section of ``providers:`` may hold besides ``type``, ``models`` and ``timeouts``. Subclass and add keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds: to connect, to the first token of a stream, between its events, to write the request."""

    connect: float = 10.0
    first_token: float = 30.0
    idle: float = 60.0
    write: float = 30.0


class Provider:
    """Turns a ``ChatRequest`` into a ``ChatResponse`` and a vendor's error into ours.

    ``name`` is the provider's type; ``section`` the name it has in settings. ``offline`` marks answers that no real model
    gave. Errors are those of ``flowcraft.plugin.errors``, translated at the call; a provider names neither model nor
    provider in them, and retries nothing by itself.
    """

    name: ClassVar[str] = ""
    Config: ClassVar[type[ProviderConfig]] = ProviderConfig
    capabilities: ClassVar[Capabilities] = Capabilities()
    offline: ClassVar[bool] = False

    def __init__(self, config: Any = None, *, section: str = "", timeouts: Timeouts | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()
        self.section = section or self.name
        self.timeouts = timeouts or Timeouts()
        self._clients: PerLoop[Any] = PerLoop()

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        """Answer ``request`` by ``model``."""
        raise NotImplementedError(f"{type(self).__name__} has no chat()")

    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer as events; by default made of ``chat``."""
        response = await self.chat(model, request)
        if response.text:
            yield TextDelta(response.text)
        for index, call in enumerate(response.tool_calls):
            yield ToolCallEvent(index, call)
        yield Done(response)

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text, with the tokens that it took. Whoever overrides it says so in ``capabilities``."""
        raise NotImplementedError(f"{type(self).__name__} has no embed()")

    async def prepare(self) -> None:
        """Load what the first call needs, such as an SDK, without blocking the loop. No model's time is spent on it."""

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models that the server says it has; empty where it cannot say."""
        return ()

    async def health(self) -> None:
        """Raise what keeps this provider from answering; return if nothing is known to."""

    async def client(self, make: Callable[[], Any]) -> Any:
        """Return this event loop's client, made by ``make`` on first use and closed with the loop."""
        return await self._clients.get(make)

    async def aclose(self) -> None:
        """Close all clients."""
        await self._clients.aclose()
