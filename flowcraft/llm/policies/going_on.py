"""Make one model go on with an answer that another had begun: from its very last character, or told to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from flowcraft.llm.base import copied_request, rescoped
from flowcraft.llm.seam import Seam, last_words
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, StreamEvent, Switch, TextDelta
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.messages import Message

GO_ON = """\
The connection broke before your answer above was complete. Go on with it exactly where it stops, as if nothing had happened: \
begin with its last words again, which are

{words}

and then write what follows them, in the same language and form. Say nothing about the interruption, and repeat nothing of \
what stands before these words. If the answer is complete, write these words only."""


def means(info: ModelInfo, request: ChatRequest) -> Literal["prefill", "instruction"]:
    """Return how a model goes on. Where the request has a prefix anyway, its models are taken to go on from one."""
    able = info.capabilities.prefill or info.capabilities.continue_exact or request.prefix
    return "prefill" if able else "instruction"


class GoingOn:
    """Lets the inner LLM go on from the request's ``scope.so_far``, if there is any; ``Switch`` comes before its text.

    A model that is known to take a beginning of its answer gets the text so far as the request's ``prefix``; any other is
    told to go on, and what it repeats at the seam is left out.
    """

    def __init__(self, inner: LLM, info: ModelInfo) -> None:
        self._inner = inner
        self._info = info

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the inner LLM."""
        return await self._inner.chat(request)

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM, from where the answer stopped."""
        if not request.scope.so_far:
            return self._inner.stream(request)
        if means(self._info, request) == "prefill":
            return self._prefilled(request)
        return self._instructed(request)

    async def _prefilled(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        asked = copied_request(rescoped(request, so_far=""), prefix=request.prefix + request.scope.so_far)
        switch: Switch | None = self._switch
        async with aclosing(self._inner.stream(asked)) as events:
            async for event in events:
                if switch is not None:
                    yield switch
                    switch = None
                yield event

    async def _instructed(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        seam = Seam(request.scope.so_far)
        switch: Switch | None = self._switch
        async with aclosing(self._inner.stream(_told(request))) as events:
            async for event in events:
                shown = seam.add(event.text) if type(event) is TextDelta else seam.end() if type(event) is Done else ""
                if type(event) is TextDelta and not shown:
                    continue
                if switch is not None:
                    yield switch
                    switch = None
                if shown:
                    yield TextDelta(shown)
                if type(event) is not TextDelta:
                    yield event

    @property
    def _switch(self) -> Switch:
        return Switch(self._info.model, self._info.provider)


def _told(request: ChatRequest) -> ChatRequest:
    so_far = request.scope.so_far
    words = last_words(so_far)
    messages = (*request.messages, Message.assistant(so_far), Message.user(GO_ON.format(words=words)))
    # A repeated character is a token at most.
    limit = None if request.max_tokens is None else request.max_tokens + len(words)
    return copied_request(rescoped(request, so_far=""), messages=messages, max_tokens=limit)
