"""What is settled when a run starts: the settings of stages that come from its inputs, and all that follows from these."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

from flowcraft.errors import Problem, WorkflowError
from flowcraft.source import parse_duration
from flowcraft.workflow.checks.check import named_problem, written_at
from flowcraft.workflow.checks.facts import Facts
from flowcraft.workflow.checks.fitness import Fitness, budget_problems
from flowcraft.workflow.checks.sizes import element_scopes, is_known, known_value
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.template import Template, render_value
from flowcraft.workflow.inputs import bind_inputs
from flowcraft.workflow.loading.attachments import NotAttachable, check_file, is_url, kind_of
from flowcraft.workflow.loading.reading import Path
from flowcraft.workflow.loading.stage_settings import (
    MOST_PARALLEL,
    MOST_TRIES,
    completed_params,
    param_mistake,
    params_mistakes,
)
from flowcraft.workflow.schema import Attachment, Prompt, Stage, Uses, Workflow

_DEEPEST = 10
Scope = Mapping[str, Any]


def check_start(workflow: Workflow, inputs: Scope, facts: Facts, *, folder: str | None = None) -> list[Problem]:
    """Return what these inputs make wrong in stages: in their settings, in what is attached, in what their models can do.

    Workflows that stages use are looked into where the inputs say all that goes into them. ``folder`` is where the run is
    started. Warnings are among the problems.
    """
    start = _Start(facts, folder or os.getcwd())
    found = list(start.workflow(workflow, inputs, 0))
    found += budget_problems(workflow, start.unpriced) if "usd" in workflow.budget else ()
    return list(dict.fromkeys(found))


class _Start:
    """Checks what one set of inputs settles. ``unpriced`` are models that inputs name and whose price nobody knows."""

    def __init__(self, facts: Facts, folder: str) -> None:
        self.facts = facts
        self.folder = folder
        self.unpriced: list[str] = []

    def workflow(self, workflow: Workflow, inputs: Scope, depth: int) -> Iterator[Problem]:
        scope = {"inputs": inputs}
        for stage in workflow.every_stage:
            settled = yield from self._settings(workflow, stage, scope)
            if settled is not None and isinstance(stage.body, Prompt):
                yield from self._prompt(workflow, stage, settled, scope)
            if isinstance(stage.body, Uses) and depth < _DEEPEST and (given := _given(stage, scope)) is not None:
                try:
                    bound = bind_inputs(stage.body.workflow, given, importing=False)
                except WorkflowError:
                    continue  # told where the part is run
                yield from self.workflow(stage.body.workflow, bound, depth + 1)

    def _settings(self, workflow: Workflow, stage: Stage, scope: Scope) -> Generator[Problem, None, Stage | None]:
        """Yield what is wrong with the settings of a stage; return the stage with its settings as they are now."""
        problems = list(_settings(workflow, stage, scope, self.facts))
        yield from problems
        return None if any(not problem.warning for problem in problems) else _settled(stage, scope)

    def _prompt(self, workflow: Workflow, stage: Stage, settled: Stage, scope: Scope) -> Iterator[Problem]:
        attach, problems = self._attached(workflow, stage, scope)
        yield from problems
        assert isinstance(settled.body, Prompt)
        settled = replace(settled, body=replace(settled.body, attach=attach))
        said = set(Fitness(workflow, self.facts).stage(stage))
        fitness = Fitness(workflow, self.facts, scope)
        yield from (problem for problem in fitness.stage(settled) if problem not in said)
        if isinstance(stage.model, Template):
            self.unpriced += fitness.unpriced([settled])

    def _attached(self, workflow: Workflow, stage: Stage, scope: Scope) -> tuple[tuple[Attachment, ...], list[Problem]]:
        """Return what goes with a prompt, as far as inputs say it, and what is wrong with that."""
        assert isinstance(stage.body, Prompt)
        assert workflow.document is not None
        found = [one for one in stage.body.attach if not isinstance(one.what, Template)]
        problems: list[Problem] = []
        for one in stage.body.attach:
            for value in _values(one, stage, scope):
                try:
                    found.append(Attachment(what=value, kind=kind_of(value), at=one.at))
                    if not is_url(value):
                        check_file(os.path.normpath(os.path.join(self.folder, value)), value)
                except NotAttachable as error:
                    # What an earlier stage may still write, and what may be left out or missing, is no mistake yet.
                    doubtful = bool(stage.depends) or len(stage.at) > 2 or stage.when is not None or stage.on_error != "fail"
                    problems.append(workflow.document.problem(one.at, str(error), error.hint, warning=doubtful))
        return tuple(found), problems


def _values(attachment: Attachment, stage: Stage, scope: Scope) -> list[str]:
    """Return the paths and URLs that an attachment gives, as far as inputs say it, each once."""
    if not isinstance(attachment.what, Template):
        return []
    found: list[str] = []
    for names in element_scopes(stage, scope):
        given = known_value(attachment.what, names)
        found += [value.strip() for value in (given if isinstance(given, list) else [given]) if isinstance(value, str)]
    return list(dict.fromkeys(value for value in found if value))


def _given(stage: Stage, scope: Scope) -> dict[str, Any] | None:
    """Return what goes into the workflow that a stage uses; None where inputs alone do not say it."""
    if stage.each is not None or not is_known(stage.with_, scope):
        return None
    try:
        given: dict[str, Any] = render_value(stage.with_, scope)
    except ExpressionError:
        return None
    return given


def _settled(stage: Stage, scope: Scope) -> Stage:
    """Return a stage with its model and params as the inputs have them."""
    params = {name: known_value(value, scope) if isinstance(value, Template) else value for name, value in stage.params.items()}
    if stage.params_from is not None:
        params = dict(completed_params(known_value(stage.params_from, scope) or {}, params))
    model = known_value(stage.model, scope) if isinstance(stage.model, Template) else stage.model
    params = {name: value for name, value in params.items() if value is not None}
    return replace(stage, model=model, params=params, params_from=None)


def _settings(workflow: Workflow, stage: Stage, scope: Scope, facts: Facts) -> Iterator[Problem]:
    document = workflow.document
    if document is None:
        return
    settings = {"model": stage.model, "timeout": stage.timeout, "parallel": stage.parallel, "max": stage.max}
    settings["cache"] = stage.cache
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
            elif mistake := _duration(key, value) if key in ("timeout", "cache") else _count(key, value):
                yield document.problem(path, mistake)
    yield from _params(workflow, stage, scope)


def _params(workflow: Workflow, stage: Stage, scope: Scope) -> Iterator[Problem]:
    document = workflow.document
    assert document is not None
    for name, written in stage.params.items():
        if isinstance(written, Template):
            path = (*_written_at(workflow, stage, "params", name), name)
            try:
                mistake = param_mistake(name, written.render(scope))
            except ExpressionError as error:
                mistake = error.message
            if mistake:
                yield document.problem(path, mistake)
    if stage.params_from is not None:
        try:
            mistakes = params_mistakes(stage.params_from.render(scope))
        except ExpressionError as error:
            mistakes = [error.message]
        yield from (document.problem((*stage.at, "params"), mistake) for mistake in mistakes)


def _written_at(workflow: Workflow, stage: Stage, key: str, inner: str = "") -> Path:
    """Return where a setting stands: at the stage, else in the file's defaults."""
    own = written_at(workflow.document, stage.at).get(key) if workflow.document is not None else None
    here = isinstance(own, Mapping) and inner in own if inner else own is not None
    return (*stage.at, key) if here else ("defaults", key)


def _duration(key: str, value: Any) -> str:
    try:
        seconds = parse_duration(value) if isinstance(value, str) else 0
    except ValueError as error:
        return f"'{key}': {error}"
    return "" if seconds > 0 else f"'{key}': {value!r} is no duration; write it like 500ms, 30s, 5m, 24h or 7d"


def _count(key: str, value: Any) -> str:
    most = MOST_PARALLEL if key == "parallel" else MOST_TRIES
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return ""
    return f"'{key}' must be a whole number from 1 to {most:,}, not {value!r}"
