"""``flowcraft runs``: what ran, what it did, and how to go on with it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowcraft.cli.asking import document as approval_document
from flowcraft.cli.asking import show_waiting
from flowcraft.cli.asking import told as approval_told
from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.export import told_shortened
from flowcraft.cli.figures import GAP
from flowcraft.cli.options import Answers, AsJson, RunId, RunOrFile, SettingsPath, open_flowcraft, open_run
from flowcraft.cli.progress import MARKS, LineView, money
from flowcraft.cli.prompts import show_prompts
from flowcraft.cli.run import Watching, finish, readable
from flowcraft.errors import WorkflowError

if TYPE_CHECKING:
    from flowcraft.app import RunResult
    from flowcraft.engine import ProcessRow, RunRow
    from flowcraft.engine.ports import Piece, RunStore, RunTotals

NAME = 6
"""Characters of a workflow's name that a list of runs shows at least."""

PIPE = 1_000
"""Characters of a line that nobody looks at."""

runs = typer.Typer(help="What ran, what it did, and how to go on with it.", no_args_is_help=True)


def _started(run: RunRow) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created))


def _begun(run: RunRow) -> str:
    """Return when a run was started, to the minute; the year only where it is another one."""
    begun = time.localtime(run.created)
    return time.strftime("%m-%d %H:%M" if begun.tm_year == time.localtime().tm_year else "%Y-%m-%d %H:%M", begun)


def _summary(store: RunStore, row: RunRow) -> dict[str, Any]:
    totals = store.totals([row.id]).get(row.id)
    return {
        "run": row.id,
        "workflow": row.workflow,
        "state": row.state,
        "started": _started(row),
        "seconds": round(row.seconds, 3),
        "calls": totals.calls if totals else 0,
        "tokens": totals.tokens if totals else 0,
        "usd": totals.usd if totals else None,
        "error": row.error or None,
        "wanted": row.wanted or None,
    }


def _list(rows: Sequence[RunRow], totals: Mapping[str, RunTotals], width: int | None) -> Table:
    """Return runs as a table. Where a terminal is narrow, names are shortened, then columns left out: a cut figure is none."""
    told: dict[str, list[Text]] = {title: [] for title in ("", "run", "workflow", "state", "started", "time", "calls", "USD")}
    for row in rows:
        mark, style = MARKS.get(row.state, ("▸" if row.state == "running" else "·", "cyan"))
        spent = totals.get(row.id)
        cost = [str(spent.calls), money(spent.usd)] if spent and spent.calls else ["", ""]
        cells = [mark, row.id, row.workflow, row.state, _begun(row), f"{row.seconds:.1f} s", *cost]
        for title, cell in zip(told, cells, strict=True):
            told[title].append(Text(cell, style=style if title in ("", "state") else ""))
    widths = {title: max(len(title), *(cell.cell_len for cell in column)) for title, column in told.items()}
    for title in ("started", "calls", "time", "USD"):
        if width is not None and sum(widths.values()) - widths["workflow"] + NAME + GAP * (len(widths) - 1) > width:
            del widths[title]
    if width is not None:
        room = width - sum(widths.values()) + widths["workflow"] - GAP * (len(widths) - 1)
        widths["workflow"] = max(1, min(widths["workflow"], room))
    found = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for title, room in widths.items():
        right = title in ("time", "calls", "USD")
        found.add_column(title, no_wrap=True, overflow="ellipsis", width=room, justify="right" if right else "left")
    for place in range(len(rows)):
        found.add_row(*(told[title][place] for title in widths))
    return found


@runs.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """List the newest runs."""
    flow = open_flowcraft(settings)
    rows = flow.engine.store.list(limit, state)
    totals = flow.engine.store.totals([row.id for row in rows])
    if as_json:
        print_json([_summary(flow.engine.store, row) for row in rows])
        return
    if not rows:
        stderr().print("no runs yet; begin with: flowcraft run FILE")
        return
    console = stdout()
    if console.is_terminal:
        console.print(_list(rows, totals, console.width))
    else:
        stdout(PIPE).print(_list(rows, totals, None))
    for row in rows:
        if row.state == "waiting":
            show_waiting(stdout(), flow.approvals(row.id), brief=True)


def _show_head(console: Console, row: RunRow, summary: Mapping[str, Any]) -> None:
    console.print(Text(f"run {row.id} · {row.workflow} · {row.state} · {summary['seconds']} s", style="bold"))
    console.print(Text(f"started {summary['started']} in {row.folder}; file {row.file}", style="dim"))
    if row.error:
        console.print(Text(row.error, style="red"))
    if row.wanted == "cancel":
        told = f"to be cancelled: who goes on with it ends it; for example: flowcraft runs cancel {row.id}"
        console.print(Text(told, style="yellow"))


def _show_stages(console: Console, row: RunRow, last: Mapping[str, Mapping[str, Any]], pieces: Sequence[Piece]) -> None:
    said = {row.error}  # what stands there already is not said again
    for name, event in last.items():
        mark, style = MARKS.get(event["state"], ("·", ""))
        whole = f"stage {name}: {event['reason']}"
        reason = f": {event['reason']}" if event["reason"] and whole not in said else ""
        console.print(Text(f"{mark} {name}: {event['state']}{reason}", style=style))
        said.add(whole)
    for piece in pieces:
        told = json.loads(piece.result) if piece.state != "done" else {}
        if piece.state == "failed" and f"stage {piece.path}: {told['error']}" not in said:
            console.print(Text(f"  {piece.path}: {told['error']}", style="yellow"))
        elif piece.state == "skipped" and piece.path not in last:
            console.print(Text(f"  {piece.path}: skipped: {told['reason']}", style="dim"))


@runs.command("show")
def show_run(
    run: RunOrFile,
    prompts: Annotated[bool, typer.Option("--prompts", help="Show what each piece of work was asked, and its result.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Show a run: stages, why they failed, calls, outputs. With --prompts: what was asked."""
    store, row = open_run(run, settings)
    if prompts:
        show_prompts(store.pieces(row.id, asked=True), as_json)
        return
    pieces = store.pieces(row.id)
    approvals = store.approvals(row.id)
    attempts = store.attempts(row.id)
    ends = [json.loads(event.data) for event in store.events(row.id) if event.kind == "stage.finished"]
    last = {event["stage"]: event for event in ends}
    if as_json:
        print_json(
            {
                **_summary(store, row),
                "shortened": store.shortened(row.id),
                "inputs": row.inputs,
                "outputs": row.outputs,
                "stages": last,
                "approvals": [approval_document(asked) for asked in approvals],
                "pieces": [
                    {"path": piece.path, "state": piece.state, "seconds": piece.seconds, "origin": piece.origin or None}
                    for piece in pieces
                ],
                "attempts": [{"path": item.path, "attempt": str(item.attempt), "usd": item.attempt.usd} for item in attempts],
            }
        )
        return
    console = stdout()
    summary = _summary(store, row)
    _show_head(console, row, summary)
    _show_stages(console, row, last, pieces)
    for asked in approvals:
        if not asked.open:
            console.print(Text(f"  {approval_told(asked)}"))
    show_waiting(console, [asked for asked in approvals if asked.open])
    if attempts:
        plural = "s" * (summary["calls"] != 1)
        spent = f"{summary['calls']} call{plural}, {summary['tokens']} tokens, {money(summary['usd'])} USD"
        console.print(Text(f"\n{spent}", style="bold"))
        for item in attempts:
            console.print(Text(f"  {item.path}: {item.attempt}", style="" if item.attempt.outcome == "ok" else "yellow"))
    if row.state == "done":
        console.print(Text("\n" + readable(row.outputs)))
    if shortened := store.shortened(row.id):
        stderr().print(Text(told_shortened(shortened, run), style="yellow"))


def _waits(process: ProcessRow) -> None:
    stderr().print(
        Text(
            f"the run belongs to process {process.pid} on {process.host or 'an unknown host'}; waiting up to 10 s to see "
            "whether it still beats",
            style="yellow",
        )
    )


@runs.command("resume")
def resume_run(
    run: RunId,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="UNIT=VALUE,..", help="Raise the file's budget for this run: usd=5, or calls=100,time=2h."),
    ] = None,
    answers: Answers = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Go on with a run behind its last finished piece of work. It is taken over if its process is gone."""
    from flowcraft.app.approvals import parse_answers

    raised = _budget(budget or [])
    flow = open_flowcraft(settings)
    given = parse_answers(flow.runs.workflow_of(flow.engine.find(run)), answers) if answers else {}

    async def carry(watching: Watching) -> RunResult:
        async with flow:
            return await flow.resume(run, answers=given, budget=raised, on_wait=_waits, on_start=watching.started)

    finish(flow, carry, as_json, lambda: open_flowcraft(settings))


def _budget(written: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in (part.strip() for given in written for part in given.split(",")):
        unit, sign, value = part.partition("=")
        if not sign or unit.strip() in found:
            told = "is given twice" if sign else "has no value"
            raise WorkflowError(f"--budget: {part!r} {told}; write for example --budget usd=5 or --budget calls=100,time=2h")
        found[unit.strip()] = value.strip()
    return found


@runs.command("cancel")
def cancel_run(run: RunId, as_json: AsJson = False, settings: SettingsPath = None) -> None:
    """Cancel a run. Its process ends it at its next beat; where that is gone, it is ended here, its 'finally' included."""
    flow = open_flowcraft(settings)
    view = LineView(stderr())
    if not as_json:
        flow.subscribe(view)

    async def carry() -> RunRow:
        async with flow:
            return await flow.cancel(run, on_wait=_waits)

    with redirect_stdout(sys.stderr):  # what functions of 'finally' print
        row = asyncio.run(carry())
    if as_json:
        print_json({"run": row.id, "state": row.state, "error": row.error or None})
    else:
        stdout().print(f"run {row.id}: {row.state}")
        if row.error:
            stderr().print(Text(row.error, style="red"))
    if row.state != "cancelled":
        raise typer.Exit(1)
