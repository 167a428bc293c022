"""Ranges: the least, the likeliest and the most that something is expected to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Three amounts of the same unit, the smallest first."""

    low: float
    likely: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Range:
        """Return a range of one value."""
        return cls(low=value, likely=value, high=value)

    def __add__(self, other: Range) -> Range:
        return Range(low=self.low + other.low, likely=self.likely + other.likely, high=self.high + other.high)

    def __mul__(self, other: Range) -> Range:
        return Range(low=self.low * other.low, likely=self.likely * other.likely, high=self.high * other.high)

    def times(self, factor: float) -> Range:
        """Return ``factor`` times as much."""
        return self * Range.exactly(factor)


NOTHING = Range.exactly(0.0)
ONCE = Range.exactly(1.0)


def spread(low: float, likely: float, high: float) -> Range:
    """Return a range whose likely amount lies within it."""
    return Range(low=min(low, likely), likely=likely, high=max(high, likely))


def total(ranges: Iterable[Range]) -> Range:
    """Return the sum of ranges."""
    found = NOTHING
    for one in ranges:
        found += one
    return found


def longest(ranges: Iterable[Range]) -> Range:
    """Return the largest of each amount; nothing of none."""
    found = list(ranges) or [NOTHING]
    return Range(low=max(r.low for r in found), likely=max(r.likely for r in found), high=max(r.high for r in found))


def observed(values: Sequence[float], doubt: float = 0.0) -> Range:
    """Return the range of what was observed, wider the less there is of it; the median is the likely amount.

    ``doubt`` is the share of the likely amount by which one more value may differ though all so far were alike.
    """
    least, most, likely = min(values), max(values), median(values)
    margin = max(most - least, doubt * likely) / (len(values) + 1)
    return Range(low=max(0.0, least - margin), likely=likely, high=most + margin)
