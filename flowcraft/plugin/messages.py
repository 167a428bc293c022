"""Messages: a role and parts. Parts are text, media, reasoning, tool calls and their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Plain text."""

    text: str
    cache: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Bytes, a URL or a path of something that is no text. Exactly one of ``data``, ``url`` and ``path`` is set."""

    data: bytes | None = None
    url: str | None = None
    path: str | None = None
    media_type: str = ""
    sha256: str = ""
    cache: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Media):
    """A picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Media):
    """A sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video(Media):
    """A film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Media):
    """A document."""

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """What a model thought before it answered; only the provider and model it came from may see it again."""

    text: str = ""
    signature: str = ""
    redacted: bool = False
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A model's wish to call a tool. ``arguments`` is the raw JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool returned, as text; ``error`` says that it failed."""

    id: str
    content: str
    name: str = ""
    error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A model's refusal, in its own words."""

    text: str


Part = Text | Image | Audio | Video | File | Reasoning | ToolCall | ToolResult | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str = ""
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls among the parts."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @classmethod
    def system(cls, text: str) -> Message:
        """Make a system message."""
        return cls(role="system", parts=(Text(text=text),))

    @classmethod
    def user(cls, text: str) -> Message:
        """Make a user's message."""
        return cls(role="user", parts=(Text(text=text),))

    @classmethod
    def assistant(cls, text: str) -> Message:
        """Make a model's message."""
        return cls(role="assistant", parts=(Text(text=text),))
