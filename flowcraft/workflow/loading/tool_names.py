"""The tools of a prompt: names of functions, of plugins' tools, and of MCP servers'."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from flowcraft.source import did_you_mean
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import ToolName
from flowcraft.workflow.types.signatures import Signature

TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
"""``package.module:function``."""

_PLUGIN_TOOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SERVER = "mcp:"


class ToolReader:
    """Reads ``tools``. ``signature`` finds a function and keeps its own problems; ``servers`` are those of the file."""

    def __init__(
        self, reading: Reading, signature: Callable[[Path, str, str], Signature | None], servers: Collection[str]
    ) -> None:
        self.reading = reading
        self.signature = signature
        self.servers = servers

    def all(self, path: Path, data: Any) -> tuple[ToolName, ...]:
        """Read the list at ``path``."""
        if data is None:
            return ()
        if not isinstance(data, list):
            hint = f"write tools: [{data}]" if isinstance(data, str) else "write tools: [module:function]"
            self.reading.problem(path, f"'tools' must be a list of names, not {plain_kind(data)}", hint)
            return ()
        found: list[ToolName] = []
        taken: dict[str, str] = {}
        for index, written in enumerate(data):
            at = (*path, index)
            name = self.reading.plain(at, written, "a tool")
            if not name:
                if written == "":
                    self.reading.problem(at, "the name of a tool is empty")
                continue
            if any(tool.written == name for tool in found):
                self.reading.problem(at, f"'{name}' stands twice")
                continue
            tool = self.one(at, name)
            called = self.called(at, tool) if tool is not None else ""
            if called and called in taken:
                message = f"two tools are called '{called}': {taken[called]} and {name}"
                self.reading.problem(at, message, "a model knows tools by their names alone: rename one of the functions")
            elif tool is not None:
                found.append(replace(tool, checked=bool(tool.module and called)))
                taken.update({called: name} if called else {})
        return tuple(found)

    def one(self, at: Path, name: str) -> ToolName | None:
        """Read one name; None where it can name no tool."""
        if name.startswith(_SERVER):
            return self.of_server(at, name)
        found = TARGET.fullmatch(name)
        if found is not None:
            return ToolName(written=name, module=found[1], function=found[2])
        if _PLUGIN_TOOL.fullmatch(name):
            return ToolName(written=name)
        hint = "write package.module:function, or the name of a plugin's tool"
        if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name):
            module, _, function = name.rpartition(".")
            hint = f"write {module}:{function}"
        self.reading.problem(at, f"'{name}' names no tool", hint)
        return None

    def of_server(self, at: Path, name: str) -> ToolName | None:
        """Read ``mcp:server`` or ``mcp:server/tool``."""
        server, slash, tool = name.removeprefix(_SERVER).partition("/")
        if server not in self.servers:
            hint = did_you_mean(server, self.servers) or "servers stand under 'mcp' at the top of the file"
            self.reading.problem(at, f"unknown server '{server}'", hint)
        elif slash and not tool:
            self.reading.problem(at, f"'{name}' names no tool", f"write mcp:{server}, or mcp:{server}/tool")
        else:
            return ToolName(written=name, server=server, tool=tool)
        return None

    def called(self, at: Path, tool: ToolName) -> str:
        """Return what a model will call the tool; empty where that is not known before the run."""
        if tool.server:
            return tool.tool
        if not tool.module:
            return tool.written
        signature = self.signature(at, tool.module, tool.function)
        if signature is None or not signature.known:
            return ""
        if signature.positional:
            names = ", ".join(signature.positional)
            message = f"{tool.written} takes {names} by place only, and a model gives names"
            self.reading.problem(at, message, "take the '/' out of its signature")
        return tool.function
