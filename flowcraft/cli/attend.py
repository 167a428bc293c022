"""``flowcraft attend``: look after all runs of a database until it is stopped."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flowcraft.cli.console import stderr
from flowcraft.cli.exits import INTERRUPTED
from flowcraft.cli.options import SettingsPath, open_flowcraft
from flowcraft.cli.progress import MARKS, money
from flowcraft.cli.run import document, end_on_sigterm
from flowcraft.events import Event, RunStarted, Said

if TYPE_CHECKING:
    from flowcraft.app import RunResult


def attend(
    as_json: Annotated[bool, typer.Option("--json", help="Print how each run ended as one JSON document a line.")] = False,
    settings: SettingsPath = None,
) -> None:
    """Go on with all runs that nobody carries out, until Ctrl-C. Their process is gone, they were answered, or time is over."""
    flow = open_flowcraft(settings)
    flow.subscribe(_tell)
    out = sys.stdout  # what functions print goes where messages go

    def ended(result: RunResult) -> None:
        if as_json:
            out.write(json.dumps(document(result), ensure_ascii=False) + "\n")
            out.flush()
        _ended(result)

    async def carry() -> None:
        end_on_sigterm()
        told = f"attending to the runs of {flow.settings.storage}; Ctrl-C ends this, runs can go on later"
        stderr().print(Text(told, style="dim"))
        async with flow:
            await flow.attend(on_result=ended)

    try:
        with redirect_stdout(sys.stderr):
            asyncio.run(carry())
    except (KeyboardInterrupt, asyncio.CancelledError):
        stderr().print(Text("no longer attending; what was under way goes on with the next 'flowcraft attend'", style="yellow"))
        raise typer.Exit(INTERRUPTED) from None


def _tell(event: Event) -> None:
    """Tell that a run goes on, and what its log says, a line each: many runs may go on at once."""
    if isinstance(event, RunStarted):
        _line(event.run, f"goes on: {event.workflow}, segment {event.segment}", "cyan")
    elif isinstance(event, Said):
        _line(event.run, event.message, "yellow" if event.level != "info" else "")


def _ended(result: RunResult) -> None:
    told = [result.state, f"{result.seconds:.1f} s"]
    if result.calls:
        told.append(f"{result.calls} call{'s' * (result.calls != 1)}, {money(result.usd)} USD")
    if result.error:
        told.append(result.error)
    _line(result.run, " · ".join(told), MARKS.get(result.state, ("", "red"))[1])


def _line(run: str, message: str, style: str) -> None:
    stderr().print(Text(f"{time.strftime('%H:%M:%S')}  {run + '  ' if run else ''}{message}", style=style))
