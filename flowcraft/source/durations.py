"""Durations: ``500ms 30s 5m 24h 7d``."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s?(ms|s|m|h|d)")


def parse_duration(text: str | int | float) -> float:
    """Return the seconds of ``text``, which needs a unit; a number is taken as seconds. Raises ValueError."""
    if isinstance(text, bool):
        raise ValueError("a duration is written like 500ms, 30s, 5m, 24h or 7d")
    if isinstance(text, int | float):
        if not math.isfinite(text) or text < 0:
            raise ValueError(f"{text} is no duration")
        return float(text)
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration; write it like 500ms, 30s, 5m, 24h or 7d")
    return float(found[1]) * _UNITS[found[2]]
