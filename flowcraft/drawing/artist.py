"""From a workflow to its drawing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flowcraft.drawing.drawing import INPUTS, OUTPUTS, Block, Box, Drawing, Line, RunTold, Told
from flowcraft.drawing.words import limit, one_line
from flowcraft.workflow import Input, Prompt, Stage, Template, Workflow
from flowcraft.workflow.expressions.expression import Expression
from flowcraft.workflow.schema import Crew, Group, Uses, agents_of
from flowcraft.workflow.words import FINALLY

MOST_BOXES = 5_000
"""Parts are unfolded no further: workflows that use each other many times would fill any sheet."""
DEEPEST = 30
"""How deep frames nest before parts stay folded."""
_LONGEST_WHAT = 80


def draw(
    workflow: Workflow, *, deep: bool = False, told: Mapping[str, Told] | None = None, run: RunTold | None = None
) -> Drawing:
    """Return the drawing of a workflow. With ``deep`` the workflows that it uses are unfolded.

    ``told`` says what became of the stages in ``run``, by the ids of their boxes; a stage that it lacks was not reached.
    """
    artist = _Artist(deep, told if run is not None else None)
    stages = artist.block(workflow, workflow.stages, "", (workflow.path,))
    return Drawing(
        name=one_line(workflow.name),
        description=one_line(workflow.description, 400),
        stages=artist.with_ends(stages, workflow),
        last=artist.block(workflow, workflow.finally_, f"{FINALLY}/", (workflow.path,)),
        run=run,
    )


class _Artist:
    """Draws the stages of one workflow and of those that it uses."""

    def __init__(self, deep: bool, told: Mapping[str, Told] | None) -> None:
        self.deep = deep
        self.told = told
        self.count = 0

    def block(self, workflow: Workflow, stages: Mapping[str, Stage], prefix: str, around: tuple[str, ...]) -> Block:
        """Return the boxes of stages that stand together; ``around`` are the files that led here."""
        self.count += len(stages)
        boxes = [self.box(workflow, stage, prefix, around) for stage in stages.values()]
        lines = []
        for stage in stages.values():
            mentioned = names_in(stage)
            lines += [
                Line(
                    source=f"{prefix}{name}", target=f"{prefix}{stage.name}", data=name in mentioned or name not in stage.needs
                )
                for name in stage.depends
                if name in stages and name != stage.name
            ]
        return Block(boxes=tuple(boxes), lines=tuple(lines))

    def box(self, workflow: Workflow, stage: Stage, prefix: str, around: tuple[str, ...]) -> Box:
        """Return a stage's box, with what is in it."""
        found = f"{prefix}{stage.name}"
        inside = self.inside(workflow, stage, f"{found}/", around)
        told = None if self.told is None else self.told.get(found, Told())
        if told is not None and inside is not None:
            told = dataclasses.replace(told, model="")  # that of whichever stage in it was asked last
        return Box(
            id=found,
            name=stage.name,
            kind=stage.key,
            what=_what(stage),
            notes=tuple(one_line(note, 120) for note in _notes(stage)),
            many=stage.each is not None,
            inside=inside,
            told=told,
        )

    def inside(self, workflow: Workflow, stage: Stage, prefix: str, around: tuple[str, ...]) -> Block | None:
        """Return what is in a frame; None where the stage is none, or stays folded."""
        if isinstance(stage.body, Group):
            return self.block(workflow, stage.body.stages, prefix, around)
        if not self.deep or not isinstance(stage.body, Uses):
            return None
        part = stage.body.workflow
        if part.path in around or self.count + len(part.stages) > MOST_BOXES or prefix.count("/") > DEEPEST:
            return None
        return self.block(part, part.stages, prefix, (*around, part.path))

    def with_ends(self, stages: Block, workflow: Workflow) -> Block:
        """Return the stages with the inputs before and the outputs behind them."""
        boxes, lines = list(stages.boxes), list(stages.lines)
        if workflow.inputs:
            told = tuple(_input(known) for known in workflow.inputs.values())
            boxes.insert(0, Box(id=INPUTS, name="inputs", kind="inputs", notes=told))
            lines = [*_from_inputs(workflow.stages), *lines]
        names, sources = _outputs(workflow)
        boxes.append(Box(id=OUTPUTS, name="outputs", kind="outputs", notes=names))
        lines += [Line(source=name, target=OUTPUTS) for name in sources]
        return Block(boxes=tuple(boxes), lines=tuple(lines))


def _input(known: Input) -> str:
    """Return an input as it is told: its name, its type, what it is where it is not given."""
    default = " (optional)"
    if known.required:
        default = ""
    elif known.default is not None:
        default = f" = {known.default if isinstance(known.default, str) else json.dumps(known.default, ensure_ascii=False)}"
    return one_line(f"{known.name}: {known.type.text}{default}", 60)


def _from_inputs(stages: Mapping[str, Stage]) -> list[Line]:
    """Return the lines from the inputs to those who mention them, but for who comes behind another one of these anyway."""
    behind: set[str] = set()
    lines = []
    for name in in_order(stages, {name: stage.depends for name, stage in stages.items()}):
        mentions = "inputs" in names_in(stages[name])
        if any(other in behind for other in stages[name].depends):
            behind.add(name)
        elif mentions:
            behind.add(name)
            lines.append(Line(source=INPUTS, target=name))
    return lines


def _outputs(workflow: Workflow) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the outputs, and the stages that they are made of."""
    if workflow.outputs is None:
        return workflow.results, workflow.results
    mentioned = {name for value in workflow.outputs.values() for name in names_in(value)}
    return tuple(workflow.outputs), tuple(name for name in workflow.stages if name in mentioned)


def in_order(names: Mapping[str, Any] | Sequence[str], depends: Mapping[str, Sequence[str]]) -> list[str]:
    """Return ``names`` with each behind all that it depends on, else in their own order. They go round in no circle."""
    left = {name: {other for other in depends.get(name, ()) if other in depends and other != name} for name in names}
    behind: dict[str, list[str]] = {name: [] for name in left}
    for name, others in left.items():
        for other in others:
            behind[other].append(name)
    place = {name: number for number, name in enumerate(left)}
    ready = [name for name, others in left.items() if not others]
    ready.reverse()
    ordered = []
    while ready:
        name = ready.pop()
        ordered.append(name)
        free = []
        for other in behind[name]:
            left[other].discard(name)
            if not left[other]:
                free.append(other)
        ready += sorted(free, key=place.__getitem__, reverse=True)
    return ordered


def names_in(value: Any) -> set[str]:
    """Return the names that the expressions in a stage, or in any part of one, mention; not those in the parts it uses."""
    found: set[str] = set()
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, Expression):
            found |= part.names | part.run_stages
        elif isinstance(part, Template):
            left += part.expressions
        elif isinstance(part, Uses):
            continue
        elif isinstance(part, Mapping):
            left += part.values()
        elif isinstance(part, list | tuple):
            left += part
        elif dataclasses.is_dataclass(part) and type(part).__module__.startswith("flowcraft.workflow.schema"):
            left += [getattr(part, known.name) for known in dataclasses.fields(part)]
    return found


def _what(stage: Stage) -> str:
    """Return the beginning of what a stage does, in the words of the file."""
    body = stage.body
    if isinstance(body, Crew):
        return one_line("; ".join(task.description.source for task in body.tasks), _LONGEST_WHAT)
    for name in ("target", "command", "path", "question", stage.key):
        written = getattr(body, name, None)
        if isinstance(written, Template):
            written = written.source
        if isinstance(written, str) and written.strip():
            return one_line(written, _LONGEST_WHAT)
    return ""


def _notes(stage: Stage) -> Iterator[str]:
    """Yield what is to be said of when, how often and how a stage is done."""
    if stage.when is not None:
        yield f"when {stage.when.text}"
    if stage.each is not None:
        of = stage.each.text if isinstance(stage.each, Expression) else f"of {len(stage.each)}"
        yield f"each {of}" + (f", {_plain(stage.parallel)} at a time" if stage.parallel != 1 else "")
    if stage.until is not None:
        yield f"until {stage.until.text}, at most {_plain(stage.max)}"
    yield from _quality(stage)
    if stage.retry.max:
        yield f"retry {stage.retry.max}"
    if stage.timeout is not None and stage.key == "approve":
        yield f"waits {_plain(stage.timeout, limit)} at most"
    if stage.on_error == "continue":
        yield "on error: continue"
    cache = getattr(stage, "cache", None)
    if cache is not None:
        yield f"cache {_plain(cache, limit)}"


def _quality(stage: Stage) -> Iterator[str]:
    if stage.model is not None:
        yield f"model {_plain(stage.model)}"
    if stage.strategy is not None and stage.strategy != "single":
        yield stage.strategy
    if stage.judge is not None:
        yield "judge" + (f" {stage.judge.model}" if stage.judge.model else "")
    if stage.confidence is not None:
        yield f"confidence {stage.confidence:g}"
    if agents := agents_of(stage.body):
        yield f"agent{'s' * (len(agents) != 1)} " + ", ".join(agent.name for agent in agents)
    if isinstance(stage.body, Crew) and stage.body.process == "hierarchical":
        lead = stage.body.manager
        yield f"led by {getattr(lead, 'name', lead) or 'a manager'}"
    if isinstance(stage.body, Prompt) and stage.body.tools:
        yield "tools " + ", ".join(tool.written for tool in stage.body.tools)
    choices = getattr(stage.body, "choices", None)
    if choices and not getattr(stage.body, "rejects", False):  # its own, not those that every approval has
        yield "choices " + ", ".join(choices)


def _plain(value: Any, shown: Callable[[Any], str] = str) -> str:
    return value.source if isinstance(value, Template) else shown(value)
