"""Write down every call to a provider: exactly one attempt for each, whatever becomes of it.

What a call cost that brought no answer, its vendor seldom says. The tokens are then estimated, where it is likely that the
vendor takes money for them: of what was cancelled, or too late, or began to answer and was cut, and of answers that do not
count (``InvalidOutput``). What never began costs nothing: no connection, a refusal (4xx), a failure (5xx). An error may know
better (``ProviderError.usage``, ``billed``).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from flowcraft.attempts import Attempt, Usage
from flowcraft.errors import InvalidOutput, ProviderTimeout, ProviderUnavailable
from flowcraft.llm.ports import LOST, CallRecord, CallSink
from flowcraft.llm.prices import PriceBook
from flowcraft.llm.tokens import estimate_usage, event_tokens
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
        """Note that a model was not asked, and why, unless the answer's story tells so already."""
        if info.id in scope.passed or any(_tells(known, info, reason) for known in scope.ledger):
            return
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
    raises, with all that it cost. ``prices`` say what estimated tokens cost.
    """

    def __init__(self, inner: LLM, info: ModelInfo, role: str, recorder: Recorder, prices: PriceBook | None = None) -> None:
        self._inner = inner
        self._info = info
        self._role = role
        self._recorder = recorder
        self._prices = prices or PriceBook()

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the inner LLM and note the attempt."""
        call = _Call(self._recorder)
        try:
            response = await self._inner.chat(request)
        except BaseException as error:
            self._failed(call, error, request)
            raise
        return self._answered(call, response, request.scope, streamed=False)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM and note the attempt."""
        call = _Call(self._recorder)
        seen = call.seen
        try:
            async with aclosing(self._inner.stream(request)) as events:
                async for event in events:
                    if type(event) is Done:
                        done = event
                        break
                    if not seen:
                        call.see()
                    seen.append(event)
                    yield event
                else:
                    raise ProviderUnavailable("the stream ended before the answer was complete")
        except BaseException as error:
            self._failed(call, error, request, streamed=True)
            raise
        yield Done(self._answered(call, done.response, request.scope, streamed=True))

    def _answered(self, call: _Call, response: ChatResponse, scope: Scope, *, streamed: bool) -> ChatResponse:
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
            streamed=streamed,
        )
        self._recorder.note(attempt, scope)
        if refused is not None:
            raise refused
        return response

    def _failed(self, call: _Call, error: BaseException, request: ChatRequest, *, streamed: bool = False) -> None:
        scope = request.scope
        cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
        usage, estimated = self._spent(call, error, request)
        attempt = Attempt(
            model=getattr(error, "model", "") or self._info.model,
            provider=self._info.provider,
            role=self._role,
            outcome="cancelled" if cancelled else type(error).__name__,
            message=_why_cancelled(error, scope) if cancelled else str(error)[:LONGEST_MESSAGE],
            started=call.started,
            seconds=call.seconds(),
            wait=scope.wait,
            first_token=call.first_token,
            usage=usage,
            usd=self._prices.usd(self._info, usage) if usage.total else None,
            offline=self._info.offline,
            estimated=estimated,
            streamed=streamed,
        )
        self._recorder.note(attempt, scope)

    def _spent(self, call: _Call, error: BaseException, request: ChatRequest) -> tuple[Usage, bool]:
        """Return the tokens of a call that failed, and whether they are estimated."""
        known: Usage | None = getattr(error, "usage", None)
        if known is not None and known.total:
            return known, False
        if self._info.offline or not _is_billed(error, begun=call.first_token is not None):
            return Usage(), False
        return estimate_usage(request, sum(map(event_tokens, call.seen))), True


def _is_billed(error: BaseException, *, begun: bool) -> bool:
    told: bool | None = getattr(error, "billed", None)
    if begun or told is not None:
        return begun or bool(told)
    return isinstance(error, asyncio.CancelledError | ProviderTimeout | InvalidOutput)


def _why_cancelled(error: BaseException, scope: Scope) -> str:
    lost = LOST in error.args or (scope.lost is not None and scope.lost())
    return LOST if lost else ""


def _tells(known: Attempt, info: ModelInfo, reason: str) -> bool:
    skipped = known.outcome == "skipped" and known.message == reason
    return skipped and (known.provider, known.model) == (info.provider, info.model)


class _Call:
    """The times of one call under way, and what has come of its stream."""

    __slots__ = ("_began", "_loop", "first_token", "seen", "started")

    def __init__(self, recorder: Recorder) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.started = recorder.clock()
        self.first_token: float | None = None
        self.seen: list[StreamEvent] = []

    def see(self) -> None:
        self.first_token = self.seconds()

    def seconds(self) -> float:
        return self._loop.time() - self._began
