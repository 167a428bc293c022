"""One answer's way along the links of a chain: whose turn it is, who is skipped and why, how long each may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from flowcraft.errors import CapabilityMissing, ChainExhausted, CircuitOpen, ContextTooLong, LLMError
from flowcraft.llm.base import Link, calls_of, rescoped
from flowcraft.llm.policies.recording import Recorder
from flowcraft.plugin.chat import ChatRequest, Scope
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.messages import Audio, File, Image, Video

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


class Step(NamedTuple):
    """Whose turn it is, and what it is asked."""

    link: Link
    llm: LLM
    request: ChatRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """The links of a chain and the rules by which they are asked.

    An attempt may take ``timeout`` seconds, and never more than half of what is left until the deadline, so that a model
    that hangs leaves time for those behind it; the last may take all that is left. ``order`` sorts the links of one role,
    asked at each answer. Offline links always come last. ``warn`` is told where it is not known whether a model can do what
    it is asked for.
    """

    links: Sequence[Link]
    recorder: Recorder
    timeout: float
    order: Order | None = None
    require: frozenset[str] = frozenset()
    warn: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        object.__setattr__(self, "links", sorted(self.links, key=lambda link: link.info.offline))

    async def turn(self, request: ChatRequest) -> Turn:
        """Begin an answer to ``request``."""
        return Turn(self, request, await self._candidates(request.scope))

    async def _candidates(self, scope: Scope) -> list[Link]:
        links = list(self.links) if self.order is None else await self._in_order(self.order, scope)
        if scope.prefer:
            links.sort(key=lambda link: link.info.id != scope.prefer)
        return links

    async def _in_order(self, order: Order, scope: Scope) -> list[Link]:
        found: list[Link] = []
        for (_, offline), links in groupby(self.links, key=lambda link: (link.role, link.info.offline)):
            role = list(links)
            found += role if offline or len(role) == 1 else await order(role, scope)
        return found


class Turn:
    """One answer's way along the links. Notes each skip with its reason."""

    def __init__(self, lineup: Lineup, request: ChatRequest, waiting: list[Link]) -> None:
        self._lineup = lineup
        self._request = request
        self._scope = request.scope
        self._waiting = waiting
        self._wanted = lineup.require | needs(request)
        self._lacking: set[str] = set()
        self._only_lacking = True
        self._failed: LLMError | None = None
        self._loop = asyncio.get_running_loop()

    def next(self) -> Step | None:
        """Return whom to ask now, and what; None when nobody is left."""
        waiting = self._waiting
        while waiting:
            link = waiting.pop(0)
            now = self._loop.time()
            reason = self._why_not(link, now)
            if reason or link.llm is None:
                self.skip(link, reason)
                continue
            self._warn_of_unknown(link)
            last = not any(self._may(other, now) for other in waiting)
            return Step(link, link.llm, rescoped(self._request, until=self._until(now, last), last=last))
        return None

    def ahead(self) -> Link | None:
        """Return whose turn would come next, without taking it."""
        now = self._loop.time()
        late = self._scope.deadline is not None and now >= self._scope.deadline
        return None if late else next((link for link in self._waiting if self._may(link, now)), None)

    def put_back(self, link: Link) -> None:
        """Let ``link``, whose turn it was, have the next turn as well."""
        self._waiting.insert(0, link)

    def has_asked(self, link: Link) -> bool:
        """Say whether a call went out to ``link`` in this answer."""
        return calls_of(link.info, self._scope.ledger) > 0

    def skip(self, link: Link, reason: str) -> None:
        """Note that ``link`` was not asked, and why."""
        self._lineup.recorder.skip(link.info, link.role, reason, self._scope)

    def failed(self, link: Link, error: LLMError) -> None:
        """Take note of why ``link``, whose turn it was, did not answer."""
        if isinstance(error, CircuitOpen):
            self.skip(link, error.message)
            return
        self._failed = error
        if isinstance(error, ContextTooLong):
            self._waiting = _larger_first(self._waiting, link)

    def exhausted(self) -> LLMError:
        """Return the error that tells the whole story."""
        if self._lacking and self._only_lacking:
            told = ", ".join(sorted(self._lacking))
            return CapabilityMissing(f"no model of the chain can do what the request needs: {told}")
        error = ChainExhausted(attempts=self._scope.ledger)
        error.__cause__ = self._failed
        return error

    def _why_not(self, link: Link, now: float) -> str:
        if lacks := self._lacks(link):
            self._lacking |= lacks
            return f"it cannot do: {', '.join(sorted(lacks))}"
        self._only_lacking = False
        if reason := self._blocked(link, now):
            return reason
        late = self._scope.deadline is not None and now >= self._scope.deadline
        return "no time was left before the deadline" if late else ""

    def _may(self, link: Link, now: float) -> bool:
        """Say whether ``link`` could be asked if its turn came."""
        return not self._lacks(link) and not self._blocked(link, now)

    def _until(self, now: float, last: bool) -> float | None:
        """Return the latest end of an attempt that begins now."""
        deadline, timeout = self._scope.deadline, self._lineup.timeout
        if last:
            return deadline
        return now + timeout if deadline is None else now + min(timeout, (deadline - now) / 2)

    def _lacks(self, link: Link) -> frozenset[str]:
        return link.info.capabilities.lacks(self._wanted) if self._wanted else self._wanted

    def _blocked(self, link: Link, now: float) -> str:
        if link.llm is None:
            return link.skip or "its provider is not configured"
        if link.info.id in self._scope.avoid:
            return "the request is not to go to this model"
        return link.health.blocked(now) if link.health is not None else ""

    def _warn_of_unknown(self, link: Link) -> None:
        if self._wanted and (unknown := link.info.capabilities.unknown(self._wanted)):
            told = ", ".join(sorted(unknown))
            self._lineup.warn(f"it is not known whether {link.info.id} can do: {told}; it is asked nevertheless")


def _larger_first(links: list[Link], failed: Link) -> list[Link]:
    """Put models whose window is known to be larger than that of ``failed`` in front; offline ones stay behind."""
    window = failed.info.context
    if window is None:
        return links
    return sorted(links, key=lambda link: link.info.offline or (link.info.context or 0) <= window)
