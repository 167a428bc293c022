"""Vectors of texts: what a model that embeds returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowcraft.attempts import Attempt, Usage

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """One vector for each text, in their order, all of one length. Those of different models do not go together.

    ``usd`` is None where the price is not known. A provider fills in ``vectors`` and ``usage``; the rest is known to who asks.
    """

    vectors: tuple[Vector, ...]
    model: str = ""
    provider: str = ""
    usage: Usage = field(default_factory=Usage)
    usd: float | None = None
    offline: bool = False
    attempts: tuple[Attempt, ...] = ()
