"""The tools of prompts: looked up or loaded when a stage needs them, each call of one a piece of the run."""

from __future__ import annotations

import asyncio
import functools
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowcraft.engine.context import Context, Given
from flowcraft.engine.functions import load_function
from flowcraft.engine.pieces.book import StagePieces
from flowcraft.engine.pieces.values import digest
from flowcraft.engine.threads import DaemonPool
from flowcraft.errors import StageFailed, ToolUnavailable
from flowcraft.llm.tool_calls import carry_out
from flowcraft.llm.tool_loop import run_tools
from flowcraft.plugin.chat import ChatRequest, ChatResponse
from flowcraft.plugin.messages import ToolCall, ToolResult
from flowcraft.plugin.tools import Tool
from flowcraft.plugin.wire import content_hash, from_json, to_json
from flowcraft.processes import inherited
from flowcraft.source import listed as listed_names
from flowcraft.tools import Toolbox, function_tool
from flowcraft.tools.servers import Server, ServerSpec
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.template import render_value
from flowcraft.workflow.schema import ToolName

if TYPE_CHECKING:
    from flowcraft.engine.stages.job import Frame, Job


class Bench:
    """The tools that the prompts of a run name: functions are loaded and servers started when they are needed."""

    def __init__(self, job: Job, threads: DaemonPool) -> None:
        self._job = job
        self._threads = threads
        self._functions: dict[tuple[str, str], Tool] = {}
        self._servers: dict[str, Server] = {}

    async def given(self, frame: Frame, names: Sequence[ToolName], pieces: StagePieces) -> Given:
        """Return the tools that a stage of ``frame`` names. What a server offers is a piece of the stage."""
        found: list[Tool] = []
        allowed: set[str] = set()
        for name in names:
            tools = await self._of_server(frame, name, pieces) if name.server else [await self._one(frame, name)]
            found += tools
            if not name.server or name.tool:
                allowed |= {tool.spec.name for tool in tools}
        once = {id(tool): tool for tool in found}.values()
        try:
            box = Toolbox(*once)
        except ValueError as error:
            raise StageFailed(f"tools: {error}") from None
        return Given(tools=box, allowed=frozenset(allowed))

    async def aclose(self) -> None:
        """Stop all servers."""
        servers, self._servers = list(self._servers.values()), {}
        await asyncio.gather(*(server.aclose() for server in servers), return_exceptions=True)

    async def _one(self, frame: Frame, name: ToolName) -> Tool:
        folder = frame.workflow.folder
        if name.module:
            return self._functions.get((folder, name.written)) or await self._load(folder, name)
        tool = self._job.tools.get(name.written)
        if tool is None:
            raise ToolUnavailable(f"no installed plugin offers the tool {name.written!r}; install the one that does")
        return tool

    async def _of_server(self, frame: Frame, name: ToolName, pieces: StagePieces) -> list[Tool]:
        server = self._server(frame, name.server)
        listed = await pieces.do(f"tools[{name.server}]", {"server": name.server}, server.listed)
        chosen = [told for told in listed if name.tool in ("", told["name"])]
        if not chosen:
            offered = listed_names([told["name"] for told in listed]) or "none"
            raise StageFailed(f"the MCP server {name.server!r} has no tool {name.tool!r} (it has: {offered})")
        return [server.tool(told) for told in chosen]

    def _server(self, frame: Frame, name: str) -> Server:
        """Return the server that a file names; with other inputs or secrets it is another one."""
        own = {known: value for known, value in self._job.env.items() if known in frame.workflow.env}
        try:
            written = render_value(frame.workflow.servers[name], {"inputs": frame.inputs, "env": own})
        except ExpressionError as error:
            raise StageFailed(f"mcp.{name}: {error}") from None
        key = digest(frame.workflow.path, name, written)
        if key not in self._servers:
            self._servers[key] = Server(_spec(name, written, own, self._job.folder))
        return self._servers[key]

    async def _load(self, folder: str, name: ToolName) -> Tool:
        # An import may take long: on a thread.
        function = await self._threads.run(functools.partial(load_function, folder, name.module, name.function))
        try:
            made = function_tool(function)
        except (TypeError, ValueError) as error:
            raise StageFailed(f"{name.written}: {error}") from None
        self._functions[folder, name.written] = made
        return made


def _spec(name: str, written: Mapping[str, Any], own: Mapping[str, str], folder: str) -> ServerSpec:
    """Return how a server is reached; a command inherits what one of ``shell`` does, and nothing else."""
    env = {**inherited(os.environ), **own, **_texts(written.get("env"))}
    return ServerSpec(
        name=name,
        command=str(written.get("command") or ""),
        args=tuple(str(part) for part in written.get("args") or ()),
        env=env,
        folder=folder,
        url=str(written.get("url") or ""),
        headers=_texts(written.get("headers")),
    )


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (values or {}).items() if value is not None}


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
