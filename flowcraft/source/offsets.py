"""From a place in the value of a YAML scalar to the place in the file: undoes escapes, folding and indentation."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_CONTINUED = re.compile(r"\\(?:\r\n|\r|\n)[ \t]*")
_FOLD = re.compile(r"[ \t]*(?:\r\n|\r|\n)[ \t\r\n]*")
_BREAK = re.compile(r"\r\n|\r|\n")


def source_offset(text: str, start: int, end: int, style: str, offset: int) -> int:
    """Return where in ``text`` character ``offset`` of the scalar's value stands.

    ``style`` is the YAML style of the scalar (one of ``'``, ``"``, ``|``, ``>``, or empty for a plain one); ``start`` and
    ``end`` are its place in ``text``.
    """
    if style in {"|", ">"}:
        return _in_block(text, start, end, offset, folded=style == ">")
    quotes = 1 if style else 0
    return _in_flow(text, start + quotes, end - quotes, style, offset)


def _in_flow(text: str, place: int, end: int, style: str, offset: int) -> int:
    done = 0
    while done < offset and place < end:
        if style == '"' and text[place] == "\\":
            continued = _CONTINUED.match(text, place, end)
            if continued:
                place = continued.end()
                continue
            escape = _ESCAPE.match(text, place, end)
            place = escape.end() if escape else place + 1
            done += 1
        elif style == "'" and text.startswith("''", place):
            place += 2
            done += 1
        elif text[place] in " \t\r\n" and (fold := _FOLD.match(text, place, end)):
            made = max(len(_BREAK.findall(fold[0])) - 1, 1)
            if done + made > offset:
                return place
            place = fold.end()
            done += made
        else:
            place += 1
            done += 1
    return place


def _in_block(text: str, start: int, end: int, offset: int, *, folded: bool) -> int:
    lines = text[start:end].splitlines(keepends=True)
    place = start + len(lines[0]) if lines else start
    contents = lines[1:]
    indent = min((len(line) - len(line.lstrip(" ")) for line in contents if line.strip()), default=0)
    done = 0
    last = place
    for number, line in enumerate(contents):
        content = line[indent:].rstrip("\r\n")
        if offset <= done + len(content):
            return place + min(indent, len(line)) + (offset - done)
        if content:
            last = place + indent + len(content) - 1
        following = contents[number + 1] if number + 1 < len(contents) else ""
        done += len(content) + _break_width(content, following[indent:], folded=folded)
        place += len(line)
    return last


def _break_width(content: str, following: str, *, folded: bool) -> int:
    """Return 1 where a line break stays in the value or becomes a space, 0 where folding swallows it."""
    if not folded:
        return 1
    swallowed = bool(content) and not content[0].isspace() and not following.strip()
    return 0 if swallowed else 1
