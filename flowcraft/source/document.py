"""A document whose every key, every value knows where it stands."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft.errors import Problem
from flowcraft.source.offsets import source_offsets

_BREAK = re.compile(r"\r\n|\r|\n")
_LONGEST = 600
_WIDEST = 160
_BEFORE = 60

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file. Lines and columns count from 1, columns in characters."""

    file: str = ""
    line: int = 0
    column: int = 0
    width: int = 1


@dataclass(slots=True, eq=False)
class Node:
    """One value of a document. ``start`` and ``end`` count characters from the beginning of the text.

    ``value`` is what the node reads as. ``style`` is the YAML style of a scalar, ``flow`` or ``block`` for the rest; ``size``
    and ``height`` count what lies below, aliases expanded.
    """

    start: int
    end: int
    style: str
    value: Any
    children: dict[str | int, Node] | None = None
    keys: dict[str, Node] = field(default_factory=dict)
    size: int = 1
    height: int = 1


class Document:
    """Plain JSON-like ``data``, and the place of each part of it."""

    def __init__(self, text: str, name: str, root: Node) -> None:
        self.text = text
        self.name = name
        self.data: Any = root.value
        self._root = root
        self._mapped: tuple[Node, Sequence[int]] | None = None
        self._lines = [0, *(found.end() for found in _BREAK.finditer(text))]

    def position(self, path: Iterable[str | int] = (), key: bool = False, offset: int = 0) -> Position:
        """Return the place of the value at ``path``, or of its key; of the nearest part around it where it is missing.

        ``offset`` points into the value of a text, in characters.
        """
        node = self._node(tuple(path), key=key)
        start = self._inside(node, offset) if offset else node.start
        return self._place(start, self._width(start, node.end))

    def problem(
        self,
        path: Iterable[str | int],
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        offset: int = 0,
        width: int | None = None,
        warning: bool = False,
    ) -> Problem:
        """Return a problem at ``path``; ``offset`` and ``width`` point into the value of a text, in characters."""
        node = self._node(tuple(path), key=key)
        start, end = node.start, node.end
        if offset or width is not None:
            start = self._inside(node, offset)
            end = self._inside(node, offset + width) if width is not None else node.end
        return self.problem_at(start, message, hint, end=end, warning=warning)

    def problem_at(self, start: int, message: str, hint: str = "", *, end: int = 0, warning: bool = False) -> Problem:
        """Return a problem at a place that is counted in characters from the beginning."""
        place = self._place(start, self._width(start, end))
        excerpt, caret = _shown(self.line(place.line), place.column, place.width)
        return Problem(
            message=_short(message),
            file=self.name,
            line=place.line,
            column=place.column,
            hint=_short(hint),
            excerpt=excerpt,
            caret=caret,
            width=place.width,
            warning=warning,
        )

    def line(self, number: int) -> str:
        """Return a line of the file, without its end."""
        start = self._lines[number - 1]
        end = self._lines[number] if number < len(self._lines) else len(self.text)
        return self.text[start:end].rstrip("\r\n")

    def line_at(self, start: int) -> str:
        """Return the line in which character ``start`` stands."""
        return self.line(bisect_right(self._lines, start))

    def _node(self, path: Path, *, key: bool) -> Node:
        node = self._root
        for step, part in enumerate(path):
            if node.children is None or part not in node.children:
                return node
            if key and step == len(path) - 1 and isinstance(part, str) and part in node.keys:
                return node.keys[part]
            node = node.children[part]
        return node

    def _inside(self, node: Node, offset: int) -> int:
        if node.children is not None or not isinstance(node.value, str):
            return node.start
        if node.style == "text":
            return node.start + offset
        if self._mapped is None or self._mapped[0] is not node:
            self._mapped = (node, source_offsets(self.text, node.start, node.end, node.style, node.value))
        places = self._mapped[1]
        return places[min(offset, len(places) - 1)]

    def _width(self, start: int, end: int) -> int:
        number = bisect_right(self._lines, start)
        edge = self._lines[number - 1] + len(self.line(number))
        shown = self.text[start : min(end, edge)].rstrip()
        return max(len(shown), 1)

    def _place(self, start: int, width: int) -> Position:
        line = bisect_right(self._lines, start)
        return Position(self.name, line, start - self._lines[line - 1] + 1, width)


def _short(text: str) -> str:
    """Return a message without the middle of what a file repeats at length."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _shown(line: str, column: int, width: int) -> tuple[str, str]:
    """Return a line as it is shown, cut where it is very long, and the carets below it."""
    line = line.replace("\t", " ").encode("utf-8", "replace").decode("utf-8")
    before = column - 1
    if len(line) > _WIDEST:
        cut = max(before - _BEFORE, 0)
        line, before = ("..." if cut else "") + line[cut : cut + _WIDEST], before - cut + (3 if cut else 0)
    marked = line[before : before + width]
    return line, " " * _cells(line[:before]) + "^" * max(_cells(marked), 1)


def _cells(text: str) -> int:
    """Return how many cells of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(_cell(character) for character in text)


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
