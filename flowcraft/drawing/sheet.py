"""A drawing laid out on a sheet: every box with its texts, frames around their stages, all in the units of an SVG."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from flowcraft.drawing.drawing import INPUTS, OUTPUTS, Block, Box
from flowcraft.drawing.layout import Point, lay_out
from flowcraft.drawing.words import cells

GAP = (28.0, 46.0)
PAD = 14.0
TITLE = 14.0
SMALL = 12.0
KIND = 10.0
STEP = 18.0
"""From one line of text to the next."""
WIDEST = 300.0
"""Of a text."""
_LEAST = 132.0
_FRAME = 18.0

_NARROW = frozenset("iljtfrI.,:;'|!()[]`-/\\ ")
_WIDE = frozenset("mwMW@%—…←→<>=+~&")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A line of text and what it is: ``title kind what code note state reason``."""

    text: str
    style: str
    whole: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A box on the sheet: its left upper corner, its size, its texts. A frame has ``cards`` and ``wires`` in it.

    ``texts`` begins with name and kind. Places of cards and wires are those of the sheet.
    """

    box: Box
    x: float
    y: float
    width: float
    height: float
    texts: tuple[Text, ...] = ()
    cards: tuple[Card, ...] = ()
    wires: tuple[Wire, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A line on the sheet, as points from the lower edge of a box to the upper edge of another."""

    source: str
    target: str
    data: bool
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A block laid out, its places counted from its own corner. ``left_out`` is how many lines are not drawn."""

    width: float = 0.0
    height: float = 0.0
    cards: tuple[Card, ...] = ()
    wires: tuple[Wire, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Shape:
    box: Box
    width: float
    height: float
    texts: tuple[Text, ...]
    inside: Laid = field(default_factory=Laid)


def laid(block: Block) -> Laid:
    """Return a block laid out."""
    boxes = [box for box in block.boxes if box.kind != "outputs" or box.notes]
    shapes = [_shape(box) for box in boxes]
    number = {box.id: place for place, box in enumerate(boxes)}
    lines = [line for line in block.lines if line.source in number and line.target in number]
    edges = [(number[line.source], number[line.target]) for line in lines]
    found = lay_out([(shape.width, shape.height) for shape in shapes], edges, GAP)
    wires = tuple(
        Wire(source=lines[place].source, target=lines[place].target, data=lines[place].data, points=tuple(points))
        for place, points in found.lines.items()
    )
    return Laid(
        width=found.width,
        height=found.height,
        cards=tuple(_card(shape, corner) for shape, corner in zip(shapes, found.boxes, strict=True)),
        wires=wires,
        left_out=len(lines) - len(wires) + sum(shape.inside.left_out for shape in shapes),
    )


def _shape(box: Box) -> _Shape:
    """Return the size of a box and its texts."""
    inside = laid(box.inside) if box.inside is not None else None
    texts = tuple(_texts(box))
    head = width(box.name, TITLE, 1.08) + 18 + _kind_width(box)
    wide = max([head, _LEAST - 2 * PAD, *(text_width(text) for text in texts[2:])]) + 2 * PAD
    high = 2 * PAD + TITLE - 3 + STEP * len(texts[2:])
    if inside is None:
        return _Shape(box, wide, high, texts)
    return _Shape(box, max(wide, inside.width + 2 * _FRAME), high + inside.height + _FRAME, texts, inside)


def _card(shape: _Shape, corner: Point) -> Card:
    """Return a shape at its place, with all that is in it."""
    inside = shape.inside
    x = corner[0] + (shape.width - inside.width) / 2
    y = corner[1] + shape.height - inside.height - _FRAME
    return Card(
        box=shape.box,
        x=corner[0],
        y=corner[1],
        width=shape.width,
        height=shape.height,
        texts=shape.texts,
        cards=tuple(moved(card, x, y) for card in inside.cards),
        wires=tuple(_moved_wire(wire, x, y) for wire in inside.wires),
    )


def moved(card: Card, x: float, y: float) -> Card:
    """Return a card, and all that is in it, so much further right and down."""
    return Card(
        box=card.box,
        x=card.x + x,
        y=card.y + y,
        width=card.width,
        height=card.height,
        texts=card.texts,
        cards=tuple(moved(inner, x, y) for inner in card.cards),
        wires=tuple(_moved_wire(wire, x, y) for wire in card.wires),
    )


def _moved_wire(wire: Wire, x: float, y: float) -> Wire:
    points = tuple((left + x, top + y) for left, top in wire.points)
    return Wire(source=wire.source, target=wire.target, data=wire.data, points=points)


def _texts(box: Box) -> Sequence[Text]:
    """Return the lines of a box: name, kind, what it does, its notes, what became of it."""
    found = [Text(text=box.name, style="title"), Text(text="" if box.id in (INPUTS, OUTPUTS) else box.kind, style="kind")]
    if box.what:
        found.append(_cut(box.what, "code" if box.kind in ("run", "shell", "uses") else "what"))
    together = box.kind not in ("inputs", "outputs")
    alone = [note for note in box.notes if not together or note.startswith(("when ", "each ", "until "))]
    found += [_cut(note, "note") for note in alone]
    found += _joined([note for note in box.notes if note not in alone], "note")
    if box.told is not None:
        found += _joined([box.told.state, *box.told.facts], "state")
        if box.told.reason and box.told.state != "done":
            found.append(_cut(box.told.reason, "reason"))
    return found


def _joined(parts: list[str], style: str) -> list[Text]:
    """Return parts in lines, as many in one as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and width(f"{lines[-1]} · {part}", SMALL) <= WIDEST:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return [_cut(line, style) for line in lines]


def _cut(text: str, style: str) -> Text:
    """Return a text that is no wider than it may be; where it is cut, all of it goes with it."""
    if text_width(Text(text=text, style=style)) <= WIDEST:
        return Text(text=text, style=style)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_width(Text(text=text[:middle] + "…", style=style)) <= WIDEST
        low, high = (middle, high) if fits else (low, middle - 1)
    return Text(text=text[:low].rstrip() + "…", style=style, whole=text)


def text_width(text: Text) -> float:
    """Return how wide a line of a box is about."""
    return cells(text.text) * 0.62 * (SMALL - 1) if text.style == "code" else width(text.text, SMALL)


def width(text: str, size: float, factor: float = 1.0) -> float:
    """Return how wide a text is about, in a font like Helvetica; rather too wide than too narrow."""
    return sum(_letter(letter) for letter in text) * size * factor


def _letter(letter: str) -> float:
    if letter in _NARROW:
        return 0.39
    if letter in _WIDE:
        return 0.92
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    return 0.72 if letter.isupper() else 0.64


def _kind_width(box: Box) -> float:
    return width(box.kind.upper(), KIND, 1.12) + 14 if box.id not in (INPUTS, OUTPUTS) else 0.0
