"""Approvals: what a file says of the people that it asks, and which of its gates a name means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowcraft.errors import Problem, WorkflowError
from flowcraft.source import did_you_mean, listed
from flowcraft.workflow.loading.drafts import Block
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import Approve, Group, Stage, Uses, Workflow
from flowcraft.workflow.types.type import ANY, STRING, Enumeration, Fields, Type, TypeMismatch

APPROVE, REJECT = "approve", "reject"
DEFAULT_CHOICES: Mapping[str, str] = {APPROVE: "", REJECT: ""}
LONGEST_CHOICE = 100
OWN_FIELDS = ("choice", "comment", "by", "at")
"""What every answer holds; no field of a form may have such a name."""

_PART = re.compile(r"([a-z_][a-z0-9_]*)(?:\[(\d+)\])?")

Parts = tuple[tuple[str, int | None], ...]
"""Names of stages from the outside in, with the index of the element where one is meant."""


def read_approve(reading: Reading, path: Path, data: Mapping[str, Any], form: Type | None, stage: str) -> Approve | None:
    """Return what the stage at ``path`` asks people, None where it cannot be read; ``form`` is its ``output``."""
    question = reading.template((*path, APPROVE), data[APPROVE], APPROVE, stage)
    if question is not None and not question.source.strip():
        reading.problem((*path, APPROVE), "the question is empty", "say what is to be approved", key=True)
    choices = _choices(reading, (*path, "choices"), data["choices"]) if "choices" in data else DEFAULT_CHOICES
    unread = isinstance(data.get("output"), Mapping) and form == ANY  # of which it was said why
    fields = _form(reading, (*path, "output"), form) if form is not None and not unread else None
    if question is None:
        return None
    return Approve(question=question, choices=choices, rejects=set(choices) == set(DEFAULT_CHOICES), form=fields)


def _choices(reading: Reading, path: Path, data: Any) -> Mapping[str, str]:
    hint = "write choices: [ship, hold], or choice: label"
    if not isinstance(data, list | Mapping) or not data:
        told = f"a list or a mapping, not {plain_kind(data)}" if not isinstance(data, list | Mapping) else "not empty"
        reading.problem(path, f"'choices' must be {told}", hint, key=not data)
        return DEFAULT_CHOICES
    choices: dict[str, str] = {}
    written = data.items() if isinstance(data, Mapping) else enumerate(data)
    for place, part in written:
        choice, label = (place, part) if isinstance(data, Mapping) else (part, "")
        at, key = (*path, place), isinstance(data, Mapping)
        if not isinstance(choice, str):
            reading.problem(at, f"a choice must be text, not {plain_kind(choice)}", "put it in quotes", key=key)
        elif not choice or choice != choice.strip() or len(choice) > LONGEST_CHOICE or not choice.isprintable():
            told = f"a choice must be one line of 1 to {LONGEST_CHOICE} characters, without spaces around it"
            reading.problem(at, told, "a longer text is its label: choice: label", key=key)
        elif choice in choices:
            reading.problem(at, f"the choice '{choice}' stands twice", key=key)
        elif not isinstance(label, str | None):
            reading.problem(at, f"a label must be text, not {plain_kind(label)}")
        else:
            choices[choice] = label or ""
    return choices or DEFAULT_CHOICES


def _form(reading: Reading, path: Path, form: Type) -> Fields | None:
    bare = form.bare
    if not isinstance(bare, Fields):
        reading.problem(path, f"a form has fields, and {form.text} has none", "write output: {version: string}")
        return None
    for name in bare.fields:
        if name in OWN_FIELDS:
            written = reading.written((*path, name)) is not None
            told = f"no field of a form may be called '{name}': every answer has one already"
            reading.problem((*path, name) if written else path, told, key=written)
    return bare


def answer_type(approve: Approve) -> Type:
    """Return the type of what an approval gives."""
    own: dict[str, Type] = dict.fromkeys(OWN_FIELDS, STRING)
    own["choice"] = Enumeration(words=tuple(approve.choices))
    return Fields(fields={**own, **(approve.form.fields if approve.form is not None else {})})


class Askers:
    """Which files of a load ask people, themselves or through those that they use; what that makes wrong or doubtful."""

    def __init__(self) -> None:
        self._asking: set[str] = set()
        self._uses: dict[str, set[str]] = {}
        self._found: list[tuple[str, Callable[[], Problem], bool]] = []

    def add(self, file: str, reading: Reading, blocks: Sequence[Block]) -> None:
        """Take one file in."""
        uses = self._uses.setdefault(file, set())
        for block in blocks:
            listed = _in_list(block, blocks)
            for draft in block.drafts.values():
                if isinstance(draft.body, Approve):
                    self._asking.add(file)
                    if block.last:
                        told = "no approval stands in 'finally', which nobody may hold up"
                        reading.problem((*draft.path, APPROVE), told, "ask before, in 'stages'", key=True)
                    elif listed or draft.each is not None:
                        told = f"'{draft.name}' asks once for each element of a list"
                        reading.warning((*draft.path, APPROVE), told, "ask once behind it, about the whole list", key=True)
                elif draft.uses:
                    uses.add(draft.uses)
                    self._later(draft.uses, reading, (*draft.path, "uses"), block.last, listed or draft.each is not None)

    def _later(self, used: str, reading: Reading, path: Path, last: bool, listed: bool) -> None:
        if last:
            told = "it asks for an approval, and none stands in 'finally', which nobody may hold up"
            self._found.append((used, lambda: reading.document.problem(path, told, "ask before, in 'stages'"), False))
        elif listed:
            told = "it asks for an approval once for each element of a list"
            self._found.append((used, lambda: reading.document.problem(path, told, warning=True), True))

    def all(self) -> Iterator[Problem]:
        """Yield the problems, and the warnings, that could be told only when all files were read."""
        asking = set(self._asking)
        while more := {file for file, used in self._uses.items() if used & asking} - asking:
            asking |= more
        for used, problem, _ in self._found:
            if used in asking:
                yield problem()


def _in_list(block: Block, blocks: Sequence[Block]) -> bool:
    """Say whether a group around these stages is done once per element."""
    drafts = {draft.id: draft for one in blocks for draft in one.drafts.values()}
    while block.owner and block.around is not None:
        if block.owner in drafts and drafts[block.owner].each is not None:
            return True
        block = block.around
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A stage that asks people: its name behind those of the stages around (``report.gate``)."""

    name: str
    stage: Stage
    body: Approve

    def asks_form(self, choice: str) -> bool:
        """Say whether the form is filled in with this choice: a rejection needs none."""
        return self.body.form is not None and not (self.body.rejects and choice == REJECT)


def gates_of(workflow: Workflow) -> list[Gate]:
    """Return the gates of a workflow and of all that it uses, each file's once on the way from the outside."""
    return list(_gates(workflow.stages, "", (workflow.path,)))


def _gates(stages: Mapping[str, Stage], prefix: str, around: tuple[str, ...]) -> Iterator[Gate]:
    for name, stage in stages.items():
        body = stage.body
        if isinstance(body, Approve):
            yield Gate(name=f"{prefix}{name}", stage=stage, body=body)
        elif isinstance(body, Group):
            yield from _gates(body.stages, f"{prefix}{name}.", around)
        elif isinstance(body, Uses) and body.workflow.path not in around:
            yield from _gates(body.workflow.stages, f"{prefix}{name}.", (*around, body.workflow.path))


def find_gate(workflow: Workflow, name: str) -> Gate | None:
    """Return the gate of that name (``report.gate``, ``gate[3]``); None where none has it, or where it is no list."""
    parts = parts_of(name) or ()
    stages: Mapping[str, Stage] = workflow.stages
    for place, (part, index) in enumerate(parts):
        stage = stages.get(part)
        if stage is None or (index is not None and stage.each is None):
            return None
        body = stage.body
        if place == len(parts) - 1:
            return Gate(name=".".join(one for one, _ in parts), stage=stage, body=body) if isinstance(body, Approve) else None
        if isinstance(body, Group):
            stages = body.stages
        elif isinstance(body, Uses):
            stages = body.workflow.stages
        else:
            return None
    return None


def check_answer(gate: Gate, choice: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of the form as they fit; raise WorkflowError where the choice is none of the gate's, or they do not.

    A rejection needs no form.
    """
    body, problems = gate.body, []
    form = body.form
    fields = form.fields if form is not None else {}
    if choice not in body.choices:
        told = did_you_mean(str(choice), body.choices) or f"the choices are: {listed(body.choices)}"
        problems.append(Problem(message=f"gate '{gate.name}' has no choice '{choice}'", hint=told))
    for name in values:
        if name not in fields:
            hint = did_you_mean(name, fields) or (f"the fields are: {listed(fields)}" if fields else "it asks for none")
            problems.append(Problem(message=f"gate '{gate.name}' asks for no field '{name}'", hint=hint))
    fitting: Mapping[str, Any] = {}
    if form is not None and gate.asks_form(choice):
        try:
            fitting = form.check({name: value for name, value in values.items() if name in fields})
        except TypeMismatch as error:
            problems += [_misfit(gate, form, item["field"], item["message"]) for item in error.details]
    if problems:
        raise WorkflowError(problems=problems)
    return fitting


def _misfit(gate: Gate, form: Fields, name: str, message: str) -> Problem:
    kind = form.fields.get(name)
    about = f" ({kind.text}{f': {kind.description}' if kind.description else ''})" if kind is not None else ""
    return Problem(message=f"field '{name}'{about} of gate '{gate.name}' {message}")


def parts_of(name: str) -> Parts | None:
    """Return what a gate's name says: ``report.gate``, ``gate[3]``; None where it is no such name."""
    found = [_PART.fullmatch(part) for part in name.split(".")]
    return tuple((part[1], int(part[2]) if part[2] else None) for part in found if part) if all(found) else None


def parts_of_path(path: str) -> Parts:
    """Return what the path of a gate in a run says, its tries and goes left out: ``report#2/gate[3]``."""
    found = []
    for part in path.split("/"):
        match = _PART.match(part)
        found.append((match[1], int(match[2]) if match[2] else None) if match else (part, None))
    return tuple(found)


def best_match(path: str, names: Sequence[str]) -> str | None:
    """Return which of the ``names`` of gates means the one at ``path``, the one that names most elements; None: none."""
    here = parts_of_path(path)
    fitting = [name for name in names if (parts := parts_of(name)) is not None and _means(parts, here)]
    return max(fitting, key=lambda name: name.count("["), default=None)


def _means(parts: Parts, here: Parts) -> bool:
    return len(parts) == len(here) and all(
        name == at and index in (None, place) for (name, index), (at, place) in zip(parts, here, strict=True)
    )
