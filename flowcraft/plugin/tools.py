"""Tools that a model may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Effect = Literal["read", "write", "external"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """What a model is told of a tool: its name, what it does, and the JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool and the function behind it, which takes the arguments by keyword, sync or async.

    ``effect`` says whether it only reads, writes, or reaches out of this machine.
    """

    spec: ToolSpec
    call: Callable[..., Any | Awaitable[Any]]
    effect: Effect = "read"
