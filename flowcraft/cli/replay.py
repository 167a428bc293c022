"""``flowcraft test``: a recorded run once more, without network, and what differs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from flowcraft.cli.console import print_json, stdout
from flowcraft.cli.exits import FAILED
from flowcraft.cli.export import record_run
from flowcraft.cli.options import AsJson, SettingsPath, open_flowcraft
from flowcraft.cli.run import Watching, finish

if TYPE_CHECKING:
    from flowcraft.app import RunResult

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def replay_workflow(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The workflow file.")],
    recording: Annotated[
        Path | None,
        typer.Option("--recording", metavar="PATH", help="Its recording; default: STEM.recorded.sqlite beside it."),
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input in place of the recorded one.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Record anew with the same inputs: a real run.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Replay a recorded run without network, keys or database. What differs is named, the first changed prompt with a diff."""
    from flowcraft.app.replay import replay

    if update:
        _record_anew(file, recording, inputs or [], as_json, settings)
    given = _given(file, inputs or [])
    found = asyncio.run(replay(file, recording, given))
    if as_json:
        print_json(found.data())
    elif found.same:
        stdout().print(Text(str(found), style="green"))
    else:
        for line in str(found).splitlines():
            stdout().print(Text(line, style=_STYLES.get(line[:1], "")))
        stdout().print(Text(f"if that is meant, record anew: flowcraft test {file} --update", style="dim"))
    if not found.same:
        raise typer.Exit(FAILED)


def _given(file: Path, inputs: list[str]) -> dict[str, Any]:
    from flowcraft.app.replay import parse_given

    return parse_given(file, inputs, sys.stdin) if inputs else {}


def _record_anew(file: Path, recording: Path | None, inputs: list[str], as_json: bool, settings: Path | None) -> None:
    """Run the workflow with the recorded inputs and record that; leave with the run's exit code."""
    from flowcraft.app.replay import recorded_inputs

    flow = open_flowcraft(settings)
    workflow = flow.load(file)
    values = {**recorded_inputs(file, recording, workflow), **_given(file, inputs)}

    async def carry(watching: Watching) -> RunResult:
        async with flow:
            return await flow.run(workflow, values, on_start=watching.started)

    target = recording
    finish(
        flow,
        carry,
        as_json,
        lambda: open_flowcraft(settings),
        lambda flow, result: record_run(flow, result, file, target),
    )
