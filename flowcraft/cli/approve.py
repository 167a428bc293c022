"""``flowcraft runs approve``: answer what a run asks people, and go on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flowcraft.cli.asking import ask_people, document, on_terminal, show_how, show_waiting, wanted
from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.exits import WAITING, WRONG
from flowcraft.cli.options import Answers, AsJson, RunId, SettingsPath, open_flowcraft
from flowcraft.cli.run import Watching, finish

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft, RunResult
    from flowcraft.engine import RunRow


def approve_run(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    run: RunId,
    gate: Annotated[str | None, typer.Argument(metavar="GATE", help="A gate's name or path, where several ask.")] = None,
    choice: Annotated[str | None, typer.Option("--choice", metavar="CHOICE", help="What is chosen.")] = None,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What is said to it.")] = "",
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A field of the gate's form.")
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who answers; default: who is logged in.")] = "",
    answers: Answers = None,
    no_resume: Annotated[bool, typer.Option("--no-resume", help="Only answer; do not go on with the run.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Answer what a run asks people, and go on with it; without a choice, show what it asks, or ask on a terminal."""
    from flowcraft.app.approvals import parse_answers
    from flowcraft.engine import Answer

    flow = open_flowcraft(settings)
    approvals = flow.runs.approvals
    row = flow.engine.find(run)
    if answers:
        approvals.add_beforehand(row, parse_answers(flow.runs.workflow_of(row), answers))
    if choice is not None:
        given = Answer(choice=choice, comment=comment, by=by)
        done = approvals.answer(row.id, gate, given, texts=values or ())
        _tell(f"{done.gate}: {done.choice}, by {done.by}", as_json)
    elif not answers and not _asked(flow, row, gate, as_json):
        return
    _go_on(flow, flow.engine.find(row.id), as_json, no_resume, settings)


def _tell(message: str, as_json: bool) -> None:
    if not as_json:
        stderr().print(Text(message, style="dim"))


def _asked(flow: FlowCraft, row: RunRow, gate: str | None, as_json: bool) -> bool:
    """Ask on a terminal, else show what is asked and leave; return whether something was answered."""
    waits = wanted(flow, row.id, gate)
    if as_json:
        print_json([document(one) for one in waits])
        raise typer.Exit(WAITING if waits else 0)
    if not waits:
        named = f"gate {gate} of run {row.id}" if gate else f"run {row.id}"
        stdout().print(f"{named} waits for no answer; the run is {row.state}")
        raise typer.Exit(WRONG if gate else 0)
    if on_terminal():
        if ask_people(flow, row.id, stderr(), gate):
            return True
        show_how(row.id, stderr())
    else:
        show_waiting(stdout(), waits)
    raise typer.Exit(WAITING)


def _go_on(flow: FlowCraft, row: RunRow, as_json: bool, no_resume: bool, settings: Path | None) -> None:
    """Go on with the run here, unless that is not wanted or somebody else does."""
    carried = flow.engine.is_carried(row)
    if no_resume or carried:
        other = "the process that carries the run out goes on with it"
        _tell(other if carried else f"go on with: flowcraft runs resume {row.id}", as_json)
        if as_json:
            print_json([document(one) for one in flow.engine.store.approvals(row.id)])
        return

    async def carry(watching: Watching) -> RunResult:
        async with flow:
            return await flow.resume(row.id, on_start=watching.started)

    finish(flow, carry, as_json, lambda: open_flowcraft(settings))
