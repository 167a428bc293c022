"""``flowcraft runs fork``: a new run of an old one, which takes over what is unchanged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowcraft.cli.options import Answers, AsJson, RunId, SettingsPath, open_flowcraft
from flowcraft.cli.run import Watching, finish

if TYPE_CHECKING:
    from flowcraft.app import RunResult


def fork_run(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    run: RunId,
    stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Do this stage anew (report.draft is one of a group).")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="The workflow file, as you edited it.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=VALUE", help="Another input; the others are those of the run."),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE=VALUE", help="The output of a stage, set by hand; @file reads a file."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="One tier, alias or model in place of all; '' for none any more."),
    ] = None,
    answers: Answers = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Make a new run of a run, which takes over what is unchanged. The rest is carried out."""
    from flowcraft.app.approvals import parse_answers
    from flowcraft.app.forks import parse_changes

    flow = open_flowcraft(settings)
    workflow = flow.forks.workflow(run, file, model)
    given, by_hand = parse_changes(workflow, inputs or [], outputs or [], stdin=sys.stdin)
    answered = parse_answers(workflow, answers or [])

    async def carry(watching: Watching) -> RunResult:
        async with flow:
            return await flow.fork(
                run,
                stage=stage,
                file=workflow,
                inputs=given,
                outputs=by_hand,
                model=model,
                answers=answered,
                on_start=watching.started,
            )

    finish(flow, carry, as_json, lambda: open_flowcraft(settings))
