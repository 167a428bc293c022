"""The tool loop: ask, carry out what the model calls, tell it, ask again, until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flowcraft.attempts import Attempt, Usage
from flowcraft.errors import LLMError
from flowcraft.llm.tool_calls import carry_out, refused
from flowcraft.plugin.chat import ChatRequest, ChatResponse
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.messages import Message, ToolCall, ToolResult
from flowcraft.plugin.tools import Tool

MOST_TURNS = 25

Call = Callable[[int, ChatRequest], Awaitable[ChatResponse]]
Use = Callable[[int, int, ToolCall], Awaitable[ToolResult]]


async def run_tools(
    llm: LLM,
    request: ChatRequest,
    tools: Iterable[Tool],
    *,
    call: Call | None = None,
    use: Use | None = None,
    max_turns: int = MOST_TURNS,
    allowed: Collection[str] | None = None,
) -> ChatResponse:
    """Return the answer that ``llm`` gives when it may call ``tools``; usage and attempts are those of all its turns.

    ``call`` and ``use`` carry one question and one tool call out; they are given the number of the turn, from 1, and the
    place of the call in it, from 0. The calls of one turn run at once. The model that answered is asked again. Once a tool
    has brought in what others wrote, tools that write or reach out are refused unless they are among ``allowed`` (None:
    all are). Raises LLMError where the model still calls tools after ``max_turns`` questions.
    """
    known = {tool.spec.name: tool for tool in tools}
    ask: Call = call or (lambda turn, asked: llm.chat(asked))
    do: Use = use or (lambda turn, place, wish: carry_out(known, wish))
    spent = _Spent()
    gate = Gate(known, allowed)
    request = replace(request, tools=tuple(tool.spec for tool in known.values()))
    for turn in range(1, max_turns + 1):
        try:
            response = await ask(turn, request)
        except LLMError as error:
            error.attempts = (*spent.attempts, *error.attempts)
            raise
        spent.add(response)
        wishes = response.tool_calls
        if not wishes:
            return spent.told(response, turn)
        if turn < max_turns:
            results = await _together([gate.passed(do, turn, place, wish) for place, wish in enumerate(wishes)])
            gate.note(wishes)
            request = _continued(request, response, results)
    names = ", ".join(dict.fromkeys(wish.name for wish in wishes))
    message = f"the model still calls tools ({names}) after {max_turns} turns; it was stopped without an answer"
    raise LLMError(message, attempts=spent.attempts)


@dataclass(slots=True)
class Untrusted:
    """Which tool brought in first what others wrote; those who read the same share it."""

    tool: str = ""


class Gate:
    """Keeps what others wrote from making a model write or reach out, unless that was allowed beforehand."""

    def __init__(self, tools: Mapping[str, Tool], allowed: Collection[str] | None, read: Untrusted | None = None) -> None:
        self._tools = tools
        self._allowed = allowed
        self._read = read or Untrusted()

    async def passed(self, use: Use, turn: int, place: int, wish: ToolCall) -> ToolResult:
        """Carry a call out, or refuse it."""
        tool = self._tools.get(wish.name)
        harmless = tool is None or tool.effect == "read" or self._allowed is None or wish.name in self._allowed
        if harmless or not self._read.tool:
            return await use(turn, place, wish)
        assert tool is not None
        does = "writes" if tool.effect == "write" else "reaches out"
        return refused(wish, f"{wish.name!r} {does}, which is refused since {self._read.tool!r} brought in what others wrote")

    def note(self, wishes: Iterable[ToolCall]) -> None:
        """Take note of what a turn brought in."""
        for wish in wishes:
            tool = self._tools.get(wish.name)
            if tool is not None and (tool.untrusted or tool.effect == "external"):
                self._read.tool = self._read.tool or wish.name


class _Spent:
    """What all turns together took."""

    def __init__(self) -> None:
        self.attempts: tuple[Attempt, ...] = ()
        self._usage = Usage()
        self._usd: float | None = None
        self._seconds = 0.0
        self._calls = 0
        self._offline = False

    def add(self, response: ChatResponse) -> None:
        """Take one turn in."""
        self.attempts += response.attempts
        self._usage += response.usage
        self._seconds += response.seconds
        self._calls += len(response.tool_calls)
        self._offline |= response.offline
        if response.usd is not None:
            self._usd = (self._usd or 0.0) + response.usd

    def told(self, response: ChatResponse, turns: int) -> ChatResponse:
        """Return the last answer with what all turns took."""
        return replace(
            response,
            attempts=self.attempts,
            usage=self._usage,
            usd=self._usd,
            seconds=self._seconds,
            offline=self._offline,
            extra={**response.extra, "tools": {"turns": turns, "calls": self._calls}},
        )


def _continued(request: ChatRequest, response: ChatResponse, results: Sequence[ToolResult]) -> ChatRequest:
    """Return the next question: what was said so far and what the tools returned, to the model that called them."""
    messages = (*request.messages, response.message, Message(role="tool", parts=tuple(results)))
    choice = request.tool_choice if request.tool_choice == "none" else None  # else it would have to call for ever
    prefer = f"{response.provider}:{response.model}" if response.provider else request.scope.prefer
    return replace(request, messages=messages, tool_choice=choice).within(prefer=prefer)


async def _together(uses: Sequence[Awaitable[ToolResult]]) -> list[ToolResult]:
    """Carry the calls of one turn out at once; where one cannot go on, the others are stopped."""
    tasks = [asyncio.ensure_future(use) for use in uses]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
