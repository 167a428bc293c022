"""Let two models answer at once, and a third say which answer is the better one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any

from flowcraft.errors import BudgetExceeded, LLMError
from flowcraft.llm.base import Link, begin, chat, copied_response, rescoped
from flowcraft.llm.judging import Jury, Ruling, equal, together
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.policies.fallback import in_turn
from flowcraft.llm.policies.turn import Lineup, Step, Turn
from flowcraft.llm.ports import VerdictRecord
from flowcraft.llm.replay import replayed
from flowcraft.llm.rules import AdaptiveRules
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, Progress, Scope, StreamEvent
from flowcraft.redaction import Redactor

NAME = "best_of_two"
SPARED = frozenset({"reserve", "fallback"})
"""Roles that never contest: they are there for when nobody else answers."""
EVEN = 1e-6
"""Ratings that differ by less are equal."""

Tell = Callable[[str], None]


def contests(link: Link) -> bool:
    """Say whether a link may be a contestant."""
    return link.role not in SPARED and not link.info.offline


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """How an answer begins: the two that contest, or why there is no contest, and who was left out of it."""

    turn: Turn
    pair: tuple[Step, Step] | None = None
    why: str = ""
    left_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """What came of one contestant: a response, or what kept it from one. ``seconds`` is how long that took."""

    link: Link
    response: ChatResponse | None = None
    failure: str = ""
    refused: BudgetExceeded | None = None
    seconds: float = 0.0


class BestOfTwo:
    """Asks the first two links that can be asked at once, and lets ``jury`` decide which answer stands.

    Contestants are never of the roles reserve and fallback; each may take the ``lineup``'s time limit and half of what is
    left. If one of them fails, or the budget refuses it, the other's answer stands unjudged; if both fail, the rest of the
    links is asked in turn; if the first is refused and the second does not answer, that is raised. A tie is decided by
    rating, then by speed. Without a verdict the first contestant's answer stands. Verdicts go to ``statistics``; once these
    say that a contestant cannot win in a stage, it is left out but for a share of the answers.
    The response tells what was decided in ``extra["strategy"]``.
    """

    def __init__(
        self,
        lineup: Lineup,
        jury: Jury,
        statistics: Statistics,
        *,
        adaptive: AdaptiveRules,
        random: Random,
        redactor: Redactor,
    ) -> None:
        self._lineup = lineup
        self._jury = jury
        self._statistics = statistics
        self._adaptive = adaptive
        self._random = random
        self._redactor = redactor

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Return the better one of two answers."""
        opening = await self._open(request)
        why = opening.why
        if opening.pair is not None:
            response = await self._contest(request, opening.turn, opening.pair, lambda text: None)
            if response is not None:
                return response
            why = "neither contestant answered"
        return _marked(await in_turn(opening.turn, chat), unjudged=why, other=opening.left_out)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Tell what goes on while both answer and the judge decides, then show the answer that stands."""
        opening = await self._open(request)
        why = opening.why
        if opening.pair is not None:
            told: asyncio.Queue[str | None] = asyncio.Queue()
            contest = asyncio.ensure_future(self._contest(request, opening.turn, opening.pair, told.put_nowait))
            contest.add_done_callback(lambda _: told.put_nowait(None))
            try:
                while (message := await told.get()) is not None:
                    yield Progress(message)
                response = await contest
            finally:
                contest.cancel()
                await asyncio.gather(contest, return_exceptions=True)
            if response is not None:
                for event in replayed(response):
                    yield event
                return
            why = "neither contestant answered"
        first, events = await in_turn(opening.turn, begin)
        async with aclosing(events):
            yield _marking(first, why, opening.left_out)
            async for event in events:
                yield _marking(event, why, opening.left_out)

    async def _open(self, request: ChatRequest) -> _Opening:
        await self._statistics.refresh()
        turn = await self._lineup.turn(request)
        scope = request.scope
        if scope.prefer or scope.so_far:
            why = f"{scope.prefer} was asked for" if scope.prefer else "the answer has begun already"
            return _Opening(turn=turn, why=why)
        first = turn.next()
        if first is None:
            return _Opening(turn=turn)
        ahead = turn.ahead()
        if ahead is None or not contests(first.link) or not contests(ahead):
            turn.put_back(first.link)
            return _Opening(turn=turn, why="fewer than two models could be asked")
        second = turn.next()
        if second is None:
            turn.put_back(first.link)
            return _Opening(turn=turn, why="fewer than two models could be asked")
        weak = self._weak(first.link, second.link, scope)
        if weak is None:
            return _Opening(turn=turn, pair=(first, second))
        strong = second.link if weak is first.link else first.link
        reason = f"it seldom wins against {strong.info.id}" + (f" in stage {scope.stage}" if scope.stage else "")
        turn.skip(weak, f"left out of the contest: {reason}")
        turn.put_back(weak)
        turn.put_back(strong)
        return _Opening(turn=turn, why=f"{weak.info.id} was left out: {reason}", left_out=weak.info.id)

    def _weak(self, first: Link, second: Link, scope: Scope) -> Link | None:
        """Return which of two contestants is not worth asking this time."""
        rules = self._adaptive
        out = self._statistics.standing.out(first.info.id, second.info.id, stage=scope.stage, level=rules.level)
        if not out or self._random.random() < rules.explore:
            return None
        return first if out == first.info.id else second

    async def _contest(self, request: ChatRequest, turn: Turn, pair: tuple[Step, Step], tell: Tell) -> ChatResponse | None:
        """Return the answer that stands; None when neither contestant gave one. Raises BudgetExceeded."""
        tell(f"{pair[0].link.info.id} and {pair[1].link.info.id} answer")
        # Which of the two the budget refuses, where it has room for one, is chance: what is allowed then counts as the first.
        first, second = await together(*(self._entered(turn, step, tell) for step in pair))
        if first.response is None or second.response is None:
            lone, failed = (second, first) if first.response is None else (first, second)
            if lone.response is None:
                if first.refused is not None:
                    raise first.refused
                return None
            why = f"{failed.link.info.id} {failed.failure}"
            return _marked(lone.response, contestants=_ids(first, second), unjudged=why, other=failed.link.info.id)
        ruling = await self._ruled(request, first, second, tell)
        return self._settled(request.scope, first, second, ruling)

    async def _entered(self, turn: Turn, step: Step, tell: Tell) -> _Entry:
        loop, link = asyncio.get_running_loop(), step.link
        began = loop.time()
        try:
            response = await step.llm.chat(self._limited(step.request, began))
        except LLMError as error:
            turn.failed(link, error)
            entry = _Entry(link=link, failure=f"failed: {type(error).__name__}", seconds=loop.time() - began)
        except BudgetExceeded as error:
            turn.skip(link, f"a contestant is left out: {error.message}")
            entry = _Entry(link=link, failure="was left out: the budget does not allow it", refused=error)
        else:
            entry = _Entry(link=link, response=response, seconds=loop.time() - began)
        tell(f"{link.info.id} {entry.failure or 'has answered'}")
        return entry

    def _limited(self, request: ChatRequest, now: float) -> ChatRequest:
        """Return what a contestant is asked: others, and the judge, need time as well, so it is never the last."""
        deadline, timeout = request.scope.deadline, self._lineup.timeout
        until = now + timeout if deadline is None else now + min(timeout, (deadline - now) / 2)
        return rescoped(request, until=until, last=False)

    async def _ruled(self, request: ChatRequest, first: _Entry, second: _Entry, tell: Tell) -> Ruling:
        assert first.response is not None
        assert second.response is not None
        if equal(first.response, second.response):
            return Ruling(winner="tie", reasons="the answers are equal")
        seat = self._jury.judge((first.link.info, second.link.info), request.scope)
        if seat is None:
            return Ruling(winner="none", unjudged="there is no judge that can be asked")
        tell(f"{seat.name} judges")
        return await self._jury.rule(seat, request, first.response, second.response)

    def _settled(self, scope: Scope, first: _Entry, second: _Entry, ruling: Ruling) -> ChatResponse:
        reasons, unjudged = self._redactor.text(ruling.reasons), self._redactor.text(ruling.unjudged)
        by, winner, loser = self._placed(scope, first, second, ruling)
        if ruling.judge or ruling.winner == "tie":
            self._statistics.judged(
                VerdictRecord(
                    id=os.urandom(16).hex(),
                    time=self._lineup.recorder.clock(),
                    first=first.link.info.id,
                    second=second.link.info.id,
                    winner=ruling.winner,
                    judge=ruling.judge,
                    reasons=reasons,
                    stage=scope.stage,
                    task=scope.task,
                    run=scope.run,
                    path=scope.path,
                )
            )
        assert winner.response is not None
        return _marked(
            winner.response,
            contestants=_ids(first, second),
            verdict=ruling.winner,
            by=by,
            judge=ruling.judge,
            other=loser.link.info.id,
            reasons=reasons,
            unjudged=unjudged,
        )

    def _placed(self, scope: Scope, first: _Entry, second: _Entry, ruling: Ruling) -> tuple[str, _Entry, _Entry]:
        """Return what decided, the winner and the loser."""
        if ruling.winner == "none":
            return "order", first, second
        if ruling.winner != "tie":
            return JUDGED, *((first, second) if ruling.winner == "first" else (second, first))
        ids = _ids(first, second)
        known = self._statistics.ratings.strengths(ids, stage=scope.stage, task=scope.task)
        lead = known[ids[0]] - known[ids[1]] if len(known) == len(ids) else 0.0
        if abs(lead) > EVEN:
            return "rating", *((first, second) if lead > 0 else (second, first))
        if first.seconds != second.seconds:
            return "speed", *((first, second) if first.seconds < second.seconds else (second, first))
        return "order", first, second


def _ids(*entries: _Entry) -> list[str]:
    return [entry.link.info.id for entry in entries]


JUDGED = "judge"
_UNDECIDED: dict[str, Any] = {
    "name": NAME,
    "contestants": [],
    "verdict": "none",
    "by": "",
    "judge": "",
    "other": "",
    "reasons": "",
    "unjudged": "",
}


def _marked(response: ChatResponse, **decided: Any) -> ChatResponse:
    return copied_response(response, extra={**response.extra, "strategy": {**_UNDECIDED, **decided}})


def _marking(event: StreamEvent, why: str, left_out: str) -> StreamEvent:
    return Done(_marked(event.response, unjudged=why, other=left_out)) if isinstance(event, Done) else event
