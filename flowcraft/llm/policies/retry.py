"""Ask the same model again where that may help, as far as the time of this attempt allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from flowcraft.errors import CircuitOpen, ProviderError, ProviderTimeout, ProviderUnavailable, RateLimited
from flowcraft.llm.base import Beginning, Begun, begin, calls_of, chat, rescoped
from flowcraft.llm.health import ModelHealth
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Scope, StreamEvent
from flowcraft.plugin.llm import LLM

if TYPE_CHECKING:
    from tenacity import RetryCallState

R = TypeVar("R")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0
"""Seconds: the pause before the first further try is at most the first, doubled with each, at most the longest."""


def most_calls(retries: int) -> int:
    """Return how often one model may be called in an answer before nothing is repeated any more."""
    return 2 * (retries + 1)


class Retry:
    """Repeats a call that failed by no fault of the request, ``retries`` times at most.

    A model that asks to slow down is asked again when the pause it names fits into this attempt, once even without retries.
    A time-out is repeated only when no other model is left. Pauses never go past the attempt's ``scope.until``. Once the
    model was called ``most_calls`` times in an answer, for whatever reason, nothing is repeated any more, and a stream that
    broke does not come back to it.
    """

    def __init__(self, inner: LLM, info: ModelInfo, health: ModelHealth, retries: int) -> None:
        self._inner = inner
        self._info = info
        self._health = health
        self._retries = retries

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the inner LLM, if need be after further tries."""
        ledger = request.scope.ledger
        if ledger and any(told.streamed for told in ledger):
            self._refuse_more(request.scope)
        return await self._answer(request, chat)

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM; tries again only what failed before its first event."""
        return Beginning(lambda: self._begun(request))

    async def _begun(self, request: ChatRequest) -> Begun:
        if request.scope.ledger:
            self._refuse_more(request.scope)
        return await self._answer(request, begin)

    async def _answer(self, request: ChatRequest, ask: Callable[[LLM, ChatRequest], Awaitable[R]]) -> R:
        pause = self._health.cooldown(asyncio.get_running_loop().time())
        if pause:
            request = await self._cooled(request, pause)
        try:
            return await ask(self._inner, request)
        except ProviderError as error:
            if not isinstance(error, ProviderUnavailable | ProviderTimeout | RateLimited):
                raise
            failed = error
        return await self._again(request, ask, failed)

    def _refuse_more(self, scope: Scope) -> None:
        """Raise CircuitOpen where an answer that is begun anew, because its stream broke, was this model's often enough."""
        calls = calls_of(self._info, scope.ledger)
        if calls >= most_calls(self._retries):
            raise CircuitOpen(f"it was called {calls} times for this answer already")

    async def _cooled(self, request: ChatRequest, pause: float) -> ChatRequest:
        """Wait until the model may be called, or say that it cannot be waited for."""
        until = request.scope.until
        if until is not None and asyncio.get_running_loop().time() + pause >= until:
            raise CircuitOpen(f"it asked to slow down for {pause:.3g} s more")
        await asyncio.sleep(pause)
        return rescoped(request, wait=pause)

    async def _again(self, request: ChatRequest, ask: Callable[[LLM, ChatRequest], Awaitable[R]], failed: ProviderError) -> R:
        # tenacity costs as much as all other policies together, so it is called in only now: its first try is the one
        # that has failed already.
        from tenacity import AsyncRetrying

        plan = _Plan(request.scope, self._info, self._health, self._retries)

        async def attempt() -> R:
            if plan.pause is None:
                raise failed
            return await ask(self._inner, rescoped(request, wait=plan.pause if plan.limited_now else 0.0))

        retrying = AsyncRetrying(retry=plan.worth, wait=plan.wait, stop=plan.stop, sleep=asyncio.sleep, reraise=True)
        return await retrying(attempt)


class _Plan:
    """When to try again, in tenacity's terms."""

    def __init__(self, scope: Scope, info: ModelInfo, health: ModelHealth, retries: int) -> None:
        self.pause: float | None = None
        self.limited_now = False
        self._scope = scope
        self._info = info
        self._health = health
        self._retries = retries
        self._tries = 0

    def worth(self, state: RetryCallState) -> bool:
        """Say whether this failure is one that another try may mend."""
        error = state.outcome.exception() if state.outcome is not None else None
        self.limited_now = isinstance(error, RateLimited)
        self._tries += 1
        if isinstance(error, RateLimited):
            named = error.retry_after is not None or self._scope.last
            return named and self._tries <= max(self._retries, 1) and self._may_try()
        mendable = isinstance(error, ProviderUnavailable) or (isinstance(error, ProviderTimeout) and self._scope.last)
        return mendable and self._tries <= self._retries and self._may_try()

    def _may_try(self) -> bool:
        return calls_of(self._info, self._scope.ledger) < most_calls(self._retries)

    def wait(self, state: RetryCallState) -> float:
        """Return the pause before the next try, in seconds."""
        from tenacity import wait_random_exponential

        if self.limited_now:
            self.pause = self._health.cooldown(asyncio.get_running_loop().time())
        else:
            self.pause = float(wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)(state))
        return self.pause

    def stop(self, state: RetryCallState) -> bool:
        """Say whether the next try would come too late, or to a model whose breaker has opened meanwhile."""
        now = asyncio.get_running_loop().time()
        until = self._scope.until
        return bool(self._health.blocked(now)) or (until is not None and now + state.upcoming_sleep >= until)
