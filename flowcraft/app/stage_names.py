"""Stages by the names that people write: ``report``, ``report.draft`` or ``report/draft``."""

from __future__ import annotations

from collections.abc import Mapping

from flowcraft.errors import Problem, WorkflowError
from flowcraft.source import did_you_mean, listed
from flowcraft.workflow import Workflow
from flowcraft.workflow.schema import Group, Stage, Uses


def named_stage(workflow: Workflow, written: str) -> tuple[str, Stage, Workflow]:
    """Return a stage with its plain path (``report/draft``) and the workflow whose file it stands in.

    Raises WorkflowError where there is none, or where it stands in ``finally``.
    """
    names = written.replace(".", "/").split("/")
    if names[0] == "finally":
        raise _wrong(f"'{written}': what stands in 'finally' is carried out in every run")
    stages: Mapping[str, Stage] = workflow.stages
    part, stage, holder = workflow, None, workflow
    for depth, name in enumerate(names):
        if name not in stages:
            outer = f" of '{'.'.join(names[:depth])}'" if depth else ""
            known = f"the stages{outer} are: {listed(stages)}" if stages else f"there are none{outer}"
            raise _wrong(f"unknown stage '{written}'", did_you_mean(name, stages) or known)
        stage, holder = stages[name], part
        part = stage.body.workflow if isinstance(stage.body, Uses) else part
        stages = _inner(stage)
    assert stage is not None
    return "/".join(names), stage, holder


def check_settable(written: str, stage: Stage) -> None:
    """Raise WorkflowError where a stage is a gate or holds one: only people answer these."""
    if _holds_gate(stage, set()):
        what = "is a gate" if stage.key == "approve" else "holds a gate"
        raise _wrong(f"the output of stage '{written}' cannot be set: it {what}", "answer it with --answer")


def _holds_gate(stage: Stage, seen: set[int]) -> bool:
    if isinstance(stage.body, Uses):
        if id(stage.body.workflow) in seen:
            return False
        seen.add(id(stage.body.workflow))
    return stage.key == "approve" or any(_holds_gate(one, seen) for one in _inner(stage).values())


def _inner(stage: Stage) -> Mapping[str, Stage]:
    if isinstance(stage.body, Uses):
        return stage.body.workflow.stages
    return stage.body.stages if isinstance(stage.body, Group) else {}


def _wrong(message: str, hint: str = "") -> WorkflowError:
    return WorkflowError(problems=[Problem(message=message, hint=hint)])
