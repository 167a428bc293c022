"""``flowcraft runs export``: a run as one file, to be read elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.options import AsJson, RunId, SettingsPath, open_flowcraft

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft, RunResult


def export_run(
    run: RunId,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write; default: RUN.sqlite in this folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there already.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Write a run to one SQLite file, without keys and secrets. The other commands read it elsewhere."""
    flow = open_flowcraft(settings)
    row = flow.engine.find(run)
    written = flow.export(row.id, out or Path(f"{row.id}.sqlite"), force=force)
    shortened = flow.engine.store.shortened(row.id)
    if as_json:
        print_json({"run": row.id, "state": row.state, "file": str(written), "shortened": shortened})
        return
    stdout().print(Text(str(written)))
    stderr().print(Text(f"run {row.id} ({row.state}); read it anywhere: flowcraft runs show {written}", style="dim"))
    if shortened:
        stderr().print(Text(told_shortened(shortened, str(written)), style="yellow"))


def told_shortened(count: int, run: str) -> str:
    """Say that long texts are not kept whole, and how to see which."""
    pieces = "1 piece" if count == 1 else f"{count} pieces"
    return f"of {pieces} what was asked is kept shortened, for its length; which: flowcraft runs show {run} --prompts"


def record_run(flow: FlowCraft, result: RunResult, file: Path, recording: Path | None = None) -> None:
    """Write a run that has ended as the recording of its workflow file, in place of the one before, and say so."""
    from flowcraft.app.recordings import recording_of

    target = recording or recording_of(file)
    if result.state not in ("done", "failed"):
        later = f"flowcraft runs export {result.run} -o {target} --force"
        stderr().print(Text(f"not recorded: the run is {result.state}; when it has ended: {later}", style="yellow"))
        return
    replaced = " (in place of the recording before)" if target.exists() else ""
    flow.export(result.run, target, force=True)
    stderr().print(Text(f"recorded: {target}{replaced}", style="dim"))
