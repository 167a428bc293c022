"""Ask cheaply, and expensively only where the cheap answer is not sure enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from flowcraft.errors import BudgetExceeded, CapabilityMissing, ChainExhausted, LLMError
from flowcraft.llm.base import Link, copied_response, rescoped
from flowcraft.llm.gauge import Gauge, Measured, again, of_tokens, refuse
from flowcraft.llm.policies.recording import Recorder
from flowcraft.llm.replay import replayed
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, Progress, Restart, StreamEvent
from flowcraft.plugin.llm import LLM

_NO_FAILURE = frozenset({"ok", "skipped", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Who answers where the cheap models are not sure enough: an LLM over ``links``."""

    llm: LLM
    links: Sequence[Link]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    response: ChatResponse
    measured: Measured


@dataclass(slots=True)
class _Tried:
    """What became of the cheap part: its answers in their order, the error that ended it, or why nobody was asked."""

    answers: list[_Answer] = field(default_factory=list)
    error: LLMError | None = None
    spared: str = ""

    @property
    def best(self) -> _Answer:
        """The surest answer; of several the first."""
        return max(self.answers, key=lambda answer: -1.0 if answer.measured.value is None else answer.measured.value)


class Cascade:
    """Keeps an answer of ``cheap`` whose confidence, as ``gauge`` measures it, reaches ``threshold``.

    Below it, ``cheap`` is asked up to ``tries`` times in all, then ``escalation``; an exhausted ``cheap`` escalates at once.
    The cheap part has half of the time that is left, all of it where there is no escalation. What the budget refuses of a
    second sample, a judge, a further try or an escalation is left out and told as a skip. Where nobody can do better, the
    surest answer is returned and marked: there is no error while there is an answer. A request that is to go to an expensive
    model (``Scope.prefer``) goes there at once. What was decided stands in ``extra``
    under ``key``.
    """

    def __init__(
        self,
        cheap: LLM,
        gauge: Gauge,
        recorder: Recorder,
        *,
        threshold: float,
        tries: int = 1,
        escalation: Escalation | None = None,
        key: Literal["strategy", "confidence"] = "strategy",
    ) -> None:
        self._cheap = cheap
        self._gauge = gauge
        self._recorder = recorder
        self._threshold = threshold
        self._tries = tries
        self._escalation = escalation
        self._key = key

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer as sure as is asked for, or as sure as can be had."""
        tried = await self._ask(request)
        if (escalation := self._next(tried)) is None:
            return self._kept(tried)
        try:
            response = await escalation.llm.chat(_avoiding(request, tried))
        except (LLMError, BudgetExceeded) as error:
            return self._fallen(tried, error, request)
        return self._escalated(tried, response)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Collect the cheap answer; show it when it stands, else stream the expensive one."""
        yield Progress("the answer is looked at before it is shown")
        tried = await self._ask(request)
        if (escalation := self._next(tried)) is None:
            for event in replayed(self._kept(tried)):
                yield event
            return
        yield Progress(f"{self._why(tried)}: others are asked")
        shown = False
        try:
            async with aclosing(escalation.llm.stream(_avoiding(request, tried))) as events:
                async for event in events:
                    shown = shown or not isinstance(event, Progress)
                    yield Done(self._escalated(tried, event.response)) if isinstance(event, Done) else event
            return
        except (LLMError, BudgetExceeded) as error:
            if shown and not tried.answers:
                raise  # what came so far is all there is; who continues streams may go on from it
            kept = self._fallen(tried, error, request)
        if shown:
            yield Restart("the stream was cut; the answer that was there before takes its place")
        for event in replayed(kept):
            yield event

    async def _ask(self, request: ChatRequest) -> _Tried:
        """Ask the cheap models until they are sure enough, or for as often as they may be asked."""
        if self._is_for_others(request):
            return _Tried(spared=f"{request.scope.prefer} was asked for")
        tried = _Tried()
        others: list[ChatResponse] = []
        limited = request if self._escalation is None else _half(request)
        for go in range(1 if request.temperature == 0 else self._tries):  # at 0 a model only repeats itself
            try:
                response = await self._cheap.chat(again(limited, go))
            except LLMError as error:
                tried.error = error
                break
            except BudgetExceeded as error:
                if not go:
                    raise
                refuse(self._recorder, self._gauge.links, f"a further try is left out: {error.message}", request.scope)
                break
            measured = await self._gauge.measure(limited, response, others)
            others.append(response)
            tried.answers.append(_Answer(response=response, measured=measured))
            if measured.reaches(self._threshold) or response.offline:
                break
        return tried

    def _is_for_others(self, request: ChatRequest) -> bool:
        """Say whether one of the expensive models alone is wanted: it has answered before, say, and is to go on."""
        prefer = request.scope.prefer
        if not prefer or self._escalation is None or any(link.info.id == prefer for link in self._gauge.links):
            return False
        return any(link.info.id == prefer for link in self._escalation.links)

    def _next(self, tried: _Tried) -> Escalation | None:
        """Return who is asked now; None where the best answer is kept. Raises the error that left no answer."""
        escalation = self._escalation
        if escalation is None and not tried.answers and tried.error is not None:
            raise tried.error
        if tried.answers and tried.best.measured.reaches(self._threshold):
            return None
        return escalation

    def _why(self, tried: _Tried) -> str:
        if not tried.answers:
            return tried.spared or "no cheap model answered"
        best = tried.best
        if best.measured.reaches(self._threshold):
            return f"its confidence, {best.measured}, reaches {self._threshold:g}"
        if best.response.offline:
            return "the answer is made up"
        if best.measured.value is None:
            return "its confidence is not known"
        return f"its confidence, {best.measured}, is below {self._threshold:g}"

    def _kept(self, tried: _Tried, then: str = "") -> ChatResponse:
        best = tried.best
        return self._marked(tried, best.response, best.measured.value, escalated=False, then=then)

    def _escalated(self, tried: _Tried, response: ChatResponse) -> ChatResponse:
        return self._marked(tried, response, of_tokens(response).value, escalated=True)

    def _fallen(self, tried: _Tried, error: LLMError | BudgetExceeded, request: ChatRequest) -> ChatResponse:
        """Return the answer that was there before the expensive models failed; raise if there is none."""
        if not tried.answers:
            if isinstance(error, BudgetExceeded) or isinstance(tried.error, CapabilityMissing):
                raise error
            raise ChainExhausted(attempts=request.scope.ledger) from error
        if isinstance(error, BudgetExceeded) and self._escalation is not None:
            reason = f"the escalation is left out: {error.message}"
            refuse(self._recorder, self._escalation.links, reason, request.scope)
            return self._kept(tried, "the budget refused the others")
        return self._kept(tried, "the others did not answer")

    def _marked(
        self, tried: _Tried, response: ChatResponse, confidence: float | None, *, escalated: bool, then: str = ""
    ) -> ChatResponse:
        best = tried.best.measured if tried.answers else Measured()
        reason = self._why(tried)
        decided: dict[str, Any] = {
            "name": "cascade" if self._key == "strategy" else "confidence",
            "confidence": best.value,
            "by": best.by,
            "threshold": self._threshold,
            "reached": best.reaches(self._threshold),
            "tries": len(tried.answers),
            "escalated": escalated,
            "reason": f"{reason}; {then}" if then else reason,
        }
        return copied_response(response, confidence=confidence, extra={**response.extra, self._key: decided})


def _half(request: ChatRequest) -> ChatRequest:
    """Return ``request`` with half of the time that is left for it."""
    deadline = request.scope.deadline
    if deadline is None:
        return request
    now = asyncio.get_running_loop().time()
    return rescoped(request, deadline=now + max(0.0, deadline - now) / 2)


def _avoiding(request: ChatRequest, tried: _Tried) -> ChatRequest:
    """Return ``request`` for other models than those that failed just now, or whose answers were not good enough."""
    answered = {f"{answer.response.provider}:{answer.response.model}" for answer in tried.answers}
    failed = {f"{made.provider}:{made.model}" for made in request.scope.ledger if made.outcome not in _NO_FAILURE}
    asked = answered | failed
    return rescoped(request, avoid=request.scope.avoid | asked, passed=request.scope.passed | asked)
