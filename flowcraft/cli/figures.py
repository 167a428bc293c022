"""Figures of things by their names, in columns that fit the screen, with a line of words below where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

WIDTH = 100
"""Characters of a line where nobody says how wide the screen is."""
LEAST = 16
"""Characters that the names get at least."""
GAP = 2
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
        for line in self.lines(console.width if console.is_terminal else WIDTH):
            console.print(line, soft_wrap=True)

    def lines(self, width: int = WIDTH) -> Iterator[Text]:
        """Yield the lines; only names and notes may be longer than ``width``."""
        title, head = self._head
        all_cells = [head, *(cells for _, cells, _, _ in self._rows if cells)]
        widths = [max(len(cells[place]) for cells in all_cells) for place in range(len(head))]
        names = [title, *(name for name, cells, _, _ in self._rows if cells)]
        room = max(LEAST, min(max(map(cell_len, names)), width - sum(widths) - GAP * len(widths)))
        yield _line(title, head, room, widths, "dim")
        for name, cells, notes, style in self._rows:
            if not cells:
                yield Text(name, style=style)
                continue
            long = cell_len(name) > room
            if long:
                yield Text(name, style=style)
            yield _line("" if long else name, cells, room, widths, style)
            for note in notes:
                yield Text("    ") + note


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


def number(value: float | None, form: str = ",.0f") -> Text:
    """Return a number in ``form``."""
    return Text(UNKNOWN, style="dim") if value is None else Text(format(value, form))


def usd(value: float | None) -> Text:
    """Return an amount of money."""
    return number(value, ",.2f" if value is not None and value >= 100 else ",.4f")
