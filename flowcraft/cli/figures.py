"""Figures of things by their names, in columns that fit the screen, with a line of words below where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

WIDTH = 100
"""Characters of a line where nobody says how wide the screen is."""
LEAST = 4
"""Characters that names get at least beside their figures; whose name is longer than its room stands above."""
GAP = 2
INDENT = "    "
UNKNOWN = "–"


class Figures:
    """Rows of figures, right-aligned. A name that finds no room beside its figures stands above them."""

    def __init__(self, name: str, *columns: str) -> None:
        self._head = (name, [Text(column) for column in columns])
        self._rows: list[tuple[str, Sequence[Text], Sequence[Text], str]] = []

    def add(self, name: str, cells: Sequence[Text], notes: Sequence[Text] = (), style: str = "") -> None:
        """Add a row; ``notes`` stand below it, a line each."""
        self._rows.append((name, cells, notes, style))

    def heading(self, text: str) -> None:
        """Add a line over the rows that follow."""
        self._rows.append((text, (), (), "bold"))

    def show(self, console: Console) -> None:
        """Print all rows."""
        width = console.width if console.is_terminal else None
        for line in self.lines(console, width):
            console.print(line, soft_wrap=True)

    def lines(self, console: Console, wrapped: int | None = None) -> Iterator[Text]:
        """Yield the lines, notes ``wrapped`` at so many characters; names may be longer, as may notes where nobody says."""
        width = wrapped or WIDTH
        title, head = self._head
        all_cells = [head, *(cells for _, cells, _, _ in self._rows if cells)]
        widths = [max(len(cells[place]) for cells in all_cells) for place in range(len(head))]
        names = [title, *(name for name, cells, _, _ in self._rows if cells)]
        room = max(LEAST, min(max(map(cell_len, names)), width - sum(widths) - GAP * len(widths)))
        for name, cells, notes, style in [(title, head, (), "dim"), *self._rows]:
            if not cells or cell_len(name) > room:
                yield Text(name, style=style)
            if cells:
                yield _line("" if cell_len(name) > room else name, cells, room, widths, style)
            for note in notes:
                for part in note.wrap(console, max(1, width - len(INDENT))) if wrapped else [note]:
                    yield Text(INDENT) + part


def _line(name: str, cells: Sequence[Text], room: int, widths: Sequence[int], style: str) -> Text:
    line = Text(name + " " * (room - cell_len(name)), style=style)
    for cell, width in zip(cells, widths, strict=True):
        line.append(" " * (GAP + width - len(cell)))
        line.append_text(cell)
    return line


def seconds(value: float | None) -> Text:
    """Return a time as a person reads it."""
    if value is None:
        return Text(UNKNOWN, style="dim")
    if value < 0.01:
        return Text(f"{value * 1000:.2g} ms")
    return Text(f"{value:.2f} s" if value < 10 else f"{value:,.1f} s" if value < 100 else f"{value:,.0f} s")


def share(value: float | None) -> Text:
    """Return a share that should be near 1 as a percentage, coloured by how near it is."""
    if value is None:
        return Text(UNKNOWN, style="dim")
    text = f"{100 * value:.0f} %" if value in (0, 1) else f"{min(99.9, max(0.1, 100 * value)):.1f} %"
    return Text(text, style="green" if value >= 0.99 else "yellow" if value >= 0.9 else "red")


def rate(value: float | None) -> Text:
    """Return how much there is in a second; what is little does not become nothing."""
    return number(value, ",.0f" if value is None or value >= 10 else ".2g")


def number(value: float | None, form: str = ",.0f") -> Text:
    """Return a number in ``form``."""
    return Text(UNKNOWN, style="dim") if value is None else Text(format(value, form))


def usd(value: float | None) -> Text:
    """Return an amount of money; what is little does not become nothing."""
    if value is not None and 0 < value < 0.00005:
        return Text("<0.0001")
    return number(value, ",.2f" if value is not None and value >= 100 else ",.4f")
