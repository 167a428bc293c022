"""Tools that a model may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Effect = Literal["read", "write", "external"]

F = TypeVar("F", bound=Callable[..., Any])

_NOTES = "__flowcraft_tool__"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """What a model is told of a tool: its name, what it does, and the JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool and the function behind it, which takes the arguments by keyword, sync or async.

    ``effect`` says whether it only reads, writes, or reaches out of this machine; ``untrusted``, whether what it returns was
    written by others, as what ``external`` tools return always is.
    """

    spec: ToolSpec
    call: Callable[..., Any | Awaitable[Any]]
    effect: Effect = "read"
    untrusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolNotes:
    """What ``tool`` says of a function; what is empty is read from its name and its docstring."""

    name: str = ""
    description: str = ""
    effect: Effect = "read"
    untrusted: bool = False


def tool(*, name: str = "", description: str = "", effect: Effect = "read", untrusted: bool = False) -> Callable[[F], F]:
    """Return a decorator that says of a function what it is as a tool; the function itself stays as it is."""

    def noted(function: F) -> F:
        setattr(function, _NOTES, ToolNotes(name=name, description=description, effect=effect, untrusted=untrusted))
        return function

    return noted


def tool_notes(function: Callable[..., Any]) -> ToolNotes:
    """Return what ``tool`` said of a function."""
    notes = getattr(function, _NOTES, None)
    return notes if isinstance(notes, ToolNotes) else ToolNotes()
