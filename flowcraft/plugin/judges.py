"""Judges: who decides which of two answers is the better one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from flowcraft.plugin.chat import ChatRequest, ChatResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which answer won, and why."""

    winner: Literal["first", "second", "tie"]
    reasons: str = ""


class Judge(Protocol):
    """Compares two answers to one question."""

    name: ClassVar[str]

    async def compare(self, request: ChatRequest, first: ChatResponse, second: ChatResponse) -> Verdict:
        """Return the verdict."""
        ...
