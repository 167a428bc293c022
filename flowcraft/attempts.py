"""What one answer cost: every attempt to reach a model, in the order in which it was made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or more calls. ``input`` includes ``cached``; ``output`` includes ``reasoning``."""

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    audio: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input=self.input + other.input,
            cached=self.cached + other.cached,
            cache_write=self.cache_write + other.cache_write,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
            audio=self.audio + other.audio,
        )

    @property
    def total(self) -> int:
        """Input and output tokens together."""
        return self.input + self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to reach one model, or the reason why that model was skipped.

    ``outcome`` is ``ok``, ``cancelled``, ``skipped`` or the name of the error class. Times are in seconds; ``started``
    is seconds since the epoch. ``usd`` is None where the price is not known. ``estimated`` says that nobody told the tokens:
    they are counted from what was sent and what had come. ``streamed`` says that a stream was asked for.
    """

    model: str
    provider: str = ""
    role: str = ""
    outcome: str = "ok"
    message: str = ""
    started: float = 0.0
    seconds: float = 0.0
    wait: float = 0.0
    first_token: float | None = None
    usage: Usage = field(default_factory=Usage)
    usd: float | None = None
    offline: bool = False
    estimated: bool = False
    streamed: bool = False

    def __str__(self) -> str:
        name = f"{self.provider}:{self.model}" if self.provider else self.model
        told = f" ({self.message})" if self.message else ""
        if self.outcome == "skipped":
            return f"{name}: skipped{told}"
        return f"{name}: {self.outcome} after {self.seconds:.2f} s{told}"


def spent_usd(attempts: Iterable[Attempt]) -> float | None:
    """Return the USD of all attempts together; None when no attempt has a known price."""
    known = [attempt.usd for attempt in attempts if attempt.usd is not None]
    return sum(known) if known else None
