"""``flowcraft run``: carry a workflow out and show it."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from flowcraft.cli.asking import ask_people, on_terminal, show_waiting
from flowcraft.cli.asking import document as approval_document
from flowcraft.cli.console import print_json, print_problems, stderr, stdout
from flowcraft.cli.exits import FAILED, INTERRUPTED, OFFLINE, STATES
from flowcraft.cli.export import record_run
from flowcraft.cli.options import Answers, AsJson, SettingsPath, open_flowcraft
from flowcraft.cli.progress import LineView, LiveView, money
from flowcraft.errors import FlowCraftError

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
    answers: Answers = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write what happened as STEM.recorded.sqlite beside FILE, for 'flowcraft test'.")
    ] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Run a workflow, show its stages live, print its outputs. The run's id is told at its end."""
    from flowcraft.app.approvals import parse_answers
    from flowcraft.workflow import parse_inputs

    flow = open_flowcraft(settings)
    workflow = flow.load(file, model=model)
    values = parse_inputs(workflow, inputs or [], file=inputs_file, stdin=sys.stdin)
    if not as_json:
        print_problems(flow.workflows.warnings(workflow, values, model))
    given = parse_answers(workflow, answers or [])

    async def carry(watching: Watching) -> RunResult:
        async with flow:
            return await flow.run(workflow, values, model=model, answers=given, on_start=watching.started)

    recorded = (lambda flow, result: record_run(flow, result, file)) if record else None
    finish(flow, carry, as_json, lambda: open_flowcraft(settings), recorded)


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


Carry = Callable[["Watching"], Coroutine[Any, Any, "RunResult"]]
Ended = Callable[["FlowCraft", "RunResult"], None]


def finish(
    flow: FlowCraft,
    carry: Carry,
    as_json: bool,
    reopen: Callable[[], FlowCraft],
    ended: Ended | None = None,
    *,
    asks: bool = True,
) -> None:
    """Carry a run out with a view of it, print how it ended, and leave with its exit code.

    Where it waits for people and somebody sits at the terminal, they are asked unless they went away (not ``asks``); ``reopen``
    makes what goes on then. ``ended`` is called with the result before that is printed.
    """
    result = _carried(flow, carry, as_json)
    while result.state == "waiting" and asks and not as_json and on_terminal():
        flow = reopen()
        talk = ask_people(flow, result.run, stderr())
        if not talk.news:
            break
        asks = not talk.left
        result = _carried(flow, going_on(flow, result.run), as_json)
    if ended is not None:
        ended(reopen(), result)
    if as_json:
        print_json(document(result))
    else:
        show(result, stdout(), stderr())
    code = STATES.get(result.state, FAILED)
    raise typer.Exit(OFFLINE if code == 0 and result.instead else code)


def going_on(flow: FlowCraft, run: str) -> Carry:
    """Go on with a run in which something was answered; where somebody else does so, or did, tell how it stands."""
    from flowcraft.app.results import standing
    from flowcraft.errors import RunError

    async def carry(watching: Watching) -> RunResult:
        async with flow:
            try:
                return await flow.resume(run, on_start=watching.started)
            except RunError:
                row = await asyncio.to_thread(flow.engine.find, run)
                if watching.run or not (row.state in ("done", "cancelled") or flow.engine.is_carried(row)):
                    raise
                return await asyncio.to_thread(standing, flow.engine.store, row)

    return carry


def _carried(flow: FlowCraft, carry: Carry, as_json: bool) -> RunResult:
    """Carry a run out with a view of it; leave where it is interrupted."""
    from flowcraft.app import RunResult

    watching = Watching(as_json)
    if not watching.quiet:
        flow.subscribe(watching.view)

    async def main() -> RunResult:
        end_on_sigterm()
        with nullcontext() if watching.quiet else watching.view:
            return await carry(watching)

    try:
        # What functions print goes where messages go: stdout holds the outputs and nothing else.
        with redirect_stdout(sys.stderr):
            return asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        if as_json:
            print_json(document(RunResult(run=watching.run, state="interrupted")))
        if watching.run:
            stderr().print(Text(f"interrupted; go on with: flowcraft runs resume {watching.run}", style="yellow"))
        else:
            stderr().print(Text("interrupted", style="yellow"))
        raise typer.Exit(INTERRUPTED) from None
    except FlowCraftError:
        if watching.run:
            stderr().print(Text(f"run {watching.run} stopped; see: flowcraft runs show {watching.run}", style="yellow"))
        raise


def end_on_sigterm() -> None:
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
        **({"waiting": [approval_document(asked) for asked in result.waits]} if result.state == "waiting" else {}),
    }


def show(result: RunResult, outputs: Console, messages: Console) -> None:
    """Print the outputs; what else a person wants to know goes to ``messages``."""
    if result.state == "done":
        outputs.print(Text(readable(result.outputs, outputs.width if outputs.is_terminal else None)))
    elif result.state == "waiting":
        show_waiting(messages, result.waits)
    elif result.state == "running":
        elsewhere = f"another process goes on with it; watch it: flowcraft runs logs {result.run} --follow"
        messages.print(Text(elsewhere, style="yellow"))
    else:
        messages.print(Text(f"{result.state}: {result.error}" if result.error else result.state, style="red"))
    for name, stage in result.stages.items():
        for error in stage["errors"]:
            place, _, told = error.partition("] ")
            messages.print(Text(f"{name}{place}]: {told}", style="yellow"))
        if stage["state"] == "failed" and not stage["errors"] and stage["error"] and stage["error"] not in (result.error or ""):
            messages.print(Text(f"{name}: {stage['error']}", style="yellow"))
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


def readable(value: Any, width: int | None = None) -> str:
    """Return a value as a person reads it: text as it is, lists and objects indented, in their own letters.

    Long lines are broken at ``width`` with their indentation kept.
    """
    return "\n".join(_lines(value, 0, width))


def _lines(value: Any, depth: int, width: int | None, first: str = "") -> list[str]:
    """Return the lines of a value; ``first`` stands before the first of them."""
    margin = "  " * depth
    if isinstance(value, dict) and value:
        lines = [line for name, item in value.items() for line in _named(name, item, depth, width)]
    elif isinstance(value, list) and value:
        lines = [line for item in value for line in _lines(item, depth + 1, width, first=f"{margin}- ")]
    else:
        told = [margin + line for line in _plain_text(value).splitlines() or [""]]
        lines = [part for line in told for part in _broken(line, margin, width)]
    if first:
        lines[0] = first + lines[0].removeprefix(margin)
    return lines


def _named(name: str, value: Any, depth: int, width: int | None) -> list[str]:
    margin = "  " * depth
    if isinstance(value, dict | list) and value:
        # A list stands below its name without another step to the right.
        return [f"{margin}{name}:", *_lines(value, depth + (0 if isinstance(value, list) else 1), width)]
    text = _plain_text(value)
    if "\n" in text:
        return [f"{margin}{name}:", *_lines(value, depth + 1, width)]
    return _broken(f"{margin}{name}: {text}", f"{margin}  ", width)


def _plain_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return str(value) if value not in ([], {}) else "(none)"


def _broken(line: str, indent: str, width: int | None) -> list[str]:
    if width is None or len(line) <= width:
        return [line]
    return textwrap.wrap(line, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
