"""What a model is told of a passage that does not stand in a file: where it nearly does, and what stands there."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Sequence
from typing import Final

MOST_SHOWN: Final = 1_200
"""Characters of a file that are shown."""

_MOST_PAIRS: Final = 5_000_000
_MOST_LINES: Final = 5_000
_LONGEST_LINE: Final = 200
_ALIKE: Final = 0.6
_CLOSE: Final = 20


def misfit(text: str, sought: str, instead: str) -> str:
    """Return what is known of ``sought``, which does not stand in ``text``; ``instead`` was to be put in its place."""
    if "\\n" in sought and sought.replace("\\n", "\n") in text:
        return "It would with line ends where it has '\\n' written out"
    if instead.strip() and instead not in sought and (found := text.find(instead)) >= 0:
        done = f"What is to stand there stands at line {line_at(text, found)} already: it may have been done before. "
        return done + _near(text, sought)
    return _near(text, sought)


def _near(text: str, sought: str) -> str:
    lines, wanted = text.split("\n"), sought.strip("\n").split("\n")
    plain, plainly = _plain(lines), _plain(wanted)
    start, count = _best(plain, plainly)
    if count == len(plainly):
        return f"It does with other white space:\n{_lines(lines, start, len(wanted))}"
    if not count:
        start = _like(plain, plainly)
    return f"The nearest is this:\n{_lines(lines, start, len(wanted))}" if start >= 0 else "Read it again"


def line_at(text: str, place: int) -> int:
    """Return the line, from 1, in which a character stands."""
    return text.count("\n", 0, place) + 1


def _plain(lines: Sequence[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


def _best(lines: Sequence[str], wanted: Sequence[str]) -> tuple[int, int]:
    """Return where most of the wanted lines stand, each at its place, and how many those are; empty ones count with others."""
    best = -1, 0
    if len(lines) * len(wanted) > _MOST_PAIRS or not any(wanted):
        return best
    for start in range(len(lines)):
        alike = [line for line, other in zip(wanted, lines[start : start + len(wanted)], strict=False) if line == other]
        if len(alike) > best[1] and any(alike):
            best = start, len(alike)
    return best


def _like(lines: Sequence[str], wanted: Sequence[str]) -> int:
    """Return where the wanted lines would begin if their longest one were the one that is most like it; -1 where none is."""
    longest = max(wanted, key=len)[:_LONGEST_LINE]
    if not longest:
        return -1
    matcher = difflib.SequenceMatcher(None, "", longest)
    close = heapq.nlargest(_CLOSE, ((_quickly(matcher, line), -place) for place, line in enumerate(lines[:_MOST_LINES])))
    alike, place = max((_ratio(matcher, lines[-minus]), minus) for _, minus in close)
    return max(-place - wanted.index(max(wanted, key=len)), 0) if alike >= _ALIKE else -1


def _quickly(matcher: difflib.SequenceMatcher[str], line: str) -> float:
    matcher.set_seq1(line[:_LONGEST_LINE])
    return matcher.quick_ratio()


def _ratio(matcher: difflib.SequenceMatcher[str], line: str) -> float:
    matcher.set_seq1(line[:_LONGEST_LINE])
    return matcher.ratio()


def _lines(lines: Sequence[str], start: int, count: int) -> str:
    shown = "\n".join(lines[start : start + count])
    cut = f"{shown[:MOST_SHOWN]}[...]" if len(shown) > MOST_SHOWN else shown
    return f"[lines {start + 1:,} to {min(start + count, len(lines)):,}]\n{cut}"
