"""The right name that is nearest to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 100
_MOST = 2000


def nearest(word: str, words: Iterable[str], least: float = 0.6) -> str | None:
    """Return the one of ``words`` that ``word`` was most likely meant to be, None when nothing is near.

    ``least`` is how alike they are at least, from 0 to 1.
    """
    if not word or len(word) > _LONGEST:
        return None
    known = {name.casefold(): name for name in list(words)[:_MOST]}
    found = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=least)
    return known[found[0]] if found else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ``did you mean 'x'?``, or nothing when no word is near."""
    found = nearest(word, words)
    return f"did you mean '{found}'?" if found else ""


def listed(words: Iterable[str], most: int = 12) -> str:
    """Return ``a, b, c``; of a long list the first ``most`` and how many more there are."""
    names = list(words)
    if len(names) <= most:
        return ", ".join(names)
    return ", ".join(names[:most]) + f" and {len(names) - most} more"
