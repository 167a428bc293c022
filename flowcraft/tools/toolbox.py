"""Toolbox: the tools that a model is given, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from flowcraft.plugin.tools import Effect, Tool
from flowcraft.tools.functions import TOOL_NAME, function_tool

F = TypeVar("F", bound=Callable[..., Any])


class Toolbox:
    """Tools by their names: ``Toolbox(function, another, Tool(...))``, ``register`` and the decorator ``tool``.

    Raises ValueError for a name that no vendor takes or that is taken already, TypeError for a function whose arguments
    cannot be described to a model.
    """

    def __init__(self, *tools: Tool | Callable[..., Any]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool | Callable[..., Any]) -> Tool:
        """Add a tool, or a function as one."""
        made = tool if isinstance(tool, Tool) else function_tool(tool)
        name = made.spec.name
        if not TOOL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a tool: 1 to 64 letters, digits, '_' and '-'")
        if name in self._tools:
            raise ValueError(f"two tools are called {name!r}; give one of them another name")
        self._tools[name] = made
        return made

    def register(self, name: str, function: Callable[..., Any], description: str = "", *, effect: Effect | None = None) -> Tool:
        """Add a function, sync or async, under ``name``; without ``description`` and ``effect`` it tells them itself."""
        return self.add(function_tool(function, name=name, description=description, effect=effect))

    @overload
    def tool(self, function: F) -> F: ...
    @overload
    def tool(self, *, name: str = "", description: str = "", effect: Effect | None = None) -> Callable[[F], F]: ...
    def tool(
        self, function: F | None = None, *, name: str = "", description: str = "", effect: Effect | None = None
    ) -> F | Callable[[F], F]:
        """Add the decorated function, which stays as it is: ``@box.tool`` or ``@box.tool(effect="write")``."""

        def added(function: F) -> F:
            self.add(function_tool(function, name=name, description=description, effect=effect))
            return function

        return added if function is None else added(function)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools
