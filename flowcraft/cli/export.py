"""``flowcraft runs export``: a run as one file, to be read elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.options import AsJson, RunId, SettingsPath, open_flowcraft


def export_run(
    run: RunId,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write; default: RUN.sqlite in this folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there already.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Write a run, as it stands, to one SQLite file without keys and secrets, which the other commands read elsewhere."""
    flow = open_flowcraft(settings)
    row = flow.engine.find(run)
    written = flow.export(row.id, out or Path(f"{row.id}.sqlite"), force=force)
    if as_json:
        print_json({"run": row.id, "state": row.state, "file": str(written)})
        return
    stdout().print(Text(str(written)))
    stderr().print(Text(f"run {row.id} ({row.state}); read it anywhere: flowcraft runs show {written}", style="dim"))
