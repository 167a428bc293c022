"""A drawing as lines of a terminal: stages in their steps, each with what it is made from, groups as frames around theirs.

A line is a tuple of texts with the names of styles; who prints them knows what the styles look like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from flowcraft.drawing.drawing import INPUTS, OUTPUTS, Block, Box, Drawing, Line
from flowcraft.drawing.words import cells, cut, wrapped

LEAST_WIDTH = 40
_LONGEST_NAME = 24
_LONGEST_WHAT = 48


class Span(NamedTuple):
    """Text in one style: ``title name kind dim note frame error``, or a state of a box."""

    text: str
    style: str = ""


TextLine = tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The characters of a picture."""

    stage: str = "●"
    corner: str = "╭"
    side: str = "│"
    foot: str = "╰"
    rule: str = "─"
    source: str = "←"
    dot: str = "·"
    more: str = "…"
    done: str = "✓"
    reused: str = "✓"
    running: str = "▸"
    waiting: str = "?"
    skipped: str = "-"
    failed: str = "✗"
    stopped: str = "◦"
    not_reached: str = "·"

    def of(self, box: Box) -> str:
        """Return the sign of what became of a box."""
        return self.stage if box.told is None else str(getattr(self, box.told.state.replace(" ", "_")))


ASCII = Signs(
    stage="*",
    corner="+",
    side="|",
    foot="+",
    rule="-",
    source="<-",
    dot="-",
    more="...",
    done="v",
    reused="v",
    running=">",
    skipped="-",
    failed="x",
    stopped="o",
    not_reached=".",
)
"""For terminals whose encoding has nothing else."""


def terminal(drawing: Drawing, width: int = 80, *, encoding: str = "utf-8") -> list[TextLine]:
    """Return the lines of a drawing, none wider than ``width`` cells (40 at least).

    Where ``encoding`` lacks the signs of frames, ASCII stands in for them.
    """
    return list(_Writer(max(width, LEAST_WIDTH), signs_for(encoding)).whole(drawing))


def signs_for(encoding: str) -> Signs:
    """Return the signs that ``encoding`` has."""
    unicode = Signs()
    try:
        "".join(getattr(unicode, known.name) for known in fields(Signs)).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return unicode


class _Writer:
    """Writes the lines of one drawing."""

    def __init__(self, width: int, signs: Signs) -> None:
        self.width = width
        self.signs = signs

    def whole(self, drawing: Drawing) -> Iterator[TextLine]:
        """Yield all lines."""
        yield (Span(self.cut(drawing.name, self.width), "title"),)
        yield from self.text(drawing.description, "dim")
        if drawing.run is not None:
            run = drawing.run
            yield (Span(self.cut(self.dotted([f"run {run.id}", *run.facts]), self.width), run.state),)
            yield from self.text(run.error, "error")
        ends = {box.id: box for box in drawing.stages.boxes if box.id in (INPUTS, OUTPUTS)}
        yield ()
        if INPUTS in ends:
            yield from self.end(ends[INPUTS])
            yield ()
        stages = tuple(box for box in drawing.stages.boxes if box.id not in ends)
        yield from self.block(Block(boxes=stages, lines=drawing.stages.lines), ())
        if drawing.last.boxes:
            yield ()
            yield (Span("finally", "name"), Span(self.cut(", when all else has ended", self.width - 7), "dim"))
            yield from self.block(drawing.last, ())
        if ends.get(OUTPUTS) is not None and ends[OUTPUTS].notes:
            yield ()
            yield from self.end(ends[OUTPUTS])

    def cut(self, text: str, width: int) -> str:
        """Return ``text`` in at most ``width`` cells."""
        return cut(text, width, self.signs.more)

    def dotted(self, parts: list[str]) -> str:
        """Return parts with a dot between them."""
        return f" {self.signs.dot} ".join(parts)

    def text(self, text: str, style: str) -> Iterator[TextLine]:
        """Yield the lines of a text."""
        for line in wrapped(text.split(), self.width, " "):
            yield (Span(line, style),)

    def end(self, box: Box) -> Iterator[TextLine]:
        """Yield the inputs, or the outputs."""
        head = f"{box.name}  "
        for number, line in enumerate(wrapped(list(box.notes), self.width - len(head), f" {self.signs.dot} ")):
            yield (Span(head if number == 0 else " " * len(head), "name"), Span(line, "note"))

    def block(self, block: Block, margin: TextLine) -> Iterator[TextLine]:
        """Yield the lines of stages that stand together, step by step."""
        if sum(cells(span.text) for span in margin) > self.width // 2:  # so deep that the frames around are only told of
            margin = (Span(f"{self.signs.more} ", "dim"), *margin[-1:])
        steps = steps_of(block)
        name = min(max((cells(box.name) for box in block.boxes), default=0), _LONGEST_NAME)
        kind = max((cells(box.kind) for box in block.boxes), default=0)
        before: dict[str, list[Line]] = {}
        for line in block.lines:
            before.setdefault(line.target, []).append(line)
        digits = len(str(max(steps.values(), default=1)))
        last = 0
        for box in sorted(block.boxes, key=lambda box: steps[box.id]):
            step = steps[box.id]
            number = f"{step if step != last else '':>{digits}} "
            last = step
            yield from self.box(box, (*margin, Span(number, "dim")), (name, kind), before.get(box.id, []))

    def box(self, box: Box, margin: TextLine, columns: tuple[int, int], before: list[Line]) -> Iterator[TextLine]:
        """Yield the lines of one stage; ``columns`` are the widths of names and kinds, ``before`` the lines that lead to it."""
        style = box.told.state if box.told is not None else "kind"
        sign = self.signs.of(box)
        taken = sum(cells(span.text) for span in margin)
        room = self.width - taken - columns[0] - 4
        side_by_side = room - columns[1] - 2 >= self.width // 3
        head = (
            *margin,
            Span(f"{sign} ", style),
            Span(f"{self.cut(box.name, _LONGEST_NAME):<{columns[0]}}", "name"),
            Span("  "),
        )
        head = _padded(head, taken + 4 + columns[0])
        kind = Span(f"{box.kind:<{columns[1]}}  " if side_by_side else box.kind, "kind")
        told = self.told(box, before)
        if side_by_side:
            indent = taken + 4 + columns[0] + columns[1] + 2
            rows = self.rows(told, self.width - indent)
            yield (*head, kind, rows[0]) if rows else (*head, kind)
            rest = rows[1:]
        else:
            indent = taken + 4
            yield _fitting((*head, kind), self.width)
            rest = self.rows(told, self.width - indent)
        framed = box.inside is not None
        for row in rest:
            yield (*self.beside(margin, framed), Span(" " * (indent - taken - 2 * framed)), row)
        if box.inside is not None:
            yield from self.block(box.inside, self.beside(margin, framed))
            blank = " " * cells(margin[-1].text)
            yield (*margin[:-1], Span(blank), Span(self.signs.foot + self.signs.rule, "frame"))

    def beside(self, margin: TextLine, framed: bool) -> TextLine:
        """Return the margin of lines below the first of a box."""
        blank = (*margin[:-1], Span(" " * cells(margin[-1].text)))
        return (*blank, Span(f"{self.signs.side} ", "frame")) if framed else blank

    def rows(self, told: list[tuple[list[str], str]], width: int) -> list[Span]:
        """Return what is said as lines: parts with dots between them, one that is too long alone broken between its words."""
        dot = f" {self.signs.dot} "
        found = []
        for parts, style in told:
            fitting = [line for part in parts for line in self.fold(part, width)]
            found += [Span(line, style) for line in wrapped(fitting, width, dot if len(parts) > 1 else " ")]
        return found

    def fold(self, text: str, width: int) -> list[str]:
        """Return a text in lines, broken between its words."""
        return [self.cut(line, width) for line in wrapped(text.split(" "), width, " ")] if cells(text) > width else [text]

    def told(self, box: Box, before: list[Line]) -> list[tuple[list[str], str]]:
        """Return what is said beside a stage: parts of lines, and their style."""
        found: list[tuple[list[str], str]] = []
        if box.told is not None:
            found.append(([box.told.state, *box.told.facts], box.told.state))
            if box.told.reason and box.told.state != "done":
                found.append(([box.told.reason], "error" if box.told.state == "failed" else "dim"))
        if box.what:
            found.append(([self.cut(box.what, _LONGEST_WHAT)], ""))
        if box.notes:
            found.append((list(box.notes), "note"))
        data = [_name(line.source) for line in before if line.data and line.source != INPUTS]
        order = [_name(line.source) for line in before if not line.data]
        told = [f"{self.signs.source} {', '.join(data)}"] * bool(data) + [f"needs {', '.join(order)}"] * bool(order)
        return [*found, (told, "dim")] if told else found


def steps_of(block: Block) -> Mapping[str, int]:
    """Return the step of each box, from 1: behind all that lead to it."""
    steps = {box.id: 1 for box in block.boxes}
    waits = dict.fromkeys(steps, 0)
    follow: dict[str, list[str]] = {name: [] for name in steps}
    for line in block.lines:
        if line.source in steps and line.target in steps:
            waits[line.target] += 1
            follow[line.source].append(line.target)
    ready = [name for name, count in waits.items() if count == 0]
    for name in ready:
        for other in follow[name]:
            steps[other] = max(steps[other], steps[name] + 1)
            waits[other] -= 1
            if waits[other] == 0:
                ready.append(other)
    return steps


def _name(found: str) -> str:
    return found.rpartition("/")[2]


def _padded(line: TextLine, width: int) -> TextLine:
    taken = sum(cells(span.text) for span in line)
    return (*line, Span(" " * (width - taken))) if taken < width else line


def _fitting(line: TextLine, width: int) -> TextLine:
    fitting, left = [], width
    for span in line:
        fitting.append(Span(cut(span.text, left), span.style) if cells(span.text) > left else span)
        left -= cells(fitting[-1].text)
    return tuple(fitting)
