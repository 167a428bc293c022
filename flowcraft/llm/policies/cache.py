"""Give the same answer to the same question for a while, at no cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from flowcraft.llm.base import copied_response
from flowcraft.llm.replay import replayed
from flowcraft.llm.sharing.answers import AnswerBook, Flight, Outcome, decoded, encoded
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, StreamEvent
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.wire import content_hash
from flowcraft.redaction import Redactor


class Cache:
    """Answers what was asked word for word in the last ``seconds`` from the book; all else by the inner LLM.

    Of equal questions that are under way at once in one loop, one is asked and the others get its answer. If it fails, each
    asks for itself; if whoever asked is cancelled, the next one asks. Streams are replayed, and kept when they are complete;
    they wait for nobody.
    """

    def __init__(self, inner: LLM, book: AnswerBook, chain: str, seconds: float, redactor: Redactor) -> None:
        self._inner = inner
        self._book = book
        self._chain = chain
        self._seconds = seconds
        self._redactor = redactor

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer from the book, or by the inner LLM."""
        key = self._key(request)
        if not key:
            return await self._inner.chat(request)
        began = asyncio.get_running_loop().time()
        while (flight := self._book.take_off(key)) is None:
            outcome = await self._book.follow(key, request.scope.deadline)
            if outcome is False:
                return await self._inner.chat(request)
            if outcome is not None and (shared := _again(outcome, began)) is not None:
                return shared
        return await self._fly(flight, request, began)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Replay an answer from the book, or stream from the inner LLM."""
        key = self._key(request)
        began = asyncio.get_running_loop().time()
        found = await self._book.find(key, self._seconds, request.scope.deadline) if key else None
        if found is not None and (hit := _again(found, began)) is not None:
            for event in replayed(hit):
                yield event
            return
        last: Done | None = None
        async with aclosing(self._inner.stream(request)) as events:
            async for event in events:
                if isinstance(event, Done):
                    last = event
                    break
                yield event
        if last is not None:
            if key and (text := encoded(last.response, self._redactor)) is not None:
                await self._book.keep(key, text, self._seconds, request.scope.deadline)
            yield last

    async def _fly(self, flight: Flight, request: ChatRequest, began: float) -> ChatResponse:
        outcome: Outcome = None
        try:
            found = await self._book.find(flight.key, self._seconds, request.scope.deadline)
            if found is not None and (hit := _again(found, began)) is not None:
                outcome = found
                return hit
            response = await self._inner.chat(request)
            text = encoded(response, self._redactor)
            outcome = False if text is None else text
            if text is not None:
                await self._book.keep(flight.key, text, self._seconds, request.scope.deadline)
            return response
        except Exception:
            outcome = False
            raise
        finally:
            self._book.land(flight, outcome)

    def _key(self, request: ChatRequest) -> str:
        """Return what an answer is kept under; empty for a question that cannot be told from others."""
        scope = request.scope
        if scope.check is not None:
            return ""
        try:
            asked = content_hash(request)
        except (TypeError, ValueError, RecursionError):
            return ""  # something in ``extra`` that JSON does not have
        return f"{asked}:{self._chain}:{scope.prefer}:{','.join(sorted(scope.avoid))}"


def _again(text: str, began: float) -> ChatResponse | None:
    """Return a kept answer as it is given again; None where it was damaged."""
    response = decoded(text)
    if response is None:
        return None
    seconds = asyncio.get_running_loop().time() - began
    return copied_response(response, cached=True, usd=0.0, seconds=seconds, first_token=None)
