"""Write down every call to a provider: exactly one attempt for each, whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from flowcraft.attempts import Attempt
from flowcraft.errors import InvalidOutput, ProviderUnavailable
from flowcraft.llm.ports import CallRecord, CallSink
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, Scope, StreamEvent
from flowcraft.plugin.llm import LLM

LONGEST_MESSAGE = 1000
"""Characters of an error that an attempt keeps."""


class Recorder:
    """Appends attempts to the ledger of their answer and hands them to the sink. ``clock`` tells seconds since the epoch."""

    def __init__(self, sink: CallSink | None = None, clock: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self.clock = clock

    def note(self, attempt: Attempt, scope: Scope) -> None:
        """Take an attempt or a skip."""
        scope.ledger.append(attempt)
        if self._sink is not None:
            record = CallRecord(
                id=os.urandom(16).hex(), attempt=attempt, stage=scope.stage, task=scope.task, run=scope.run, path=scope.path
            )
            self._sink.record(record)

    def skip(self, info: ModelInfo, role: str, reason: str, scope: Scope) -> None:
        """Note that a model was not asked, and why."""
        self.note(
            Attempt(
                model=info.model,
                provider=info.provider,
                role=role,
                outcome="skipped",
                message=reason,
                started=self.clock(),
                offline=info.offline,
            ),
            scope,
        )


class Recording:
    """Notes each call that goes through it, once it is known what came of it.

    A stream that its reader closes early is ``cancelled``; an answer that the request's ``scope.check`` refuses is what that
    raises, with all that it cost.
    """

    def __init__(self, inner: LLM, info: ModelInfo, role: str, recorder: Recorder) -> None:
        self._inner = inner
        self._info = info
        self._role = role
        self._recorder = recorder

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the inner LLM and note the attempt."""
        call = _Call(self._recorder)
        try:
            response = await self._inner.chat(request)
        except BaseException as error:
            self._failed(call, error, request.scope)
            raise
        return self._answered(call, response, request.scope)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM and note the attempt."""
        call = _Call(self._recorder)
        try:
            async with aclosing(self._inner.stream(request)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        break
                    call.see()
                    yield event
                else:
                    raise ProviderUnavailable("the stream ended before the answer was complete")
        except BaseException as error:
            self._failed(call, error, request.scope)
            raise
        yield Done(self._answered(call, event.response, request.scope))

    def _answered(self, call: _Call, response: ChatResponse, scope: Scope) -> ChatResponse:
        refused: InvalidOutput | None = None
        if scope.check is not None:
            try:
                response = scope.check(response)
            except InvalidOutput as error:
                refused = error
                refused.model, refused.provider = response.model, response.provider
        attempt = Attempt(
            model=response.model,
            provider=response.provider,
            role=self._role,
            outcome="ok" if refused is None else type(refused).__name__,
            message="" if refused is None else str(refused)[:LONGEST_MESSAGE],
            started=call.started,
            seconds=response.seconds,
            wait=scope.wait,
            first_token=response.first_token,
            usage=response.usage,
            usd=response.usd,
            offline=response.offline,
        )
        self._recorder.note(attempt, scope)
        if refused is not None:
            raise refused
        return response

    def _failed(self, call: _Call, error: BaseException, scope: Scope) -> None:
        cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
        attempt = Attempt(
            model=getattr(error, "model", "") or self._info.model,
            provider=self._info.provider,
            role=self._role,
            outcome="cancelled" if cancelled else type(error).__name__,
            message="" if cancelled else str(error)[:LONGEST_MESSAGE],
            started=call.started,
            seconds=call.seconds(),
            wait=scope.wait,
            first_token=call.first_token,
            offline=self._info.offline,
        )
        self._recorder.note(attempt, scope)


class _Call:
    """The times of one call under way."""

    __slots__ = ("_began", "_loop", "first_token", "started")

    def __init__(self, recorder: Recorder) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.started = recorder.clock()
        self.first_token: float | None = None

    def see(self) -> None:
        if self.first_token is None:
            self.first_token = self.seconds()

    def seconds(self) -> float:
        return self._loop.time() - self._began
