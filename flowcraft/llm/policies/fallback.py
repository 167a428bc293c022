"""Ask one model after the other until one answers, each in its share of the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import TypeVar

from flowcraft.errors import CapabilityMissing, ChainExhausted, CircuitOpen, ContextTooLong, LLMError
from flowcraft.llm.base import Link, begin, chat, rescoped
from flowcraft.llm.policies.recording import Recorder
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Scope, StreamEvent
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.messages import Audio, File, Image, Video

R = TypeVar("R")
Order = Callable[[Sequence[Link], Scope], Awaitable[Sequence[Link]]]
"""Sorts the links of one role for one answer; what is known may differ by its stage and task."""

_MEDIA: dict[type, str] = {Image: "images", Audio: "audio_in", Video: "video", File: "files"}


def needs(request: ChatRequest) -> frozenset[str]:
    """Return what a model must be able to do to answer ``request`` at all.

    Not among it is what we can do in its stead: a schema (by instruction), a stream (of one piece).
    """
    found = {_MEDIA[type(part)] for message in request.messages for part in message.parts if type(part) in _MEDIA}
    if request.tools:
        found.add("tools")
    if request.logprobs:
        found.add("logprobs")
    if request.n is not None and request.n > 1:
        found.add("n")
    if "audio" in request.modalities:
        found.add("audio_out")
    if request.prefix:
        found.add("prefill")
    return frozenset(found)


class Fallback:
    """Asks links in turn. Skips the ones that cannot answer, and notes each skip with its reason.

    An attempt may take ``timeout`` seconds, and never more than half of what is left until the deadline, so that a model
    that hangs leaves time for those behind it; the last may take all that is left. ``order`` sorts the links of one role,
    asked at each call. Offline links always come last. ``warn`` is told where it is not known whether a model can do what it
    is asked for.
    """

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
        self._warn = warn
        self._links = sorted(links, key=lambda link: link.info.offline)
        self._recorder = recorder
        self._timeout = timeout
        self._order = order
        self._require = require

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the first model that can."""
        return await self._answer(request, chat)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the first model that begins; what fails after its first event is not mended here."""
        first, events = await self._answer(request, begin)
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    async def _answer(self, request: ChatRequest, ask: Callable[[LLM, ChatRequest], Awaitable[R]]) -> R:
        loop = asyncio.get_running_loop()
        turn = _Turn(request.scope, self._require | needs(request))
        waiting = await self._candidates(request.scope)
        failed: LLMError | None = None
        while waiting:
            link = waiting.pop(0)
            now = loop.time()
            reason = turn.why_not(link, now)
            if reason or link.llm is None:
                self._recorder.skip(link.info, link.role, reason, request.scope)
                continue
            if turn.wanted and (unknown := link.info.capabilities.unknown(turn.wanted)):
                self._warn(
                    f"it is not known whether {link.info.id} can do: {', '.join(sorted(unknown))}; it is asked nevertheless"
                )
            last = not any(turn.may(other, now) for other in waiting)
            until = turn.until(now, self._timeout, last)
            try:
                return await ask(link.llm, rescoped(request, until=until, last=last))
            except CircuitOpen as error:
                self._recorder.skip(link.info, link.role, error.message, request.scope)
            except ContextTooLong as error:
                failed = error
                waiting = _larger_first(waiting, link)
            except LLMError as error:
                failed = error
        raise turn.exhausted() from failed

    async def _candidates(self, scope: Scope) -> list[Link]:
        links = self._links if self._order is None else await self._in_order(self._order, scope)
        if scope.prefer:
            return sorted(links, key=lambda link: link.info.id != scope.prefer)
        return list(links)

    async def _in_order(self, order: Order, scope: Scope) -> list[Link]:
        found: list[Link] = []
        for (_, offline), links in groupby(self._links, key=lambda link: (link.role, link.info.offline)):
            role = list(links)
            found += role if offline or len(role) == 1 else await order(role, scope)
        return found


class _Turn:
    """One answer's way along the links."""

    def __init__(self, scope: Scope, wanted: frozenset[str]) -> None:
        self._scope = scope
        self.wanted = wanted
        self._lacking: set[str] = set()
        self._only_lacking = True

    def why_not(self, link: Link, now: float) -> str:
        """Return why ``link`` is to be skipped; empty when it is to be asked."""
        if lacks := self._lacks(link):
            self._lacking |= lacks
            return f"it cannot do: {', '.join(sorted(lacks))}"
        self._only_lacking = False
        if reason := self._blocked(link, now):
            return reason
        late = self._scope.deadline is not None and now >= self._scope.deadline
        return "no time was left before the deadline" if late else ""

    def may(self, link: Link, now: float) -> bool:
        """Say whether ``link`` could be asked if its turn came."""
        return not self._lacks(link) and not self._blocked(link, now)

    def until(self, now: float, timeout: float, last: bool) -> float | None:
        """Return the latest end of an attempt that begins now."""
        deadline = self._scope.deadline
        if last:
            return deadline
        return now + timeout if deadline is None else now + min(timeout, (deadline - now) / 2)

    def exhausted(self) -> LLMError:
        """Return the error that tells the whole story."""
        if self._lacking and self._only_lacking:
            told = ", ".join(sorted(self._lacking))
            return CapabilityMissing(f"no model of the chain can do what the request needs: {told}")
        return ChainExhausted(attempts=self._scope.ledger)

    def _lacks(self, link: Link) -> frozenset[str]:
        return link.info.capabilities.lacks(self.wanted) if self.wanted else self.wanted

    def _blocked(self, link: Link, now: float) -> str:
        if link.llm is None:
            return link.skip or "its provider is not configured"
        if link.info.id in self._scope.avoid:
            return "the request is not to go to this model"
        return link.health.blocked(now) if link.health is not None else ""


def _larger_first(links: list[Link], failed: Link) -> list[Link]:
    """Put models whose window is known to be larger than that of ``failed`` in front; offline ones stay behind."""
    window = failed.info.context
    if window is None:
        return links
    return sorted(links, key=lambda link: link.info.offline or (link.info.context or 0) <= window)
