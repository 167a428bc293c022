"""``flowcraft validate``, ``flowcraft schema``: what can be said of a workflow file without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flowcraft.cli.console import print_json, print_problems, stdout, write_file
from flowcraft.cli.exits import WRONG
from flowcraft.cli.options import AsJson, SettingsPath, open_flowcraft


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The workflow file.")],
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Check a workflow file and all that it uses. Nothing of it is run and no model is asked."""
    from dataclasses import asdict

    from flowcraft.errors import WorkflowError
    from flowcraft.workflow import load_workflow

    flow = open_flowcraft(settings)
    try:
        workflow = load_workflow(file, bodies=flow.plugins.bodies(), check=flow.check)
        problems = flow.check(workflow)
    except WorkflowError as error:
        problems = list(error.problems)
    if as_json:
        print_json([asdict(problem) for problem in problems])
    else:
        print_problems(problems)
    if any(not problem.warning for problem in problems):
        raise typer.Exit(WRONG)
    if not as_json:
        count = len(workflow.stages)
        stdout().print(Text(f"{file}: fine ({count} stage{'s' * (count != 1)})", style="green"))


def schema(
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="PATH", help="Write it there, do not print it.")] = None,
    settings: SettingsPath = None,
) -> None:
    """Print the JSON Schema of the workflow language. What installed plugins add is in it."""
    import json

    from flowcraft.workflow import workflow_schema

    found = workflow_schema(open_flowcraft(settings).plugins.bodies())
    if out is None:
        print_json(found)
    else:
        write_file(out, json.dumps(found, ensure_ascii=False, indent=2) + "\n")
