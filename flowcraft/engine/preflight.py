"""What only importing tells of a workflow's functions and types: looked at when a run starts, before a model is paid."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from flowcraft.engine.functions import load_function, load_module
from flowcraft.errors import FlowCraftError, Problem
from flowcraft.source import Document
from flowcraft.tools import function_tool
from flowcraft.workflow import Stage, Workflow
from flowcraft.workflow.checks.check import every_part
from flowcraft.workflow.loading.reading import Path
from flowcraft.workflow.schema import Run, tool_lists


def function_problems(workflow: Workflow) -> list[Problem]:
    """Return what is wrong with functions, tools and types that could not be read from their source at load.

    Functions that are re-exported, decorated or compiled are imported and their signatures compared with ``with``; pydantic
    models are imported. Takes as long as importing does.
    """
    return [problem for part in every_part(workflow) for stage in part.every_stage for problem in _stage(part, stage)]


def _stage(part: Workflow, stage: Stage) -> Iterator[Problem]:
    document = part.document
    if document is None:
        return
    for path, message in [*_function(part, stage), *_type(part, stage)]:
        yield document.problem(path, message)
    yield from _tools(part, stage, document)


def _function(part: Workflow, stage: Stage) -> Iterator[tuple[Path, str]]:
    body = stage.body
    if not isinstance(body, Run) or body.checked:
        return
    at = (*stage.at, "run")
    try:
        function = load_function(part.folder, body.module, body.function)
        signature = inspect.signature(function)
    except FlowCraftError as error:
        yield at, str(error)
        return
    except (ValueError, TypeError):
        return  # compiled, without a signature that anybody could know
    try:
        signature.bind(**dict.fromkeys(stage.with_))
    except TypeError as error:
        given = ", ".join(stage.with_) or "nothing"
        yield (*stage.at, "with") if stage.with_ else at, f"{body.target}: {error}; 'with' gives: {given}"


def _tools(part: Workflow, stage: Stage, document: Document) -> Iterator[Problem]:
    for spot, tools in tool_lists(stage):
        for index, tool in enumerate(tools):
            if not tool.module or tool.checked:
                continue
            try:
                function_tool(load_function(part.folder, tool.module, tool.function))
            except (FlowCraftError, TypeError, ValueError) as error:
                yield (spot.document or document).problem((*spot.at, "tools", index), f"{tool.written}: {error}")


def _type(part: Workflow, stage: Stage) -> Iterator[tuple[Path, str]]:
    if stage.output is None:
        return
    try:
        stage.output.resolve(lambda name: load_module(part.folder, name))
    except (FlowCraftError, AttributeError, TypeError) as error:
        yield (*stage.at, "output"), str(error)
