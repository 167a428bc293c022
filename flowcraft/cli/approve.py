"""``flowcraft runs approve``: answer what a run asks people, and go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flowcraft.cli.asking import ask_people, document, on_terminal, show_how, show_waiting, wanted
from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.exits import WAITING, WRONG
from flowcraft.cli.options import Answers, AsJson, RunId, SettingsPath, open_flowcraft
from flowcraft.cli.run import finish, going_on
from flowcraft.errors import WorkflowError

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft
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
    """Answer what a run asks people, and go on with it. Without a choice, show what it asks, or ask on a terminal."""
    from flowcraft.app.approvals import parse_answers
    from flowcraft.engine import Answer

    if choice is None and (comment or values or by):
        raise WorkflowError("--comment, --set and --by say more of a choice, and there is none: add --choice CHOICE")
    flow = open_flowcraft(settings)
    approvals = flow.runs.approvals
    row = flow.engine.find(run)
    if answers:
        approvals.add_beforehand(row, parse_answers(flow.runs.workflow_of(row), answers))
    if choice is not None:
        given = Answer(choice=choice, comment=comment, by=by)
        done = approvals.answer(row.id, gate, given, texts=values or ())
        _tell(f"{done.gate}: {done.choice}, by {done.by}", as_json)
    asks = choice is not None or bool(answers) or _asked(flow, row, gate, as_json)
    row = flow.engine.find(row.id)
    carried = flow.engine.is_carried(row)
    if not no_resume and not carried:
        finish(flow, going_on(flow, row.id), as_json, lambda: open_flowcraft(settings), asks=asks)
    other = "the process that carries the run out goes on with it"
    _tell(other if carried else f"go on with: flowcraft runs resume {row.id}", as_json)
    if as_json:
        print_json([document(one) for one in flow.engine.store.approvals(row.id)])


def _tell(message: str, as_json: bool) -> None:
    if not as_json:
        stderr().print(Text(message, style="dim"))


def _asked(flow: FlowCraft, row: RunRow, gate: str | None, as_json: bool) -> bool:
    """Ask on a terminal, else show what is asked; leave where nothing is answered, return whether more may be asked."""
    waits = wanted(flow, row.id, gate)
    if as_json:
        print_json([document(one) for one in waits])
        raise typer.Exit(WAITING if waits else 0)
    if not waits:
        named = f"gate {gate} of run {row.id}" if gate else f"run {row.id}"
        stdout().print(f"{named} waits for no answer; the run is {row.state}")
        raise typer.Exit(WRONG if gate else 0)
    if on_terminal():
        talk = ask_people(flow, row.id, stderr(), gate)
        if talk.news:
            return not talk.left
        show_how(row.id, stderr())
    else:
        show_waiting(stdout(), waits)
    raise typer.Exit(WAITING)
