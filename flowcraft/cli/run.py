"""``flowcraft run``: carry a workflow out and show it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from flowcraft.cli.console import print_json, print_problems, stderr, stdout
from flowcraft.cli.exits import FAILED, INTERRUPTED, OFFLINE, STATES
from flowcraft.cli.options import AsJson, SettingsPath, open_flowcraft
from flowcraft.cli.progress import LineView, LiveView, money

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft, RunResult


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The workflow file.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input; @file reads a file, @- stdin, @@ is a literal @."),
    ] = None,
    inputs_file: Annotated[Path | None, typer.Option("--inputs", metavar="PATH", help="Inputs as a YAML or JSON file.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="One tier, alias or model in place of all; 'offline' needs no key."),
    ] = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Run a workflow, show each stage live, print the outputs and the run's id."""
    from flowcraft.workflow import parse_inputs

    flow = open_flowcraft(settings)

    async def carry(watching: Watching) -> RunResult:
        async with flow:
            workflow = flow.load(file)
            print_problems(problem for problem in flow.check(workflow) if problem.warning)
            values = parse_inputs(workflow, inputs or [], file=inputs_file, stdin=sys.stdin)
            return await flow.run(workflow, values, model=model, on_start=watching.started)

    finish(flow, carry, as_json)


class Watching:
    """Shows a run while it goes on. Knows its id as soon as there is one."""

    def __init__(self, as_json: bool) -> None:
        console = stderr()
        self.run = ""
        self.view = LiveView(console) if console.is_terminal and not as_json else LineView(console)
        self.quiet = as_json

    def started(self, run: Any) -> None:
        """Take the id of the run, or the run itself."""
        self.run = getattr(run, "id", run)


def finish(flow: FlowCraft, carry: Callable[[Watching], Coroutine[Any, Any, RunResult]], as_json: bool) -> None:
    """Carry a run out with a view of it, print how it ended, and leave with its exit code."""
    watching = Watching(as_json)
    if not watching.quiet:
        flow.subscribe(watching.view)

    async def main() -> RunResult:
        _end_on_sigterm()
        with watching.view if not watching.quiet else _Nothing():
            return await carry(watching)

    try:
        result = asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        if as_json:
            print_json({"run": watching.run, "state": "interrupted"})
        if watching.run:
            stderr().print(Text(f"interrupted; go on with: flowcraft runs resume {watching.run}", style="yellow"))
        else:
            stderr().print(Text("interrupted", style="yellow"))
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(document(result))
    else:
        show(result, stdout(), stderr())
    code = STATES.get(result.state, FAILED)
    raise typer.Exit(OFFLINE if code == 0 and result.instead else code)


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _end_on_sigterm() -> None:
    """Let SIGTERM end the run as cleanly as Ctrl-C does."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def document(result: RunResult) -> dict[str, Any]:
    """Return a run's end as the one JSON document of ``--json``."""
    return {
        "run": result.run,
        "state": result.state,
        "outputs": result.outputs,
        "stages": result.stages,
        "seconds": round(result.seconds, 3),
        "usd": result.usd,
        "offline": result.offline,
        "error": result.error or None,
    }


def show(result: RunResult, outputs: Console, messages: Console) -> None:
    """Print the outputs; what else a person wants to know goes to ``messages``."""
    if result.state == "done":
        outputs.print(Text(readable(result.outputs)))
    else:
        messages.print(Text(f"{result.state}: {result.error}", style="red"))
    for name, stage in result.stages.items():
        for error in stage["errors"]:
            messages.print(Text(f"{name}{error}", style="yellow"))
    if result.offline:
        messages.print(Text(OFFLINE_INSTEAD if result.instead else OFFLINE_ALONE, style="yellow"))
    told = [f"run {result.run}", result.state, f"{result.seconds:.1f} s"]
    if result.calls:
        told += [f"{result.calls} call{'s' * (result.calls != 1)}", f"{result.tokens} tokens", f"{money(result.usd)} USD"]
    messages.print(Text(" · ".join(told), style="bold"))
    if result.state in ("failed", "interrupted"):
        messages.print(Text(f"what happened: flowcraft runs logs {result.run}", style="dim"))
        messages.print(Text(f"go on where it stopped: flowcraft runs resume {result.run}", style="dim"))


OFFLINE_ALONE = (
    "Answered by the built-in offline model, which only quotes what it was given. For a real one set a key "
    "(OPENAI_API_KEY, OPENROUTER_API_KEY, ...) or a local server (LLM_ENDPOINT=http://127.0.0.1:11434 LLM_MODEL=...)."
)
OFFLINE_INSTEAD = "The built-in offline model answered because no real model of the chain did (llm.offline: allow)."


def readable(value: Any, depth: int = 0) -> str:
    """Return a value as a person reads it: text as it is, lists and objects indented, in their own letters."""
    margin = "  " * depth
    if isinstance(value, dict):
        return "\n".join(_pair(name, item, depth) for name, item in value.items()) or f"{margin}(nothing)"
    if isinstance(value, list):
        return "\n".join(f"{margin}- {readable(item, depth + 1).lstrip()}" for item in value) or f"{margin}(none)"
    if value is None or isinstance(value, bool):
        return margin + {None: "-", True: "yes", False: "no"}[value]
    return "\n".join(margin + line for line in str(value).splitlines()) or margin


def _pair(name: str, value: Any, depth: int) -> str:
    margin = "  " * depth
    told = readable(value, depth + 1)
    short = not isinstance(value, dict | list) and "\n" not in told and len(told) < 100
    return f"{margin}{name}: {told.strip()}" if short else f"{margin}{name}:\n{told}"
