"""The tools of prompts: looked up or loaded when a stage needs them, each call of one a piece of the run."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowcraft.engine.functions import load_function
from flowcraft.engine.threads import DaemonPool
from flowcraft.errors import StageFailed, ToolUnavailable
from flowcraft.llm.tool_calls import carry_out
from flowcraft.llm.tool_loop import run_tools
from flowcraft.plugin.chat import ChatRequest, ChatResponse
from flowcraft.plugin.messages import ToolCall, ToolResult
from flowcraft.plugin.tools import Tool
from flowcraft.plugin.wire import content_hash, from_json, to_json
from flowcraft.tools import Toolbox, function_tool
from flowcraft.workflow.schema import ToolName

if TYPE_CHECKING:
    from flowcraft.engine.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The tools that a prompt is given; ``allowed`` may write and reach out whatever others wrote."""

    tools: Toolbox
    allowed: frozenset[str]


class Bench:
    """The tools that the prompts of a run name. ``offered`` are those of plugins, by name."""

    def __init__(self, offered: Mapping[str, Tool], threads: DaemonPool) -> None:
        self._offered = offered
        self._threads = threads
        self._functions: dict[tuple[str, str], Tool] = {}

    async def given(self, folder: str, names: Sequence[ToolName]) -> Given:
        """Return the tools of these names; ``folder`` is that of the workflow file."""
        found = [await self._one(folder, name) for name in names]
        try:
            box = Toolbox(*found)
        except ValueError as error:
            raise StageFailed(f"tools: {error}") from None
        return Given(tools=box, allowed=frozenset(tool.spec.name for tool in found))

    async def _one(self, folder: str, name: ToolName) -> Tool:
        if name.module:
            return self._functions.get((folder, name.written)) or await self._load(folder, name)
        tool = self._offered.get(name.written)
        if tool is None:
            raise ToolUnavailable(f"no installed plugin offers the tool {name.written!r}; install the one that does")
        return tool

    async def _load(self, folder: str, name: ToolName) -> Tool:
        # An import may take long: on a thread.
        function = await self._threads.run(functools.partial(load_function, folder, name.module, name.function))
        try:
            made = function_tool(function)
        except (TypeError, ValueError) as error:
            raise StageFailed(f"{name.written}: {error}") from None
        self._functions[folder, name.written] = made
        return made


async def ask_with_tools(request: ChatRequest, names: Sequence[ToolName], context: Context) -> ChatResponse:
    """Ask the stage's chain until it answers without calling a tool; every answer and every result is a piece.

    What a piece is compared by leaves out what the model is told of the tools: a function that was mended is the same tool.
    """
    given = await context.tools(names)
    tools = {tool.spec.name: tool for tool in given.tools}
    llm = context.llm()

    async def call(turn: int, asked: ChatRequest) -> ChatResponse:
        async def ask() -> object:
            return to_json(await llm.chat(asked))

        what = {"asked": content_hash(replace(asked, tools=())), "tools": [name.written for name in names]}
        answer: ChatResponse = from_json(await context.pieces.do(f"call[{turn}]", what, ask))
        return answer

    async def use(turn: int, place: int, wish: ToolCall) -> ToolResult:
        async def carry() -> object:
            return to_json(await carry_out(tools, wish, thread=context.threads.run, on_error=failed))

        what = {"tool": wish.name, "arguments": wish.arguments}
        result: ToolResult = from_json(await context.pieces.do(f"call[{turn}]/tool[{place}]", what, carry))
        return result

    def failed(wish: ToolCall, error: BaseException) -> None:
        told = "".join(traceback.format_exception(error))
        context.emit(f"the tool {wish.name} failed: {type(error).__name__}", level="error", traceback=told)

    return await run_tools(llm, request, given.tools, call=call, use=use, allowed=given.allowed)
