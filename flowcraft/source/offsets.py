"""From a place in the value of a YAML scalar to the place in the file, escapes undone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_CONTINUED = re.compile(r"\\(?:\r\n|\r|\n)[ \t]*")
_FOLD = re.compile(r"[ \t]*(?:\r\n|\r|\n)[ \t\r\n]*")
_BREAK = re.compile(r"\r\n|\r|\n")


def source_offsets(text: str, start: int, end: int, style: str, value: str) -> Sequence[int]:
    """Return where in ``text`` each character of the scalar's ``value`` stands, and one place more: its end.

    ``style`` is the YAML style of the scalar (one of ``'``, ``"``, ``|``, ``>``, or empty for a plain one); ``start`` and
    ``end`` are its place in ``text``.
    """
    if style in {"|", ">"}:
        return [*_in_block(text[start:end], start, value, folded=style == ">"), end]
    quotes = 1 if style else 0
    inner = text[start + quotes : end - quotes]
    if _BREAK.search(inner) is None and not (style == '"' and "\\" in inner) and not (style == "'" and "'" in inner):
        return range(start + quotes, end - quotes + 1)
    return [*_in_flow(text, start + quotes, end - quotes, style), end - quotes]


def _in_flow(text: str, place: int, end: int, style: str) -> Iterator[int]:
    while place < end:
        step = 1
        if style == '"' and text[place] == "\\":
            continued = _CONTINUED.match(text, place, end)
            if continued:
                place = continued.end()
                continue
            escape = _ESCAPE.match(text, place, end)
            step = len(escape[0]) if escape else 1
        elif style == "'" and text.startswith("''", place):
            step = 2
        elif text[place] in " \t\r\n" and (fold := _FOLD.match(text, place, end)):
            # One break reads as a space, more of them as one break less.
            for _ in range(max(len(_BREAK.findall(fold[0])) - 1, 1)):
                yield place
            place = fold.end()
            continue
        yield place
        place += step


def _in_block(text: str, start: int, value: str, *, folded: bool) -> Iterator[int]:
    lines = [text[begin:end] for begin, end in _lines(text)]
    contents = lines[1:]
    place = start + len(lines[0]) if lines else start
    # The value tells how much of the first line's margin is indentation (YAML lets one write it down: |2).
    indent = max(_margin(contents) - _margin(_BREAK.split(value)), 0)
    for number, line in enumerate(contents):
        content = line[indent:].rstrip("\r\n")
        first = place + min(indent, len(line))
        yield from range(first, first + len(content))
        following = contents[number + 1][indent:] if number + 1 < len(contents) else ""
        swallowed = folded and content and not content[0].isspace() and not following.strip()
        if not swallowed:
            yield first + len(content)
        place += len(line)


def _margin(lines: Sequence[str]) -> int:
    """Return how many spaces stand before the first text."""
    first = next((line for line in lines if line.strip()), "")
    return len(first) - len(first.lstrip(" "))


def _lines(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for found in _BREAK.finditer(text):
        yield begin, found.end()
        begin = found.end()
    if begin < len(text):
        yield begin, len(text)
