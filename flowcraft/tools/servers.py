"""MCP servers: started when a tool of theirs is needed, each on a task of its own, stopped with the run."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from flowcraft.errors import ToolUnavailable
from flowcraft.plugin.tools import Effect, Tool, ToolSpec
from flowcraft.tools.functions import TOOL_NAME

if TYPE_CHECKING:
    from mcp import ClientSession

START_SECONDS = 60.0
"""How long a server may take until it says that it is there."""

MOST_LISTS = 100
_TAIL = 500


class ToolFailed(Exception):
    """A tool of a server says that it failed; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """How a server is reached: a command with its whole environment, or a URL with headers."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def can_serve() -> bool:
    """Say whether the library for MCP servers is installed; it is not imported."""
    return find_spec("mcp") is not None


class Server:
    """One server. Raises ToolUnavailable where it cannot be started, or has died; the next call starts it anew."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[ClientSession] | None = None
        self._stop = asyncio.Event()
        self._told = ""
        self._tools: dict[str, tuple[Mapping[str, Any], Tool]] = {}

    async def listed(self) -> list[dict[str, Any]]:
        """Return what the server offers, as JSON-like data: name, description, parameters and effect of each tool."""
        from mcp import types

        found: list[dict[str, Any]] = []
        session = await self._session()
        cursor: str | None = None
        for _ in range(MOST_LISTS):
            page = types.PaginatedRequestParams(cursor=cursor) if cursor else None
            answer = _written(await self._asked(session.list_tools(params=page)))
            found += [_described(tool) for tool in answer["tools"]]
            cursor = answer.get("nextCursor")
            if not cursor:
                return found
        raise ToolUnavailable(f"the MCP server {self.spec.name!r} has no end of its list of tools")

    def tool(self, described: Mapping[str, Any]) -> Tool:
        """Return one of the tools that ``listed`` told of. What it returns was written by others."""

        async def call(**arguments: Any) -> Any:
            session = await self._session()
            return _result(_written(await self._asked(session.call_tool(described["name"], arguments))))

        told, known = self._tools.get(described["name"], (None, None))
        if known is not None and told == described:
            return known
        name = "".join(letter if TOOL_NAME.fullmatch(letter) else "_" for letter in described["name"])[:64]
        spec = ToolSpec(name=name, description=described["description"], parameters=described["parameters"])
        made = Tool(spec=spec, call=call, effect=described["effect"], untrusted=True)
        self._tools[described["name"]] = described, made
        return made

    async def aclose(self) -> None:
        """Stop the server, if it runs; one that is still starting is not waited for."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stop.set()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ToolUnavailable(f"the MCP server {self.spec.name!r} was stopped while it started"))
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _session(self) -> ClientSession:
        if self._task is None:
            self._stop = asyncio.Event()
            self._ready = asyncio.get_running_loop().create_future()
            self._ready.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._task = asyncio.create_task(self._keep(self._ready), name=f"mcp {self.spec.name}")
        assert self._ready is not None
        task = self._task
        try:
            return await asyncio.shield(self._ready)
        except ToolUnavailable:
            if self._task is task:  # another call may have started it anew already
                await self.aclose()
            raise

    async def _asked(self, answer: Any) -> Any:
        """Wait for an answer of the server; raise ToolUnavailable where it has died over it."""
        import anyio
        import mcp
        from mcp.types import CONNECTION_CLOSED

        of_servers: type[Any] = getattr(mcp, "MCPError", None) or getattr(mcp, "McpError")  # noqa: B009 - as 1.x calls it
        task = self._task
        try:
            return await answer
        except of_servers as error:
            if error.error.code != CONNECTION_CLOSED:
                raise ToolFailed(error.error.message) from None
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError):
            pass
        if self._task is task:
            await self.aclose()
        raise ToolUnavailable(f"the MCP server {self.spec.name!r} has died{self._told}")

    async def _keep(self, ready: asyncio.Future[ClientSession]) -> None:
        """Hold the connection until it is to end: what a library opens in one task is closed in the same."""
        from mcp import ClientSession

        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            try:
                async with AsyncExitStack() as stack:
                    streams = await stack.enter_async_context(await self._streams(log, stack))
                    session = await stack.enter_async_context(ClientSession(*streams[:2]))  # of 1.x there are three
                    async with asyncio.timeout(START_SECONDS):
                        await session.initialize()
                    if not ready.done():
                        ready.set_result(session)
                    await self._stop.wait()
            except Exception as error:  # noqa: BLE001 - border: whatever keeps a server from starting is its user's error
                if not ready.done():
                    message = f"the MCP server {self.spec.name!r} cannot be reached: {_first(error)}{_tail(log)}"
                    ready.set_exception(ToolUnavailable(message))
            finally:
                self._told = _tail(log)

    async def _streams(self, log: IO[str], stack: AsyncExitStack) -> AbstractAsyncContextManager[Any]:
        if self.spec.url:
            from mcp.client.streamable_http import streamable_http_client
            from mcp.shared._httpx_utils import create_mcp_http_client

            client = await stack.enter_async_context(create_mcp_http_client(headers=dict(self.spec.headers) or None))
            return streamable_http_client(self.spec.url, http_client=client)
        from mcp import StdioServerParameters, stdio_client

        parameters = StdioServerParameters(
            command=self.spec.command,
            args=list(self.spec.args),
            env=dict(self.spec.env),
            cwd=self.spec.folder or os.getcwd(),
        )
        return stdio_client(parameters, errlog=log)  # type: ignore[arg-type]  # a file that processes can write to


def _written(answer: Any) -> dict[str, Any]:
    """Return an answer as the protocol writes it: both majors of the library read that, each into names of its own."""
    written: dict[str, Any] = answer.model_dump(mode="json", by_alias=True)
    return written


def _described(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": tool["name"],
        "description": tool.get("description") or "",
        "parameters": tool.get("inputSchema") or {"type": "object", "properties": {}},
        "effect": _effect(tool.get("annotations") or {}),
    }


def _effect(notes: Mapping[str, Any]) -> Effect:
    """Return what a tool does to the world, as far as its server says so: without a word it may do anything."""
    if notes.get("readOnlyHint"):
        return "read"
    return "write" if notes.get("openWorldHint") is False else "external"


def _result(answer: Mapping[str, Any]) -> Any:
    """Return what a tool returned: its text, else its data. Raises ToolFailed where it says that it failed."""
    texts = [_text(block) for block in answer["content"]]
    if answer.get("isError"):
        raise ToolFailed("\n".join(texts) or "it does not say why")
    data = answer.get("structuredContent")
    return "\n".join(texts) if texts or data is None else data


def _text(block: Mapping[str, Any]) -> str:
    resource = block.get("resource") or {}
    for text in (block.get("text"), resource.get("text")):
        if isinstance(text, str):
            return text
    kind = block.get("mimeType") or resource.get("mimeType") or block.get("type", "something")
    return f"[{kind}: not passed on]"


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return f"it said nothing for {START_SECONDS:g} s"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no program {error.filename!r}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tail(log: IO[str]) -> str:
    """Return the end of what a server wrote to its standard error, as the end of a message."""
    size = os.fstat(log.fileno()).st_size
    end = os.pread(log.fileno(), 4 * _TAIL, max(size - 4 * _TAIL, 0))  # the server writes at the place that seek would move
    text = end.decode("utf-8", "replace")[-_TAIL:].strip()
    return f"; it said: {text}" if text else ""
