"""Links of a chain, and the two things every policy does with streams: begin one, pass one on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar

from flowcraft.attempts import Attempt
from flowcraft.llm.health import ModelHealth
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Scope, StreamEvent
from flowcraft.plugin.llm import LLM

D = TypeVar("D", ChatRequest, ChatResponse, Scope)
Begun = tuple[StreamEvent, AsyncGenerator[StreamEvent, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One model of a chain with the policies around it. Without ``llm`` it is always skipped, for the reason ``skip``."""

    llm: LLM | None
    info: ModelInfo
    role: str = ""
    health: ModelHealth | None = None
    skip: str = ""


def calls_of(info: ModelInfo, attempts: Iterable[Attempt]) -> int:
    """Return how many of the attempts were calls to a model; skips are none."""
    # A model that nobody names ("*") is the first that its server lists, and that is what attempts call it.
    return sum(
        told.provider == info.provider and info.model in (told.model, "*") and told.outcome != "skipped" for told in attempts
    )


async def chat(llm: LLM, request: ChatRequest) -> ChatResponse:
    """Ask for a whole answer."""
    return await llm.chat(request)


async def begin(llm: LLM, request: ChatRequest) -> Begun:
    """Ask for a stream, wait for its first event and return both.

    What fails before the first event may be tried again elsewhere; afterwards the reader has seen something.
    """
    events = llm.stream(request)
    try:
        return await anext(events), events
    except BaseException:
        await events.aclose()
        raise


class Beginning(AsyncGenerator[StreamEvent, None]):
    """A stream that ``begins`` makes when its first event is asked for. What follows comes straight from there.

    A generator that only passes events on would cost each of them a microsecond.
    """

    __slots__ = ("_begins", "_events")

    def __init__(self, begins: Callable[[], Awaitable[Begun]]) -> None:
        self._begins: Callable[[], Awaitable[Begun]] | None = begins
        self._events: AsyncGenerator[StreamEvent, None] | None = None

    def __anext__(self) -> Coroutine[Any, Any, StreamEvent]:
        return self._first() if self._events is None else self._events.__anext__()

    async def asend(self, value: None) -> StreamEvent:
        """Return the next event."""
        return await anext(self)

    async def athrow(self, *error: Any) -> StreamEvent:
        """Raise ``error`` where the stream waits."""
        if self._events is not None:
            return await self._events.athrow(*error)
        self._begins = None
        raise error[0]

    async def aclose(self) -> None:
        """Close the stream, or see to it that it never begins."""
        self._begins = None
        if self._events is not None:
            await self._events.aclose()

    async def _first(self) -> StreamEvent:
        begins, self._begins = self._begins, None
        if begins is None:
            raise StopAsyncIteration
        first, self._events = await begins()
        return first


def _copier(cls: type[D]) -> Callable[..., D]:
    """Return ``dataclasses.replace`` for a frozen class with slots, in a third of the time: every answer copies several."""
    names = tuple(item.name for item in fields(cls))
    read = attrgetter(*names)
    setters = {name: getattr(cls, name).__set__ for name in names}
    in_order = tuple(setters.values())

    def copied(given: D, **changes: Any) -> D:
        new = object.__new__(cls)
        for put, value in zip(in_order, read(given), strict=True):
            put(new, value)
        for name, value in changes.items():
            setters[name](new, value)
        return new

    return copied


copied_request = _copier(ChatRequest)
copied_response = _copier(ChatResponse)
_copied_scope = _copier(Scope)


def rescoped(request: ChatRequest, **changes: Any) -> ChatRequest:
    """Return ``request.within(**changes)``."""
    return copied_request(request, scope=_copied_scope(request.scope, **changes))
