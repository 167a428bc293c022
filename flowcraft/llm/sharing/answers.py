"""Answers that are kept for equal questions: as JSON in a store, and those that are just being given in this process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flowcraft.errors import ChainExhausted, StoreError
from flowcraft.llm.base import copied_response
from flowcraft.llm.ports import AnswerStore
from flowcraft.llm.sharing.stores import MemoryAnswers
from flowcraft.llm.sharing.threads import carried_out, looked_up
from flowcraft.plugin.chat import ChatResponse
from flowcraft.plugin.wire import from_json, to_json
from flowcraft.redaction import Redactor

WHOLE = frozenset({"stop", "length", "tool_calls"})
"""How an answer ends that may be given again."""

Outcome = str | Literal[False] | None
"""Of a question under way: its answer as JSON text; False: none that can be shared; None: nobody asks any more."""


def encoded(response: ChatResponse, redactor: Redactor) -> str | None:
    """Return an answer as JSON text; None for one that is not to be given again, or that tells a secret."""
    if response.offline or response.finish_reason not in WHOLE or _doubtful(response):
        return None
    try:
        text = json.dumps(to_json(copied_response(response, attempts=())), ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return None  # a plugin put something into it that JSON does not have
    return text if redactor.text(text) == text else None


def decoded(text: str) -> ChatResponse | None:
    """Return the answer of ``encoded``; None where the text was damaged."""
    try:
        data = json.loads(text)
        response = from_json(data) if isinstance(data, dict) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(response, ChatResponse) or to_json(response) != data:
        return None
    return response if isinstance(data.get("text", ""), str) and isinstance(data.get("usage", {}), dict) else None


def _doubtful(response: ChatResponse) -> bool:
    """Say whether a better answer might have come if everybody had been there to give or to judge it."""
    decided = [told for told in map(response.extra.get, ("strategy", "confidence")) if isinstance(told, dict)]
    unsure = any(told.get("reached") is False and not told.get("escalated") for told in decided)
    return unsure or any(bool(told.get("unjudged")) for told in decided)


@dataclass(eq=False, slots=True)
class Flight:
    """A question that somebody in this process has asked and that others may wait for."""

    key: str
    loop: asyncio.AbstractEventLoop
    landed: asyncio.Future[Outcome]


class AnswerBook:
    """Finds and keeps answers. ``clock`` tells seconds since the epoch; a store that fails is told to ``warn``, no more."""

    def __init__(
        self,
        store: AnswerStore | None = None,
        clock: Callable[[], float] = time.time,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._store = store or MemoryAnswers()
        self._clock = clock
        self._warn = warn
        self._lock = threading.Lock()
        self._flights: dict[str, Flight] = {}

    async def find(self, key: str, seconds: float, deadline: float | None) -> str | None:
        """Return the answer to a question if it was given in the last ``seconds``."""
        return await looked_up(lambda: self._find(key, seconds), deadline)

    async def keep(self, key: str, text: str, seconds: float, deadline: float | None) -> None:
        """Keep an answer for so many seconds."""
        await carried_out(lambda: self._keep(key, text, seconds), deadline)

    async def find_all(self, keys: Sequence[str], seconds: float) -> Mapping[str, str]:
        """Return those of what is kept under ``keys`` that were given in the last ``seconds``."""

        def look() -> dict[str, str]:
            return {key: text for key in keys if (text := self._find(key, seconds)) is not None}

        return await looked_up(look, None) or {}

    async def keep_all(self, texts: Mapping[str, str], seconds: float) -> None:
        """Keep each of ``texts`` under its key for so many seconds."""

        def keep() -> None:
            for key, text in texts.items():
                self._keep(key, text, seconds)

        await carried_out(keep, None)

    def take_off(self, key: str) -> Flight | None:
        """Begin to ask a question that nobody asks; None if somebody does. The result must ``land``."""
        loop = asyncio.get_running_loop()
        with self._lock:
            known = self._flights.get(key)
            if known is not None and not known.loop.is_closed():
                return None
            flight = self._flights[key] = Flight(key, loop, loop.create_future())
            return flight

    def land(self, flight: Flight, outcome: Outcome) -> None:
        """End a question, and tell all who wait for it what became of it."""
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        if not flight.landed.done():
            flight.landed.set_result(outcome)

    async def follow(self, key: str, deadline: float | None) -> Outcome:
        """Return what becomes of a question that somebody has asked. Raises ChainExhausted at ``deadline``."""
        loop = asyncio.get_running_loop()
        with self._lock:
            flight = self._flights.get(key)
        if flight is None:
            return None
        if flight.loop is not loop:
            return False
        await asyncio.wait([flight.landed], timeout=None if deadline is None else deadline - loop.time())
        if not flight.landed.done():
            raise ChainExhausted("no answer before the deadline: an equal question, which was waited for, has none yet")
        return flight.landed.result()

    def _find(self, key: str, seconds: float) -> str | None:
        now = self._clock()
        try:
            kept = self._store.get(key, now)
        except StoreError as error:
            self._warn(f"kept answers cannot be read for now: {error}")
            return None
        return kept.response if kept is not None and kept.created > now - seconds else None

    def _keep(self, key: str, text: str, seconds: float) -> None:
        now = self._clock()
        try:
            self._store.put(key, text, now, now + seconds)
        except StoreError as error:
            self._warn(f"answers cannot be kept for now: {error}")
