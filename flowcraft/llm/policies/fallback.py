"""Ask one model after the other until one answers, each in its share of the time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from flowcraft.errors import LLMError
from flowcraft.llm.base import Beginning, Begun, Link, begin, chat
from flowcraft.llm.policies.recording import Recorder
from flowcraft.llm.policies.turn import Lineup, Order, Turn
from flowcraft.plugin.chat import ChatRequest, ChatResponse, StreamEvent
from flowcraft.plugin.llm import LLM

R = TypeVar("R")

__all__ = ["Fallback", "Order"]


class Fallback:
    """Asks links in turn, by the rules of their ``Lineup``. Skips the ones that cannot answer, and notes each skip."""

    def __init__(
        self,
        links: Sequence[Link],
        recorder: Recorder,
        *,
        timeout: float,
        order: Order | None = None,
        require: frozenset[str] = frozenset(),
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._lineup = Lineup(links=links, recorder=recorder, timeout=timeout, order=order, require=require, warn=warn)

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the first model that can."""
        return await in_turn(await self._lineup.turn(request), chat)

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the first model that begins; what fails after its first event is not mended here."""

        async def begins() -> Begun:
            return await in_turn(await self._lineup.turn(request), begin)

        return Beginning(begins)


async def in_turn(turn: Turn, ask: Callable[[LLM, ChatRequest], Awaitable[R]]) -> R:
    """Ask the links whose turn is still to come, until one answers."""
    while (step := turn.next()) is not None:
        try:
            return await ask(step.llm, step.request)
        except LLMError as error:
            turn.failed(step.link, error)
    raise turn.exhausted()
