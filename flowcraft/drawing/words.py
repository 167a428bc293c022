"""Text as pictures hold it: one line, only what can be seen, cut to a length, with its width in cells of a terminal."""

from __future__ import annotations

import unicodedata

LONGEST_TEXT = 200
"""Characters of one text in a picture; what is longer is cut."""


def one_line(text: str, most: int = LONGEST_TEXT) -> str:
    """Return ``text`` in one line of at most ``most`` characters, without what cannot be seen."""
    seen = "".join(letter if letter.isprintable() or letter.isspace() else "" for letter in text[: 20 * most])
    line = " ".join(seen.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def cells(text: str) -> int:
    """Return how many cells of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(letter) for letter in text)


def _cells(letter: str) -> int:
    if unicodedata.combining(letter) or letter in "\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int, mark: str = "…") -> str:
    """Return ``text`` in at most ``width`` cells; where it is cut, ``mark`` says so."""
    if cells(text) <= width:
        return text
    left, kept = width - cells(mark), []
    for letter in text:
        left -= _cells(letter)
        if left < 0:
            break
        kept.append(letter)
    return "".join(kept).rstrip() + mark if width >= cells(mark) else ""


def wrapped(parts: list[str], width: int, between: str = "  ") -> list[str]:
    """Return ``parts`` in lines of at most ``width`` cells; a part stands whole in a line, cut where it is too long alone."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and cells(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(cut(part, width))
    return lines


def clock(seconds: float) -> str:
    """Return a time as people say it: 0.3 s, 12 s, 2 m 05 s, 1 h 03 m."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


def limit(seconds: float) -> str:
    """Return a duration as the language writes it: 500ms, 30s, 5m, 24h, 7d."""
    for unit, worth in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= worth and seconds % worth == 0 and (unit != "d" or seconds >= 3 * worth):
            return f"{seconds // worth:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def money(usd: float) -> str:
    """Return USD with as many digits as small sums need."""
    return f"{usd:.2f} USD" if usd >= 1 or usd == 0 else f"{usd:.4f} USD"
