"""A provider that answers from a script, for tests that need no server."""

from __future__ import annotations

import asyncio
import copy
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowcraft.plugin import (
    ChatRequest,
    ChatResponse,
    Done,
    LogprobsDelta,
    ModelInfo,
    Provider,
    Reasoning,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    Timeouts,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)


class Hang:
    """A step that never answers: the call waits until it is cancelled."""


class Chunks:
    """A stream cut by hand: texts, events, exceptions and ``Hang()`` in their order.

    ``Chunks("Hel", "lo")`` ends well; ``Chunks("Hel", ProviderUnavailable("cut"))`` breaks in the middle.
    """

    def __init__(self, *pieces: str | StreamEvent | Exception | type[Exception] | Hang) -> None:
        self.pieces = pieces


Answers = Callable[[str, ChatRequest], Any]
Step = str | ChatResponse | Exception | type[Exception] | Hang | Chunks | Mapping[str, Any] | list[Any] | Answers
"""A text, a response, an error, a hang, a stream cut by hand, a value (answered as its JSON), or a function of model and
request, sync or async, that returns one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call that a FakeProvider got."""

    model: str
    request: ChatRequest
    stream: bool = False


class FakeProvider(Provider):
    """Answers from a script: ``FakeProvider("hello", RateLimited("slow down"), ...)``.

    The last step repeats; without a script it echoes the last message. ``script`` gives one model a script of its own.
    Tokens are counted as words. To change capabilities, subclass and set ``capabilities``.
    """

    name = "fake"

    def __init__(self, *steps: Step, section: str = "", timeouts: Timeouts | None = None) -> None:
        super().__init__(section=section, timeouts=timeouts)
        self._scripts: dict[str | None, deque[Step]] = {}
        self._models: tuple[str, ...] = ()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.asked: list[Asked] = []
        self.cancelled = 0
        self.running = 0
        self.peak = 0
        self._set(None, steps)

    def script(self, model: str, *steps: Step) -> FakeProvider:
        """Say what ``model`` answers, call by call; the last step repeats."""
        self._set(model, steps)
        self._models = tuple(dict.fromkeys((*self._models, model)))
        return self

    def count(self, model: str | None = None) -> int:
        """Return how many calls came, for one model if given."""
        return sum(model is None or asked.model == model for asked in self.asked)

    @property
    def requests(self) -> list[ChatRequest]:
        """The requests so far."""
        return [asked.request for asked in self.asked]

    async def until_asked(self, count: int = 1) -> None:
        """Return when at least ``count`` calls have come."""
        if len(self.asked) < count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((count, future))
            await future

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        """Answer with the next step."""
        self._enter(model, request, stream=False)
        try:
            return await self._whole(model, request, await self._step(model, request))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer with the next step, word by word."""
        self._enter(model, request, stream=True)
        try:
            step = await self._step(model, request)
            pieces = step.pieces if isinstance(step, Chunks) else _events(await self._whole(model, request, step))
            so_far: list[StreamEvent] = []
            for piece in pieces:
                so_far.append(await self._piece(piece))
                yield so_far[-1]
            if not so_far or not isinstance(so_far[-1], Done):
                yield Done(_response(model, request, so_far))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models that have a script of their own."""
        return tuple(ModelInfo(model=model, provider=self.section) for model in self._models)

    def _set(self, model: str | None, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if not _is_step(step):
                raise TypeError(
                    f"a step is a text, a response, an error, Hang(), Chunks(...), a value or a function, not {step!r}"
                )
        self._scripts[model] = deque(steps)

    def _enter(self, model: str, request: ChatRequest, *, stream: bool) -> None:
        self.asked.append(Asked(model=model, request=request, stream=stream))
        self.running += 1
        self.peak = max(self.peak, self.running)
        for count, future in self._waiting:
            if len(self.asked) >= count and not future.done():
                future.get_loop().call_soon_threadsafe(_finish, future)

    async def _step(self, model: str, request: ChatRequest) -> Any:
        steps = self._scripts.get(model) or self._scripts[None]
        step: Any = (steps.popleft() if len(steps) > 1 else steps[0]) if steps else request.last_text
        while callable(step) and not isinstance(step, type):
            step = step(model, request)
            if asyncio.iscoroutine(step):
                step = await step
        return step

    async def _whole(self, model: str, request: ChatRequest, step: Any) -> ChatResponse:
        if isinstance(step, ChatResponse):
            return step if step.model else replace(step, model=model)
        if isinstance(step, Chunks):
            return _response(model, request, [await self._piece(piece) for piece in step.pieces])
        if isinstance(step, Hang | Exception | type):
            await self._piece(step)
        text = step if isinstance(step, str) else json.dumps(step, ensure_ascii=False)
        return _response(model, request, [TextDelta(text)])

    async def _piece(self, piece: Any) -> StreamEvent:
        if isinstance(piece, Hang):
            await asyncio.get_running_loop().create_future()
        if isinstance(piece, type):
            raise piece()
        if isinstance(piece, Exception):
            raise copy.copy(piece)  # the same step may be raised again: each time without the traceback of the last
        event: StreamEvent = TextDelta(piece) if isinstance(piece, str) else piece
        return event


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_step(step: Any) -> bool:
    if isinstance(step, type):
        return issubclass(step, Exception)
    return isinstance(step, str | ChatResponse | Exception | Hang | Chunks | Mapping | list) or callable(step)


def _events(response: ChatResponse) -> list[StreamEvent]:
    thoughts = (part.text for part in response.parts if isinstance(part, Reasoning))
    events: list[StreamEvent] = [ReasoningDelta(text) for text in thoughts]
    events += [TextDelta(word) for word in response.text.replace(" ", " \0").split("\0") if word]
    if response.logprobs:
        events.append(LogprobsDelta(response.logprobs))
    for index, call in enumerate(response.tool_calls):
        events.append(ToolCallDelta(index, call.id, call.name, call.arguments))
        events.append(ToolCallEvent(index, call))
    return [*events, Done(response)]


def _response(model: str, request: ChatRequest, events: Sequence[StreamEvent]) -> ChatResponse:
    for event in events:
        if isinstance(event, Done):
            return event.response
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = tuple(event.call for event in events if isinstance(event, ToolCallEvent))
    thoughts = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    words = sum(len(message.text.split()) for message in request.messages)
    return ChatResponse(
        text=text,
        parts=((Reasoning(text=thoughts),) if thoughts else ()) + calls,
        model=model,
        finish_reason="tool_calls" if calls else "stop",
        usage=Usage(input=words, output=len(text.split())),
    )
