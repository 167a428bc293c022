"""Ask the next model as soon as the one before failed or is late; the first that answers wins.

The staggered form of hedged requests: J. Dean and L. A. Barroso, The Tail at Scale, CACM 56 (2013).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from flowcraft.errors import BudgetExceeded, LLMError
from flowcraft.llm.base import Begun, begin, chat, copied_response, rescoped
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.policies.turn import Lineup, Step, Turn
from flowcraft.llm.ports import LOST
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, StreamEvent
from flowcraft.plugin.llm import LLM

R = TypeVar("R")

MOST_SAVED = 10.0
"""Hedges that may follow on each other after a time in which none was needed."""


class HedgeBudget:
    """How many answers may be hedged: a share of all of them. Shared by chains, loops and threads."""

    def __init__(self) -> None:
        self._saved = 0.0
        self._lock = threading.Lock()

    def earn(self, share: float) -> None:
        """Count an answer, of which ``share`` may be hedged."""
        with self._lock:
            self._saved = min(self._saved + share, MOST_SAVED)

    def spend(self) -> bool:
        """Take a hedge, and say whether there was one."""
        with self._lock:
            if self._saved < 1 - 1e-9:
                return False
            self._saved -= 1
            return True


class Hedge:
    """Asks links in turn like Fallback, and does not wait for one that is late: the next runs beside it.

    A model is late when it has not answered, or begun its stream, by the time in which 95 % of its calls do; one of which
    too little is known never is, and the time that a call waits for its model's limits is not counted. At most ``max_share``
    of the answers get a second call that way. As soon as a model produces content the others are cancelled, and their
    connections are closed before that content is passed on.
    """

    def __init__(self, lineup: Lineup, statistics: Statistics, budget: HedgeBudget, max_share: float) -> None:
        self._lineup = lineup
        self._statistics = statistics
        self._budget = budget
        self._share = max_share

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer by the first model that does."""
        race: _Race[ChatResponse] = await self._race(request, chat, _drop, streamed=False)
        return _told(await race.run(), race)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the first model that begins; what fails after its first event is not mended here."""
        race: _Race[Begun] = await self._race(request, begin, _close, streamed=True)
        event, events = await race.run()
        async with aclosing(events):
            yield event
            async for event in events:
                yield Done(_told(event.response, race)) if type(event) is Done else event

    async def _race(
        self,
        request: ChatRequest,
        ask: Callable[[LLM, ChatRequest], Awaitable[R]],
        discard: Callable[[R], Awaitable[None]],
        *,
        streamed: bool,
    ) -> _Race[R]:
        self._budget.earn(self._share)
        await self._statistics.refresh()
        turn = await self._lineup.turn(request)

        def late_after(step: Step) -> float | None:
            info, stage = step.link.info, request.scope.stage
            return self._statistics.late_after(info.provider, info.model, streamed=streamed, stage=stage)

        return _Race(turn, ask, discard, late_after, self._budget if self._share else None)


class _Runner:
    """One call of a race. ``lost`` says that another had the answer first."""

    __slots__ = ("_began", "_held", "_loop", "lost", "step")

    def __init__(self, step: Step) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._held: float | None = None
        self.lost = False
        self.step = step._replace(request=rescoped(step.request, lost=lambda: self.lost, held=self._hold))

    def began(self) -> float:
        """Return when the call began, or would have without the time that limits held it back."""
        return self._began if self._held is None else self._began + self._loop.time() - self._held

    def _hold(self, held: bool) -> None:
        self._began, self._held = self.began(), self._loop.time() if held else None


class _Race(Generic[R]):
    """One answer: the calls that run beside each other until one of them has it."""

    def __init__(
        self,
        turn: Turn,
        ask: Callable[[LLM, ChatRequest], Awaitable[R]],
        discard: Callable[[R], Awaitable[None]],
        late_after: Callable[[Step], float | None],
        budget: HedgeBudget | None,
    ) -> None:
        self._turn = turn
        self._ask = ask
        self._discard = discard
        self._late_after = late_after
        self._budget = budget
        self._running: dict[asyncio.Task[R], _Runner] = {}
        self._newest: asyncio.Task[R] | None = None
        self._late: float | None = None
        self._after = 0.0
        self.hedged = False
        self.lost: list[str] = []

    async def run(self) -> R:
        """Return what the first model to answer said; raises ChainExhausted when none does."""
        try:
            while True:
                if not self._running:
                    self._start()
                ended = await self._ended()
                winner = next((task for task in ended if task.exception() is None), None)
                for task in ended:
                    if task.exception() is not None:
                        self._failed(task, over=winner is not None)
                if winner is not None:
                    return await self._won(winner)
        finally:
            await self._end()

    def _start(self) -> None:
        step = self._turn.next()
        if step is None:
            raise self._turn.exhausted()
        runner = _Runner(step)
        loop = asyncio.get_running_loop()
        after = None if self._budget is None else self._late_after(step)
        self._after, self._late = after or 0.0, None if after is None else loop.time() + after
        self._newest = loop.create_task(_asked(self._ask, runner.step))
        self._running[self._newest] = runner

    async def _ended(self) -> Sequence[asyncio.Task[R]]:
        """Return the calls that have ended, in the order in which they began; hedge meanwhile when it is time to."""
        while True:
            left = None if self._late is None else self._late - asyncio.get_running_loop().time()
            if left is None or left > 0:
                await asyncio.wait(self._running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if ended := [task for task in self._running if task.done()]:
                return ended
            if not self._held_back():
                self._hedge()

    def _held_back(self) -> bool:
        """Say whether the newest call is late only because it had to wait, and if so, look again when it may be."""
        runner = self._running.get(self._newest) if self._newest is not None else None
        if runner is None:
            return False
        self._late = runner.began() + self._after
        return self._late > asyncio.get_running_loop().time()

    def _hedge(self) -> None:
        """Ask the next model beside those that run, if there is one that may be asked."""
        self._late = None
        ahead = self._turn.ahead()
        if self._budget is None or ahead is None or ahead.info.offline:
            return
        if not self._budget.spend():
            self._turn.skip(ahead, "no hedge: max_share of all answers were hedged already")
            return
        self.hedged = True
        self._start()

    def _failed(self, task: asyncio.Task[R], *, over: bool) -> None:
        """Take note of a call that failed, and see to what comes next if the race is not ``over``."""
        step, error = self._running.pop(task).step, task.exception()
        if isinstance(error, BudgetExceeded) and (over or self._running):
            # Nobody waits for this one while somebody else may answer. If nobody does, it is asked again: what the others
            # had reserved may have been given back by then.
            self._turn.skip(step.link, f"no hedge: {error.message}")
            if not self._turn.has_asked(step.link):
                self._turn.put_back(step.link)
            self._late = None
        elif isinstance(error, LLMError):
            self._turn.failed(step.link, error)
            if task is self._newest and self._running and not over:
                self._hedge()
        elif error is not None:
            raise error

    async def _won(self, winner: asyncio.Task[R]) -> R:
        """Close all others, then return the answer of the winner."""
        del self._running[winner]
        for runner in self._running.values():
            runner.lost = True
            self.lost.append(runner.step.link.info.id)
        try:
            await self._end(LOST)
        except BaseException:
            await self._discard(winner.result())
            raise
        return winner.result()

    async def _end(self, message: str | None = None) -> None:
        """Cancel the calls that run, wait until they have ended, and close what they brought meanwhile.

        None of them is left behind: a cancellation that comes while this waits is heeded when all have ended.
        """
        tasks, self._running = list(self._running), {}
        for task in tasks:
            task.cancel(message)
        cancelled: asyncio.CancelledError | None = None
        while waiting := [task for task in tasks if not task.done()]:
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError as error:
                cancelled = error
        for task in tasks:
            if not task.cancelled() and task.exception() is None:
                await self._discard(task.result())
        if cancelled is not None:
            raise cancelled


async def _asked(ask: Callable[[LLM, ChatRequest], Awaitable[R]], step: Step) -> R:
    return await ask(step.llm, step.request)


async def _drop(response: ChatResponse) -> None:
    """A whole answer holds nothing that is to be closed."""


async def _close(begun: Begun) -> None:
    await begun[1].aclose()


def _told(response: ChatResponse, race: _Race[Any]) -> ChatResponse:
    story = {"name": "hedge", "hedged": race.hedged, "lost": list(race.lost)}
    return copied_response(response, extra={**response.extra, "strategy": story})
