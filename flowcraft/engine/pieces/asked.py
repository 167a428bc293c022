"""What a piece asked for, as people read it later: JSON text of bounded size, and what two of them differ in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from flowcraft.engine.pieces.values import TOLERANT

TEXTS = frozenset({"prompt", "system", "previous", "rubric", "shell", "agent", "crew"})
LONGEST_TEXT = 100_000
"""Characters of a text that is asked which are kept; in the middle of a longer one stands how many are left out."""
LONGEST_VALUE = 10_000
"""Characters of any other part: arguments may hold what earlier stages gave, which is kept there already."""
SHORTENED = "characters left out) ... "
"""What stands in each text that is kept shortened, behind how many are left out."""
_GAP = re.compile(r" \.\.\. \((\d+) " + re.escape(SHORTENED))
_SHOWN = 60
_BEFORE = 15


def asked_text(asks: Mapping[str, Any]) -> str:
    """Return what is asked for as JSON text, empty parts left out and long ones shortened."""
    return TOLERANT.encode({name: _bounded(name, value) for name, value in asks.items() if value not in (None, "", [], {}, ())})


def _most(name: str) -> int:
    return LONGEST_TEXT if name in TEXTS else LONGEST_VALUE


def _bounded(name: str, value: Any) -> Any:
    most = _most(name)
    if isinstance(value, str):
        return shortened(value, most)
    if not isinstance(value, dict | list | tuple):
        return value
    text = TOLERANT.encode(value)
    return value if len(text) <= most else shortened(text, most)


def shortened(text: str, most: int) -> str:
    """Return ``text``, of a longer one than ``most`` characters both ends and how many are left out between them."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... ({len(text) - 2 * half} {SHORTENED}{text[-half:]}"


def left_out(asks: Mapping[str, Any]) -> dict[str, int]:
    """Return the parts of what is asked for that are kept shortened, with how many characters are left out of each."""
    found: dict[str, int] = {}
    for name, value in asks.items():
        most = _most(name)
        # What was not shortened is not longer than what is kept of a longer one.
        gap = _GAP.match(value, most // 2) if isinstance(value, str) and len(value) > most else None
        if gap is not None:
            found[name] = int(gap[1])
    return found


def told_left_out(parts: Mapping[str, int]) -> str:
    """Say which parts are kept shortened: ``kept shortened: prompt (5,000 characters left out)``; nothing where none is."""
    told = ", ".join(f"{name} ({count:,} characters left out)" for name, count in parts.items())
    return f"kept shortened: {told}" if told else ""


def difference(before: str, after: str) -> str:
    """Say in a line what differs between two texts of ``asked_text``; nothing where that cannot be told."""
    old, new = _read(before), _read(after)
    if not old or not new:
        return ""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return "; ".join(f"{name}: {_told(old.get(name), new.get(name))}" for name in names)


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _told(old: Any, new: Any) -> str:
    """Return how a part reads now, and how it read: from shortly before the first place where they differ."""
    first, second = (text if isinstance(text, str) else TOLERANT.encode(text) for text in (old, new))
    shorter = min(len(first), len(second))
    begin = max(0, next((at for at in range(shorter) if first[at] != second[at]), shorter) - _BEFORE)
    return f"{_excerpt(second, begin)} instead of {_excerpt(first, begin)}"


def _excerpt(text: str, begin: int) -> str:
    shown = " ".join(text[begin : begin + _SHOWN].split())
    return f"'{'...' if begin else ''}{shown}{'...' if len(text) > begin + _SHOWN else ''}'"
