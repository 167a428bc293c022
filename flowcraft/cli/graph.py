"""``flowcraft graph``: a workflow, or a run of it, as a picture."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flowcraft.cli.console import stderr, stdout, write_file
from flowcraft.cli.options import SettingsPath, open_flowcraft, open_run

if TYPE_CHECKING:
    from flowcraft.drawing import Drawing

_NARROWEST = 40
_STYLES = {
    "title": "bold",
    "name": "bold",
    "kind": "cyan",
    "dim": "dim",
    "note": "",
    "frame": "dim",
    "error": "red",
    "done": "green",
    "reused": "dim green",
    "running": "cyan",
    "waiting": "yellow",
    "queued": "dim",
    "skipped": "dim",
    "failed": "red",
    "stopped": "yellow",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "not reached": "dim",
}
"""What the styles of the picture look like, those of states as ``flowcraft run`` shows them."""


class Format(StrEnum):
    """How a picture is written."""

    terminal = "terminal"
    mermaid = "mermaid"
    svg = "svg"


_ENDINGS = {".svg": Format.svg, ".mmd": Format.mermaid, ".mermaid": Format.mermaid, ".txt": Format.terminal}


def graph(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The workflow file; with --run it may be left out.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Draw what became of a run: its id, 'last', or an exported run.")
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", metavar="FORMAT", help="terminal, mermaid or svg; without it as -o ends, else terminal."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Unfold the workflows that it uses.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="PATH", help="Write it there, do not print it.")] = None,
    settings: SettingsPath = None,
) -> None:
    """Draw a workflow or a run: in the terminal, as Mermaid, as SVG. Nothing of it is run."""
    found = _format(form, out)
    drawing = _drawing(file, run, settings, deep)
    if found is Format.terminal:
        _show(drawing, out)
        return
    from flowcraft.drawing import mermaid, svg

    text = svg(drawing) if found is Format.svg else mermaid(drawing)
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())  # a picture is UTF-8, whatever the terminal's own encoding
    else:
        write_file(out, text)


def _format(form: Format | None, out: Path | None) -> Format:
    if form is not None or out is None:
        return form or Format.terminal
    found = _ENDINGS.get(out.suffix.lower())
    if found is None:
        endings = ", ".join(_ENDINGS)
        raise typer.BadParameter(f"{out} does not end in {endings}; say --format", param_hint="'-o'")
    return found


def _drawing(file: Path | None, run: str | None, settings: Path | None, deep: bool) -> Drawing:
    from flowcraft.app.drawings import draw_run
    from flowcraft.drawing import draw
    from flowcraft.workflow import load_workflow

    flow = open_flowcraft(settings)
    if run is None:
        if file is None:
            raise typer.BadParameter("name a workflow file, or a run with --run", param_hint="FILE")
        return draw(load_workflow(file, bodies=flow.plugins.bodies()), deep=deep)

    store, row = open_run(run, settings)
    drawing = draw_run(store, row, flow.plugins.bodies(), deep=deep)
    if file is not None:
        _compare(file, row.snapshot, row.id)
    return drawing


def _compare(file: Path, snapshot: object, run: str) -> None:
    """Say where the file is not the one that the run was started with: it is the latter that is drawn."""
    kept = snapshot if isinstance(snapshot, dict) else {}
    try:
        now = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {getattr(error, 'strerror', error)}", param_hint="FILE") from None
    before = {os.path.abspath(path): text for path, text in kept.get("files", {}).items()}
    main = os.path.abspath(str(kept.get("file", "")))
    if os.path.abspath(file) != main and before.get(main) != now:
        near = os.path.relpath(main)
        told = f"run {run} is of {main if near.startswith('..') else near}, not of {file}; what it started with is drawn"
    elif before.get(main) != now:
        told = f"{file} was edited since run {run} began; what it started with is drawn"
    else:
        return
    stderr().print(Text(told, style="yellow"))


def _show(drawing: Drawing, out: Path | None) -> None:
    from flowcraft.drawing import terminal

    if out is not None:
        lines = terminal(drawing, 100)
        write_file(out, "".join("".join(span.text for span in line).rstrip() + "\n" for line in lines))
        return
    console = stdout()
    width = console.width if console.is_terminal else shutil.get_terminal_size((80, 24)).columns
    for line in terminal(drawing, max(width, _NARROWEST), encoding=console.encoding):
        text = Text()
        for span in line:
            text.append(span.text, _STYLES.get(span.style, ""))
        text.rstrip()
        console.print(text, no_wrap=True, crop=False, overflow="ignore")
