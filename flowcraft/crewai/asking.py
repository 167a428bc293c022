"""Who answers for an LLM of CrewAI's: a chain of models, asked from threads without a loop and from other loops."""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flowcraft.bridge import Bridge
from flowcraft.llm import Chain
from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, ChatResponse, StreamEvent

Heard = Callable[[StreamEvent], None]
"""Is told each event of a stream, in the thread, or on the loop, that asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What CrewAI wants to know of who answers: whether tools may be sent as such, images, stop words, and the window.

    ``window`` is the smallest context window of the chain's models in tokens; None where none is known.
    """

    tools: bool = True
    images: bool = False
    stop: bool = False
    window: int | None = None

    @classmethod
    def of(cls, chain: Chain, with_tools: Chain) -> Facts:
        """Return what is known of a chain, and of the same chain with tools."""
        links = [link for link in chain.links if link.llm is not None and not link.info.offline]
        return cls(
            tools=with_tools.capabilities().tools is not False,
            images=chain.capabilities().images is True,
            stop=all(link.info.capabilities.stop for link in links),
            window=min((link.info.context for link in links if link.info.context), default=None),
        )


class Answers(Protocol):
    """Answers requests for an LLM of CrewAI's."""

    name: str

    def facts(self) -> Facts:
        """Return what is known of who answers."""
        ...

    def ask(self, request: ChatRequest, heard: Heard | None = None) -> ChatResponse:
        """Answer; the calling thread waits. With ``heard``, the answer is streamed."""
        ...

    async def ask_async(self, request: ChatRequest, heard: Heard | None = None) -> ChatResponse:
        """Answer, for a caller on any loop."""
        ...


class Models:
    """The chain of a manager, asked on a loop of its own, so that all threads and loops share its connections.

    ``name`` is what the LLM is called. Ends with the process, or when nobody holds it any more.
    """

    def __init__(self, name: str, chains: Callable[[bool], Chain], bridge: Bridge) -> None:
        self.name = name
        self._chains = chains
        self._bridge = bridge

    @classmethod
    def of(
        cls,
        manager: LLMManager,
        tier: str | None = None,
        stage: str | None = None,
        *,
        order: str | None = None,
        strategy: str | None = None,
    ) -> Models:
        """Return the models of a tier, an alias, a model or a stage. Raises SettingsError."""

        def chains(tools: bool) -> Chain:
            # A stream's chunks cannot be taken back from CrewAI's readers: an answer that is cut is gone on with.
            return manager.llm(tier, stage=stage, order=order, strategy=strategy, tools=tools, continuation="continue")

        chains(False)  # what is wrong with settings is said now
        bridge = Bridge()
        made = cls(f"flowcraft/{tier or stage or 'default'}", chains, bridge)
        weakref.finalize(made, close_with_process, manager, bridge)
        return made

    def facts(self) -> Facts:
        """Return what is known of the chain."""
        return Facts.of(self._chains(False), self._chains(True))

    def ask(self, request: ChatRequest, heard: Heard | None = None) -> ChatResponse:
        """Answer; the calling thread waits. With ``heard``, the answer is streamed. Raises LLMError, BudgetExceeded."""
        if heard is None:
            return self._bridge.run(self._chained(request))
        events: queue.SimpleQueue[StreamEvent | None] = queue.SimpleQueue()
        future = self._bridge.start(self._streamed(request, events.put))
        future.add_done_callback(lambda _: events.put(None))
        try:
            while (event := events.get()) is not None:
                heard(event)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def ask_async(self, request: ChatRequest, heard: Heard | None = None) -> ChatResponse:
        """Answer, for a caller on any loop; cancelled, the call is given up. Raises LLMError, BudgetExceeded."""
        if heard is None:
            return await asyncio.wrap_future(self._bridge.start(self._chained(request)))
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()

        def put(event: StreamEvent | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        future = self._bridge.start(self._streamed(request, put))
        future.add_done_callback(lambda _: put(None))
        try:
            while (event := await events.get()) is not None:
                heard(event)
            return await asyncio.wrap_future(future)
        except BaseException:
            future.cancel()
            raise

    async def _chained(self, request: ChatRequest) -> ChatResponse:
        return await self._chains(bool(request.tools)).chat(request)

    async def _streamed(self, request: ChatRequest, put: Heard) -> ChatResponse:
        async with self._chains(bool(request.tools)).stream(request) as stream:
            async for event in stream:
                put(event)
        assert stream.response is not None, "a stream that raised nothing has its response"
        return stream.response


def close_with_process(manager: LLMManager, bridge: Bridge) -> None:
    """Close the connections and save what statistics hold."""
    if threading.main_thread().is_alive():  # the collector calls, maybe inside of what holds locks that closing needs
        bridge.stop(manager.close)
        return
    bridge.close()
    manager.close()
