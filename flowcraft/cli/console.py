"""Where the command line prints: tables and messages for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from flowcraft.errors import FlowCraftError, Problem

# Letters of terminals' own commands become pictures of themselves, which turn text around the mark of a letter that is none.
_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}


def visible(text: str) -> str:
    """Return text that cannot command a terminal: what a model or a command wrote is to be seen, not carried out."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


class _Console(Console):
    """Shows on a terminal nothing that could command it.

    It falls silent when nobody reads it any more; Rich would end the process, and a run with it.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not self.is_terminal:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        self.quiet = True


def stdout(width: int | None = None) -> Console:
    """Return the console of results."""
    return _Console(soft_wrap=not sys.stdout.isatty(), highlight=False, width=width, emoji=False, markup=False)


def stderr() -> Console:
    """Return the console of messages and errors."""
    return _Console(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False, emoji=False, markup=False)


def print_json(data: Any) -> None:
    """Print one JSON document, readable and in its own letters."""
    text = json.dumps(data, ensure_ascii=False, indent=2, default=str)
    sys.stdout.write(text.encode("utf-8", "replace").decode("utf-8") + "\n")


def print_problems(problems: Iterable[Problem]) -> None:
    """Print problems to stderr, each with its place, its line and a caret."""
    console = stderr()
    for problem in problems:
        text = Text(str(problem))
        text.stylize("yellow" if problem.warning else "red", 0, len(problem.place))
        console.print(text, soft_wrap=True)


def write_file(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to a file that a command names; raise FlowCraftError where that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FlowCraftError(f"{path} cannot be written: {error.strerror or error}") from None


def print_error(message: str) -> None:
    """Print what went wrong to stderr."""
    stderr().print(Text(f"flowcraft: {message}", style="red"))
