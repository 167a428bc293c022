"""What is settled when a run starts: the settings of stages that come from its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft.errors import Problem
from flowcraft.source import parse_duration
from flowcraft.workflow.check import named_problem, written_at
from flowcraft.workflow.expressions import ExpressionError
from flowcraft.workflow.facts import Facts
from flowcraft.workflow.reading import Path
from flowcraft.workflow.schema import Stage, Workflow
from flowcraft.workflow.stage_settings import MOST_PARALLEL, MOST_TRIES, param_mistake
from flowcraft.workflow.template import Template, render_value


def check_start(workflow: Workflow, inputs: Mapping[str, Any], facts: Facts) -> list[Problem]:
    """Return what these inputs make wrong in the settings of stages: model, params, timeout, parallel."""
    scope = {"inputs": inputs}
    return [problem for stage in workflow.every_stage for problem in _stage(workflow, stage, scope, facts)]


def _stage(workflow: Workflow, stage: Stage, scope: Mapping[str, Any], facts: Facts) -> Iterator[Problem]:
    document = workflow.document
    if document is None:
        return
    settings = {"model": stage.model, "timeout": stage.timeout, "parallel": stage.parallel, "max": stage.max}
    for key, written in settings.items():
        if isinstance(written, Template):
            path = _written_at(workflow, stage, key)
            try:
                value = written.render(scope)
            except ExpressionError as error:
                yield document.problem(path, error.message)
                continue
            if key == "model":
                name = str(value or "")
                yield from (
                    named_problem(document, path, name, facts) if name else [document.problem(path, "'model' is empty")]
                )
            elif mistake := _timeout(value) if key == "timeout" else _count(key, value):
                yield document.problem(path, mistake)
    for name, written in stage.params.items():
        if isinstance(written, Template) and (mistake := param_mistake(name, render_value(written, scope))):
            yield document.problem((*_written_at(workflow, stage, "params", name), name), mistake)


def _written_at(workflow: Workflow, stage: Stage, key: str, inner: str = "") -> Path:
    """Return where a setting stands: at the stage, else in the file's defaults."""
    own = written_at(workflow.document, stage.at).get(key) if workflow.document is not None else None
    here = inner in (own or {}) if inner else own is not None
    return (*stage.at, key) if here else ("defaults", key)


def _timeout(value: Any) -> str:
    try:
        seconds = parse_duration(value) if isinstance(value, str) else 0
    except ValueError as error:
        return f"'timeout': {error}"
    return "" if seconds > 0 else f"'timeout': {value!r} is no duration; write it like 500ms, 30s, 5m, 24h or 7d"


def _count(key: str, value: Any) -> str:
    most = MOST_PARALLEL if key == "parallel" else MOST_TRIES
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return ""
    return f"'{key}' must be a whole number from 1 to {most:,}, not {value!r}"
