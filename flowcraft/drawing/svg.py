"""A drawing as an SVG: one file that needs nothing else, in light and dark, the same bytes for the same drawing."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from flowcraft.drawing.drawing import Box, Drawing
from flowcraft.drawing.sheet import KIND, PAD, SMALL, STEP, TITLE, Card, Laid, Text, Wire, laid, moved, width

MARGIN = 28.0
_LEAST = 420.0
_FINALLY = 260.0
_LINE = 20.0
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

# What each is drawn in: light, dark.
_COLOURS = {
    "sheet": ("#ffffff", "#0f1419"),
    "card": ("#ffffff", "#1a212b"),
    "frame": ("#f6f8fa", "#141a22"),
    "edge": ("#d0d7de", "#37424f"),
    "text": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9aa7b4"),
    "wire": ("#8c96a0", "#6b7885"),
}
_KINDS = {
    "prompt": ("#6d43d8", "#b197fc"),
    "run": ("#0b7a75", "#4fd1c5"),
    "shell": ("#4b5563", "#b6c2cf"),
    "uses": ("#a35a00", "#f0b458"),
    "approve": ("#c02d63", "#ff8fb6"),
    "stages": ("#59636e", "#9aa7b4"),
    "crew": ("#1d5fbf", "#7cb2ff"),
    "inputs": ("#59636e", "#9aa7b4"),
    "outputs": ("#59636e", "#9aa7b4"),
    "other": ("#1d5fbf", "#7cb2ff"),
}
_STATES = {
    "done": ("#1a7f37", "#4ac26b"),
    "reused": ("#57966a", "#7fb98f"),
    "running": ("#0969da", "#58a6ff"),
    "waiting": ("#9a6700", "#e3b341"),
    "skipped": ("#6e7781", "#8b949e"),
    "failed": ("#cf222e", "#ff7b72"),
    "stopped": ("#bc4c00", "#f0883e"),
    "not-reached": ("#8c959f", "#6e7681"),
}


def svg(drawing: Drawing) -> str:
    """Return a drawing as the text of an SVG file."""
    return "\n".join(_Writer(drawing).lines()) + "\n"


class _Writer:
    """Writes one picture."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.main = laid(drawing.stages)
        self.last = laid(drawing.last)
        self.foot = max(self.last.width + 36, _FINALLY) if self.last.cards else 0.0
        self.head = [Text(text=drawing.name, style="headline")]
        if drawing.description:
            self.head.append(Text(text=drawing.description, style="lead"))
        if drawing.run is not None:
            told = " · ".join([f"run {drawing.run.id}", *drawing.run.facts])
            self.head.append(Text(text=told, style=f"lead state s-{drawing.run.state}"))
            if drawing.run.error:
                self.head.append(Text(text=drawing.run.error, style="lead state s-failed"))

    def lines(self) -> Iterator[str]:
        """Yield all lines of the file."""
        left_out = self.main.left_out + self.last.left_out
        wide = max(self.main.width, self.foot, _LEAST)
        head = [line for text in self.head for line in _folded(text, wide)]
        top = MARGIN + 26 + _LINE * (len(head) - 1) + 18
        end = top + self.main.height
        below = end + 40 if self.last.cards else end
        height = (below + self.last.height + 56 if self.last.cards else end) + (24 if left_out else 0) + MARGIN
        whole = wide + 2 * MARGIN
        size = f'width="{_n(whole)}" height="{_n(height)}" viewBox="0 0 {_n(whole)} {_n(height)}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" class="flowcraft" role="img" {size}>'
        yield f"<title>{_text(self.drawing.name)}</title>"
        yield f"<desc>{_text(self.drawing.summary)}</desc>"
        yield f"<style>{style()}</style>"
        yield f'<rect class="sheet" width="{_n(whole)}" height="{_n(height)}" rx="12"/>'
        for number, line in enumerate(head):
            y = MARGIN + 14 + (_LINE * number + 6 if number else 0)
            yield _written(line, MARGIN, y)
        yield from self.laid(self.main, MARGIN + (wide - self.main.width) / 2, top)
        if self.last.cards:
            yield from self.finally_(MARGIN + (wide - self.foot) / 2, below)
        if left_out:
            told = f"{left_out} lines that follow from others, or would hide them, are left out"
            yield _written(Text(text=told, style="note"), MARGIN, height - MARGIN / 2)
        yield "</svg>"

    def laid(self, block: Laid, x: float, y: float) -> Iterator[str]:
        """Yield a block whose corner lies at ``x``, ``y``."""
        sheet = Card(
            box=Box(id="", name="", kind=""),
            x=0,
            y=0,
            width=block.width,
            height=block.height,
            cards=block.cards,
            wires=block.wires,
        )
        yield from _inside(moved(sheet, x, y))

    def finally_(self, x: float, y: float) -> Iterator[str]:
        """Yield the stages that run last, in a frame of their own whose corner lies at ``x``, ``y``."""
        size = f'x="{_n(x)}" y="{_n(y)}" width="{_n(self.foot)}" height="{_n(self.last.height + 56)}" rx="12"'
        yield '<g class="last">'
        yield f'<rect class="frame" {size}/>'
        yield _written(Text(text="finally", style="title"), x + 18, y + 25)
        yield _written(Text(text="when all else has ended", style="note"), x + 76, y + 25)
        yield from self.laid(self.last, x + (self.foot - self.last.width) / 2, y + 38)
        yield "</g>"


def _inside(frame: Card) -> Iterator[str]:
    """Yield what is in a frame: lines first, so that boxes lie above them."""
    for wire in frame.wires:
        yield _wire(wire)
    for card in frame.cards:
        yield from _card(card)


def _card(card: Card) -> Iterator[str]:
    """Yield a box, and what is in it."""
    box = card.box
    kind = box.kind if box.kind in _KINDS else "other"
    state = f" s-{box.told.state.replace(' ', '-')}" if box.told is not None else ""
    yield f'<g class="box k-{kind}{state}" data-id="{_text(box.id)}">'
    whole = "\n".join([box.id, *(text.whole for text in card.texts if text.whole)])
    yield f"<title>{_text(whole)}</title>"
    place = f'x="{_n(card.x)}" y="{_n(card.y)}" width="{_n(card.width)}" height="{_n(card.height)}"'
    if box.many:
        behind = f'x="{_n(card.x + 5)}" y="{_n(card.y + 5)}" width="{_n(card.width)}" height="{_n(card.height)}"'
        yield f'<rect class="behind" {behind} rx="9"/>'
    if box.kind in ("inputs", "outputs"):
        yield f'<rect class="end" {place} rx="{_n(min(card.height / 2, 20))}"/>'
    else:
        yield f'<rect class="{"frame" if card.cards else "card"}" {place} rx="9"/>'
        yield f'<path class="mark" d="M{_n(card.x + 1.5)} {_n(card.y + 13)}v{_n(min(card.height - 26, 22))}"/>'
    yield from _texts(card)
    yield from _inside(card)
    yield "</g>"


def _texts(card: Card) -> Iterator[str]:
    """Yield the texts of a box."""
    title, kind, *rest = card.texts
    y = card.y + PAD + TITLE - 3
    yield _written(title, card.x + PAD, y)
    if kind.text:
        wide = width(kind.text.upper(), KIND, 1.12) + 12
        x = card.x + card.width - PAD - wide + 4
        yield f'<rect class="pill" x="{_n(x)}" y="{_n(y - 12)}" width="{_n(wide)}" height="16" rx="8"/>'
        yield f'<text class="kind" x="{_n(x + wide / 2)}" y="{_n(y - 0.5)}" text-anchor="middle">{_text(kind.text)}</text>'
    for number, text in enumerate(rest, 1):
        yield _written(text, card.x + PAD, y + STEP * number + 1)


def _wire(wire: Wire) -> str:
    """Return a line: straight through layers, curved between them, with its head at the box it leads to."""
    (x, y), *rest = wire.points
    drawn = [f"M{_n(x)} {_n(y)}"]
    for number, (left, top) in enumerate(rest):
        last = number == len(rest) - 1
        end = top - 5 if last else top
        if abs(left - x) < 0.05:
            drawn.append(f"V{_n(end)}")
        else:
            middle = (y + top) / 2
            drawn.append(f"C{_n(x)} {_n(middle)} {_n(left)} {_n(middle)} {_n(left)} {_n(end)}")
        x, y = left, top
    head = f'<path class="head" d="M{_n(x - 4)} {_n(y - 7)}L{_n(x)} {_n(y)}L{_n(x + 4)} {_n(y - 7)}z"/>'
    ends = f'data-from="{_text(wire.source)}" data-to="{_text(wire.target)}"'
    return f'<g class="line{"" if wire.data else " needs"}" {ends}><path class="wire" d="{"".join(drawn)}"/>{head}</g>'


def _written(text: Text, x: float, y: float) -> str:
    return f'<text class="{text.style}" x="{_n(x)}" y="{_n(y)}">{_text(text.text)}</text>'


def _folded(text: Text, wide: float) -> Iterator[Text]:
    """Yield a text of the head in lines that are no wider than the picture."""
    size = 20.0 if text.style == "headline" else SMALL + 1
    line = ""
    for word in text.text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and width(longer, size) > wide:
            yield Text(text=line, style=text.style)
            line = word
        else:
            line = longer
    yield Text(text=line, style=text.style)


def _n(number: float) -> str:
    """Return a number as it is written: at most one digit behind the point."""
    return f"{number:.1f}".removesuffix(".0").replace("-0", "0") if abs(number) < 0.05 else f"{number:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    """Return a text without what XML does not take, its marks escaped."""
    return escape("".join(letter for letter in text if _may_stand(letter)), {'"': "&quot;"})


def _may_stand(letter: str) -> bool:
    code = ord(letter)
    return letter in "\t\n" or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


def style() -> str:
    """Return the style sheet. No variables: not all that draw SVG know them."""
    rules = [
        f".flowcraft text{{font-family:{_SANS};font-size:{_n(SMALL)}px}}",
        f".flowcraft .title{{font-size:{_n(TITLE)}px;font-weight:600}}",
        ".flowcraft .headline{font-size:20px;font-weight:650}",
        f".flowcraft .lead{{font-size:{_n(SMALL + 1)}px}}",
        f".flowcraft .code{{font-family:{_MONO};font-size:{_n(SMALL - 1)}px}}",
        f".flowcraft .kind{{font-size:{_n(KIND)}px;font-weight:600;letter-spacing:.04em;text-transform:uppercase}}",
        ".flowcraft .state{font-weight:600}",
        ".flowcraft .card,.flowcraft .frame,.flowcraft .end,.flowcraft .behind{stroke-width:1.2}",
        ".flowcraft .mark{stroke-width:3;stroke-linecap:round;fill:none}",
        ".flowcraft .pill{fill-opacity:.12}",
        ".flowcraft .wire{fill:none;stroke-width:1.5}",
        ".flowcraft .needs .wire{stroke-dasharray:5 4}",
        ".flowcraft .s-skipped>.card,.flowcraft .s-not-reached>.card,.flowcraft .s-skipped>.frame,"
        ".flowcraft .s-not-reached>.frame{stroke-dasharray:4 3}",
        *_painted(0),
        f"@media (prefers-color-scheme:dark){{{''.join(_painted(1))}}}",
    ]
    return "".join(rules)


def _painted(shade: int) -> Iterator[str]:
    """Yield the rules of all colours, of the light picture (0) or of the dark one (1)."""
    colour = {name: both[shade] for name, both in _COLOURS.items()}
    yield f".flowcraft .sheet{{fill:{colour['sheet']}}}"
    yield f".flowcraft text{{fill:{colour['text']}}}"
    yield f".flowcraft .what,.flowcraft .note,.flowcraft .lead,.flowcraft .reason{{fill:{colour['muted']}}}"
    yield f".flowcraft .card,.flowcraft .behind{{fill:{colour['card']};stroke:{colour['edge']}}}"
    yield f".flowcraft .frame,.flowcraft .end{{fill:{colour['frame']};stroke:{colour['edge']}}}"
    yield f".flowcraft .wire{{stroke:{colour['wire']}}}.flowcraft .head{{fill:{colour['wire']}}}"
    for kind, both in _KINDS.items():
        yield f".flowcraft .k-{kind}>.mark{{stroke:{both[shade]}}}"
        yield f".flowcraft .k-{kind}>.pill,.flowcraft .k-{kind}>.kind{{fill:{both[shade]}}}"
    for state, both in _STATES.items():
        yield f".flowcraft .s-{state}>.state,.flowcraft .state.s-{state}{{fill:{both[shade]}}}"
        yield f".flowcraft .s-{state}>.card,.flowcraft .s-{state}>.frame{{stroke:{both[shade]}}}"
