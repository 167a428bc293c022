"""Forks: new runs that take over what another one has done, but for what was changed."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from flowcraft.app.ancestors import KEPT_AS
from flowcraft.app.results import RunResult
from flowcraft.app.runs import SNAPSHOT_VERSION, Runs, new_id
from flowcraft.app.stage_names import check_settable, named_stage
from flowcraft.app.workflows import Workflows
from flowcraft.engine import NewRun, RunRow
from flowcraft.engine.functions import load_module
from flowcraft.errors import Problem, RunError, StoreError, WorkflowError
from flowcraft.events import Said
from flowcraft.workflow import Workflow, bind_inputs, load_workflow, parse_inputs, parse_written
from flowcraft.workflow.types.type import TypeMismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a fork does otherwise than the run that it is made of; what is None or empty stays.

    ``stage`` is done anew. ``outputs`` stand in place of what stages would give, by their names. An empty ``model`` takes the
    one back that stood in for all. ``answers`` are given to gates as soon as they ask.
    """

    stage: str | None = None
    file: Workflow | str | Path | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)


class Forks:
    """Makes runs of runs."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.engine = runs.engine

    async def fork(self, run: str, changes: Changes, on_start: Callable[[str], None] | None = None) -> RunResult:
        """Make a new run of ``run`` and carry it out. Raises RunError, StoreError, WorkflowError, SettingsError."""
        row = await asyncio.to_thread(self.engine.find, run)
        self._check(row)
        manager = self.runs.manager_of(row.snapshot["settings"])
        workflows = Workflows(manager)
        model = row.snapshot.get("model") if changes.model is None else changes.model or None
        workflow = self._workflow(row, changes.file, workflows, model)
        new, notes = await self.engine.threads.run(lambda: self._new(row, workflow, changes, workflows, model))

        def started(begun: str) -> None:
            if on_start is not None:
                on_start(begun)
            for note in notes:
                self.engine.desk.bus.emit(Said(run=begun, time=time.time(), message=note))

        return await self.runs.begin(workflow, manager, new, started)

    def workflow(self, run: str, file: str | Path | None, model: str | None) -> Workflow:
        """Return the workflow that a fork of ``run`` with this file and model would carry out, checked."""
        row = self.engine.find(run)
        self._check(row)
        wanted = row.snapshot.get("model") if model is None else model or None
        return self._workflow(row, file, Workflows(self.runs.manager_of(row.snapshot["settings"])), wanted)

    def _check(self, row: RunRow) -> None:
        if row.snapshot.get("v") != SNAPSHOT_VERSION:
            raise StoreError(f"run {row.id} was kept in another form ({row.snapshot.get('v')!r}); it cannot be forked")
        if self.engine.may_live(row):
            raise RunError(
                f"run {row.id} is being carried out; wait until it ends, or end it with 'flowcraft runs cancel {row.id}'",
                run=row.id,
            )

    def _workflow(self, row: RunRow, file: Workflow | str | Path | None, workflows: Workflows, model: str | None) -> Workflow:
        workflows.check_model(model)
        if file is None:
            snapshot = row.snapshot
            file = load_workflow(snapshot["file"], files=snapshot["files"], bodies=workflows.plugins.bodies())
        if not isinstance(file, Workflow):
            return workflows.load(file, model=model)
        if problems := [problem for problem in workflows.check(file, starting=True, model=model) if not problem.warning]:
            raise WorkflowError(problems=problems)
        return file

    def _new(
        self, row: RunRow, workflow: Workflow, changes: Changes, workflows: Workflows, model: str | None
    ) -> tuple[NewRun, tuple[str, ...]]:
        redactor = workflows.redactor(workflow)
        answers = self.runs.approvals.beforehand(workflow, changes.answers)
        gone = [name for name in row.inputs if name not in workflow.inputs]
        kept = {name: value for name, value in row.inputs.items() if name in workflow.inputs}
        bound = redactor.value(bind_inputs(workflow, {**kept, **changes.inputs}))
        workflows.check_settled(workflow, bound, model)
        stage = named_stage(workflow, changes.stage)[0] if changes.stage is not None else ""
        told = {
            "run": row.id,
            "from": stage,
            "set": redactor.value(checked_outputs(workflow, changes.outputs)),
            "same_inputs": bound == row.inputs,
        }
        now = time.time()
        snapshot = {
            **self.runs.kept_of(workflow, model, workflows.manager),
            "settings": row.snapshot["settings"],
            "configured": list(workflows.settings.configured_providers()),
            "answers": {name: answer.data() for name, answer in answers.items()},
            "date": row.snapshot.get("date", ""),
            KEPT_AS: told,
        }
        where = {"workflow": workflow.name, "file": workflow.path, "folder": row.folder}
        said = f"what run {row.id} was given for the input '{{}}' is left out: the file has none of that name any more"
        new = NewRun(id=new_id(now), created=now, inputs=bound, snapshot=snapshot, **where)
        return new, tuple(said.format(name) for name in gone)


def parse_changes(
    workflow: Workflow,
    inputs: Sequence[str],
    outputs: Sequence[str],
    stdin: TextIO | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return other inputs and outputs set by hand as the command line writes them: ``name=value`` and ``stage=value``.

    Raises WorkflowError with all that is wrong.
    """
    optional = {name: replace(known, required=False) for name, known in workflow.inputs.items()}  # the run has the others
    given = parse_inputs(replace(workflow, inputs=optional), inputs, stdin=stdin)
    found: dict[str, Any] = {}
    seen: set[str] = set()
    problems: list[Problem] = []
    for written in outputs:
        name, sign, text = written.partition("=")
        if not sign or name in seen:
            told = "is set twice" if sign else "says no value"
            problems.append(Problem(message=f"--set: '{name}' {told}", hint="write --set stage=value, or stage=@file"))
            continue
        seen.add(name)
        try:
            found[name] = parse_written(named_stage(workflow, name)[1].value, text, stdin)
        except ValueError as error:
            problems.append(Problem(message=f"the output of stage '{name}': {error}"))
        except WorkflowError as error:
            problems += error.problems
    if problems:
        raise WorkflowError(problems=problems)
    return given, found


def checked_outputs(workflow: Workflow, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return outputs that are set by hand, by the names of stages, as they fit their types; raise WorkflowError with all."""
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in outputs.items():
        try:
            known_as, stage, part = named_stage(workflow, name)
            check_settable(name, stage)
            kind = stage.value.resolve(functools.partial(load_module, part.folder))
            found[known_as] = kind.check(value)
        except WorkflowError as error:
            problems += error.problems
        except TypeMismatch as error:
            problems += [Problem(message=f"the output of stage '{name}': {error}")]
    if problems:
        raise WorkflowError(problems=problems)
    return found
