"""What becomes of a stream that breaks when its reader has seen some of it: anew, gone on with, kept, or asked for whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from flowcraft.errors import ChainExhausted, InvalidOutput, LLMError, ProviderUnavailable
from flowcraft.llm.base import Begun, Link, begin
from flowcraft.llm.policies.so_far import SoFar
from flowcraft.llm.replay import replayed
from flowcraft.llm.rules import ContinuationMode
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, Restart, Rollback, Scope, StreamEvent, TextDelta
from flowcraft.plugin.llm import LLM

TURNS = 2
"""How often one answer may come to a model at most, each time with its retries."""


class Continuation:
    """Lets an answer come to its end though the model that was streaming it fails. Whole answers pass through.

    ``mode`` says how. ``rest``, a chain of ``links``, brings what is left to its end, whatever strategy ``inner`` has. Asked
    are first the models that this answer has not come to yet, in their order; then the others once more, the one that was
    just cut last. Never after the deadline; time that the reader spends is not counted. ``warn`` is told of text that was
    kept.
    """

    def __init__(
        self,
        inner: LLM,
        rest: LLM,
        mode: ContinuationMode,
        links: Sequence[Link],
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._inner = inner
        self._rest = rest
        self._mode = mode
        self._links = links
        self._warn = warn

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the inner LLM."""
        return await self._inner.chat(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM, and mend what breaks after its first content."""
        time = asyncio.get_running_loop().time
        so_far = SoFar(request, self._mode, self._links)
        chances = _Chances(self._links, request.scope)
        texts = so_far.texts
        events = self._inner.stream(request)
        while True:
            failed: LLMError | None = None
            try:
                async with aclosing(events):
                    async for event in events:
                        if type(event) is TextDelta:
                            texts.append(event.text)
                        elif type(event) is Done:
                            done = event
                            break
                        else:
                            so_far.see(event)
                        shown = time()
                        yield event
                        so_far.held += time() - shown
                    else:
                        raise ProviderUnavailable("the stream ended before the answer was complete")
            except LLMError as error:
                if not so_far.begun:
                    raise
                failed = error
            if failed is None:
                yield so_far.done(done)
                return
            events = await self._mended(request, so_far, chances, failed)

    async def _mended(
        self, request: ChatRequest, so_far: SoFar, chances: _Chances, failed: LLMError
    ) -> AsyncGenerator[StreamEvent, None]:
        """Return the events that end the answer, as far as they come. Raises what keeps it from ending."""
        if self._mode == "keep" and so_far.can_be_kept:
            return self._kept(request, so_far, failed)
        going_on = self._mode == "continue" and so_far.can_be_gone_on_with
        why = so_far.cut()
        heads: list[StreamEvent] = [Restart(why)]
        if going_on:
            heads = [Rollback(so_far.damaged)] if so_far.damaged else []
        error = failed
        chances.took()
        while (passed := chances.next(offline=not going_on)) is not None and not _late(request.scope, so_far.held):
            try:
                first, events = await self._begun(so_far.asked(passed, going_on))
            except LLMError as refused:
                error = refused
                chances.passed()
            else:
                return _led([*heads, first], events)
        # Where others were asked besides, the error tells of all of them.
        raise error if so_far.cuts == 1 else ChainExhausted(attempts=request.scope.ledger) from failed

    async def _begun(self, asked: ChatRequest) -> Begun:
        if self._mode != "unstreamed":
            return await begin(self._rest, asked)
        events = replayed(await self._rest.chat(asked))
        return next(events), _led(events)

    def _kept(self, request: ChatRequest, so_far: SoFar, failed: LLMError) -> AsyncGenerator[StreamEvent, None]:
        if isinstance(failed, InvalidOutput) or request.output is not None:
            raise failed
        response = so_far.kept()
        self._warn(f"a stream of {response.provider}:{response.model} was cut; the text so far is taken for the answer")
        return _led([Done(response)])


class _Chances:
    """Which models one answer may still come to."""

    def __init__(self, links: Sequence[Link], scope: Scope) -> None:
        asked = [link.info for link in links if link.llm is not None and link.info.id not in scope.avoid]
        self._left = {info.id: TURNS for info in asked}
        self._offline = {info.id for info in asked if info.offline}
        self._ledger = scope.ledger
        self._read = 0
        self._cut = ""
        self._candidates: Iterable[str] = ()

    def took(self) -> None:
        """Note who was asked since the last time, the last of whom was cut."""
        news = self._ledger[self._read :]
        self._read = len(self._ledger)
        called = [self._id(attempt.provider, attempt.model) for attempt in news if attempt.outcome != "skipped"]
        ours = [id for id in called if id in self._left]
        for id in set(ours or self._candidates):
            self._left[id] -= 1
        self._cut = ours[-1] if ours else ""

    def passed(self) -> None:
        """Note that every model that was to be asked has had its turn, asked or skipped."""
        self._read = len(self._ledger)
        for id in self._candidates:
            self._left[id] -= 1

    def next(self, *, offline: bool) -> frozenset[str] | None:
        """Return whom to pass by so that those are asked whose turn it is; None when nobody is left."""
        real = {id: left for id, left in self._left.items() if id not in self._offline}
        fresh = [id for id, left in real.items() if left == TURNS]
        again = [id for id, left in real.items() if left > 0]
        others = [id for id in again if id != self._cut]
        rest = [id for id in self._offline if self._left[id] > 0] if offline else []
        self._candidates = fresh or others or again or rest
        if not self._candidates:
            return None
        return frozenset(self._left.keys() - set(self._candidates))

    def _id(self, provider: str, model: str) -> str:
        id = f"{provider}:{model}"
        # The name of a model that nobody named is known only once it was asked.
        unnamed = f"{provider}:*"
        return unnamed if id not in self._left and unnamed in self._left else id


async def _led(
    heads: Iterable[StreamEvent], events: AsyncGenerator[StreamEvent, None] | None = None
) -> AsyncGenerator[StreamEvent, None]:
    if events is None:
        for event in heads:
            yield event
        return
    async with aclosing(events):
        for event in heads:
            yield event
        async for event in events:
            yield event


def _late(scope: Scope, held: float) -> bool:
    return scope.deadline is not None and asyncio.get_running_loop().time() >= scope.deadline + held
