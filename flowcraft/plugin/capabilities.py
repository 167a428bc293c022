"""What a model can do, costs and holds. Every fact is True, False or None: unknown is tried and warned about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD per million tokens. ``cached`` and ``cache_write`` default to the price of input."""

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """True, False or None (unknown) for each thing that one can ask of a model."""

    stream: bool | None = None
    tools: bool | None = None
    parallel_tools: bool | None = None
    tool_choice: bool | None = None
    json_schema: bool | None = None
    json_object: bool | None = None
    gbnf: bool | None = None
    logprobs: bool | None = None
    seed: bool | None = None
    n: bool | None = None
    stop: bool | None = None
    temperature: bool | None = None
    system: bool | None = None
    prefill: bool | None = None
    continue_exact: bool | None = None
    complete: bool | None = None
    images: bool | None = None
    audio_in: bool | None = None
    audio_out: bool | None = None
    video: bool | None = None
    files: bool | None = None
    reasoning: bool | None = None
    cache_hints: bool | None = None
    min_p: bool | None = None
    embed: bool | None = None
    transcribe: bool | None = None
    diarize: bool | None = None
    speak: bool | None = None
    list_models: bool | None = None
    load: bool | None = None
    count_tokens: bool | None = None

    def over(self, other: Capabilities) -> Capabilities:
        """Return these facts, completed by ``other`` where they are unknown."""
        known = {item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) is not None}
        return replace(other, **known)

    def lacks(self, wanted: frozenset[str]) -> frozenset[str]:
        """Return what of ``wanted`` is known to be missing."""
        return frozenset(name for name in wanted if getattr(self, name) is False)

    def unknown(self, wanted: frozenset[str]) -> frozenset[str]:
        """Return what of ``wanted`` nobody knows."""
        return frozenset(name for name in wanted if getattr(self, name) is None)


CAPABILITY_NAMES = tuple(item.name for item in fields(Capabilities))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model of one provider, with all that is known of it. Windows are in tokens.

    ``sources`` says for a fact where it came from: ``settings``, ``probe``, ``preset`` or ``provider``.
    """

    model: str
    provider: str = ""
    capabilities: Capabilities = field(default_factory=Capabilities)
    context: int | None = None
    max_output: int | None = None
    top_logprobs_max: int | None = None
    price: Price | None = None
    family: str = ""
    offline: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``provider:model``."""
        return f"{self.provider}:{self.model}"
