"""What each piece of a run's work was asked, and its result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from flowcraft.cli.console import print_json, stdout
from flowcraft.cli.run import readable

if TYPE_CHECKING:
    from flowcraft.engine.ports import Piece

_INDENT = "    "


def show_prompts(pieces: Sequence[Piece], as_json: bool) -> None:
    """Print the pieces in the order in which they were finished."""
    from flowcraft.engine.pieces.asked import told_left_out

    told = [_told(piece) for piece in pieces]
    if as_json:
        print_json(told)
        return
    console = stdout()
    for piece in told:
        origin = f" · from {piece['origin']}" if piece["origin"] else ""
        title = f"{piece['path']} · {piece['state']} · {piece['seconds']:.1f} s{origin}"
        console.print(Text(title, style="bold" if piece["state"] == "done" else "bold yellow"))
        for name, value in _asked(piece["asked"]):
            _print(name, value, "cyan")
        if piece["left_out"]:
            console.print(Text(f"  {told_left_out(piece['left_out'])}", style="yellow"))
        _print("result", piece["result"], "green")
        console.print()


def _told(piece: Piece) -> dict[str, Any]:
    from flowcraft.engine.pieces.asked import left_out

    asked = json.loads(piece.asked) if piece.asked else None
    return {
        "path": piece.path,
        "state": piece.state,
        "seconds": round(piece.seconds, 3),
        "origin": piece.origin,
        "asked": asked,
        "left_out": left_out(asked) if isinstance(asked, dict) else {},
        "result": json.loads(piece.result),
    }


def _asked(asked: Any) -> list[tuple[str, Any]]:
    """Return what was asked by name, without what says nothing."""
    found = asked.items() if isinstance(asked, dict) else [("asked", asked)]
    return [(name, value) for name, value in found if value not in (None, "", [], {})]


def _print(name: str, value: Any, style: str) -> None:
    text = readable(value).replace("\n", f"\n{_INDENT}")
    line = Text(f"  {name}: ", style=style)
    line.append(f"\n{_INDENT}{text}" if "\n" in text else text, style="")
    stdout().print(line)
