"""Where the command line prints: tables and messages for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from flowcraft.errors import FlowCraftError, Problem


class _Console(Console):
    """Falls silent when nobody reads it any more; Rich would end the process, and a run with it."""

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
