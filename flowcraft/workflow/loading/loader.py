"""Files to workflows: the whole of what one run needs, checked as far as nobody else has to be asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

from flowcraft.errors import Problem, WorkflowError
from flowcraft.plugin.stages import StageBody
from flowcraft.source import Document, did_you_mean, listed, read_document
from flowcraft.workflow.loading.agents import People, read_agents
from flowcraft.workflow.loading.approvals import Askers, answer_type
from flowcraft.workflow.loading.commands import SHELL_RESULT
from flowcraft.workflow.loading.drafts import Block, Draft, blocks_of, finished
from flowcraft.workflow.loading.files import Files, UnreadableFile
from flowcraft.workflow.loading.header import Header, check_top_keys, check_version, read_header
from flowcraft.workflow.loading.reading import Path, Reading, TooManyProblems
from flowcraft.workflow.loading.references import References
from flowcraft.workflow.loading.stages import StageReader, beside
from flowcraft.workflow.schema import (
    Approve,
    Body,
    Input,
    Prompt,
    Shell,
    Stage,
    Value,
    Workflow,
    agents_of,
    asks_models,
)
from flowcraft.workflow.types.signatures import Modules, NotFound, Signature
from flowcraft.workflow.types.type import ANY, STRING, Fields, ListOf, Type

DEEPEST_USES = 10
_NO_BODIES: Mapping[str, type[StageBody]] = MappingProxyType({})


def load_workflow(
    path: str | os.PathLike[str],
    *,
    files: Mapping[str, str] | None = None,
    bodies: Mapping[str, type[StageBody]] = _NO_BODIES,
    check: Callable[[Workflow], Iterable[Problem]] = lambda workflow: (),
) -> Workflow:
    """Read a workflow file and all that it uses. None of the user's code is run.

    ``files`` is the snapshot of a run, text by absolute path, which is read instead of the disk; ``bodies`` are those of
    plugins. Raises WorkflowError with every problem at once, in the order of the file; ``check`` adds its own problems (but no
    warnings) to those of the file, as far as that could be read.
    """
    library = _Library(Files(files), bodies)
    absolute = os.path.abspath(path)
    try:
        library.add(absolute, os.fspath(path), ())
    except UnreadableFile as error:
        message = str(error).replace(f"there is no file {absolute}", "there is no such file")
        message = message.replace(f"no file {absolute}", "no file of this name").replace(absolute, "this")
        raise WorkflowError(problems=[Problem(message=message, hint=error.hint, file=os.fspath(path))]) from None
    found = list(library.askers.all())
    library.problems += [problem for problem in found if not problem.warning]
    library.warnings += [problem for problem in found if problem.warning]
    workflow = library.finished(absolute)
    found = [problem for problem in check(workflow) if not problem.warning] if workflow is not None else []
    if library.problems or found or workflow is None:
        raise WorkflowError(problems=_in_order([*library.problems, *found], os.fspath(path)))
    return workflow


def _in_order(problems: list[Problem], main: str) -> list[Problem]:
    """Return problems by file (the main one first) and place, each once."""
    once = dict.fromkeys(problems)
    return sorted(once, key=lambda problem: (problem.file != main, problem.file, problem.line, problem.column))


class _Library:
    """The workflows of one load, by absolute path; each file is read once, however often it is used."""

    def __init__(self, files: Files, bodies: Mapping[str, type[StageBody]]) -> None:
        self.files = files
        self.bodies = bodies
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.askers = Askers()
        self.inputs: dict[str, Mapping[str, Input]] = {}
        self.ending: set[str] = set()
        self.results: dict[str, Type] = {}
        self._workflows: dict[str, Workflow] = {}
        self._targets: dict[str, list[tuple[Body, str]]] = {}
        self._open: set[str] = set()

    def add(self, absolute: str, shown: str, around: tuple[str, ...]) -> None:
        """Read the file at ``absolute``, if it is new; ``around`` are the files that led here."""
        if absolute in self._open or absolute in self._workflows:
            return
        raw = self.files.raw(absolute, plain=bool(around))
        self._open.add(absolute)
        try:
            document = read_document(raw, shown, WorkflowError)
        except WorkflowError as error:
            self.problems += error.problems
            return
        self.files.texts[absolute] = document.text
        reader = _FileReader(self, document, absolute, (*around, absolute))
        try:
            workflow = reader.read()
        except TooManyProblems:
            workflow = None
        self.problems += reader.reading.problems
        if workflow is not None:
            self._workflows[absolute] = workflow
            self._targets[absolute] = reader.targets

    def finished(self, main: str) -> Workflow | None:
        """Tie every ``uses`` to its workflow and return the main one, with the snapshot of all files; None where it has none.

        A workflow that could not be read at all is missing where it is used.
        """
        if main not in self._workflows:
            return None
        texts = dict(self.files.texts)
        warnings = [*self.warnings, *(warning for workflow in self._workflows.values() for warning in workflow.warnings)]
        self._workflows[main] = replace(
            self._workflows[main], files=texts, warnings=tuple(_in_order(warnings, self._workflows[main].path))
        )
        for targets in self._targets.values():
            for body, target in targets:
                # A workflow may use itself, so the knot is tied when all are there; nobody has seen them before.
                object.__setattr__(body, "workflow", self._workflows.get(target))
        return self._workflows[main]


class _FileReader:
    """Reads one file of a library."""

    def __init__(self, library: _Library, document: Document, absolute: str, around: tuple[str, ...]) -> None:
        self.library = library
        self.absolute = absolute
        self.around = around
        self.folder = os.path.dirname(absolute)
        self.reading = Reading(document, library.files, self.folder)
        self.modules = Modules(self.folder)
        self.targets: list[tuple[Body, str]] = []

    def read(self) -> Workflow | None:
        """Return the workflow; None where the file is none that can be read here."""
        data = self.reading.document.data
        if not check_version(self.reading, data):
            return None
        check_top_keys(self.reading, data)
        header = read_header(self.reading, data, self._model)
        self.library.inputs[self.absolute] = header.inputs
        if data.get("finally"):
            self.library.ending.add(self.absolute)
        people = self._people(header, data.get("agents"))
        reader = StageReader(self.reading, header, self.library.bodies, self._signature, self._uses, people)
        main = reader.all(data.get("stages"))
        last = reader.last(data.get("finally"), main)
        outputs = self._outputs(data.get("outputs"))
        blocks = [*blocks_of(main), *blocks_of(last)]
        self.library.askers.add(self.absolute, self.reading, blocks)
        goes: dict[str, Type] = {}
        for block in reversed(blocks):  # inner stages first
            goes |= {draft.id: self._value(draft, goes) for draft in block.drafts.values()}
        references = References(self.reading, header, blocks, goes)
        known = references.check()
        self._check_arguments(references)
        self._warn(header, main, references, outputs)
        self._warn_of_agents(people, references)
        self.targets = [(draft.body, draft.uses) for draft in references.drafts.values() if draft.uses]
        stages, ending = finished(main, known, self.reading), finished(last, known, self.reading)
        return replace(self._workflow(header, references, outputs, stages, ending), agents=people.agents)

    def _people(self, header: Header, data: Any) -> People:
        """Return what agents and crews are read with, the agents of the file among it."""
        known = People(reading=self.reading, inputs=header.inputs, servers=header.servers, signature=self._signature, agents={})
        return read_agents(data, known)

    def _workflow(
        self,
        header: Header,
        references: References,
        outputs: Mapping[str, Value] | None,
        stages: Mapping[str, Stage],
        last: Mapping[str, Stage],
    ) -> Workflow:
        model = header.defaults.model
        document = self.reading.document
        workflow = Workflow(
            name=header.name or FilePath(self.absolute).stem,
            description=header.description,
            path=document.name,
            folder=self.folder,
            inputs=header.inputs,
            types=header.types.all(),
            env=header.env,
            servers=header.servers,
            budget=header.budget,
            default_model=model if isinstance(model, str) else None,
            stages=stages,
            finally_=last,
            seen_last=frozenset(references.links.last),
            outputs=outputs,
            warnings=tuple(self.reading.warnings),
            document=document,
        )
        result = self._result(workflow, references)
        self.library.results[self.absolute] = result
        return replace(workflow, result=result)

    def _result(self, workflow: Workflow, references: References) -> Type:
        """Return the type of what a run of this file returns."""
        if workflow.outputs is not None:
            return Fields(fields={name: references.infer(value, "", "outputs") for name, value in workflow.outputs.items()})
        return Fields(fields={name: references.scopes.values[name] for name in workflow.results})

    def _outputs(self, data: Any) -> Mapping[str, Value] | None:
        if data is None:
            return None
        given = self.reading.mapping(("outputs",), data, "'outputs'")
        return {name: self.reading.value(("outputs", name), part, "outputs") for name, part in given.items()}

    def _value(self, draft: Draft, goes: Mapping[str, Type]) -> Type:
        """Return the type of what one go of a stage gives; ``goes`` holds those of the stages in it."""
        if draft.inner is not None:
            return Fields(fields={name: _given(draft.inner, name, goes) for name in draft.inner.ids})
        if isinstance(draft.body, Approve):
            return answer_type(draft.body)
        if draft.output is not None:
            return draft.output
        if asks_models(draft.body):
            return STRING
        if isinstance(draft.body, Shell):
            return SHELL_RESULT
        if draft.signature is not None:
            return draft.signature.returns
        return self.library.results.get(draft.uses, ANY)

    def _model(self, target: str) -> str:
        return self.modules.check_model(target) if self.library.files.from_disk else ""

    def _signature(self, path: Path, module: str, function: str) -> Signature | None:
        if not self.library.files.from_disk:
            return None
        try:
            return self.modules.signature(module, function)
        except NotFound as error:
            self.reading.problem(path, str(error), error.hint)
            return None

    def _uses(self, path: Path, target: str) -> str:
        """Read the other file; return its absolute path, empty where it cannot be used."""
        absolute = beside(self.folder, target)
        shown = os.path.normpath(os.path.join(os.path.dirname(self.reading.document.name), target))
        if len(self.around) > DEEPEST_USES and absolute not in self.around:
            self.reading.problem(path, f"'uses' nests deeper than {DEEPEST_USES}")
            return ""
        try:
            self.library.add(absolute, shown, self.around)
        except UnreadableFile as error:
            self.reading.problem(path, str(error).replace(absolute, target), error.hint)
            return ""
        if absolute in self.library.ending:
            why = "'finally' belongs to the run, so that only the file that is run may have it"
            self.reading.problem(path, f"{target} has a 'finally'", why)
            return ""
        return absolute if absolute in self.library.inputs else ""

    def _check_arguments(self, references: References) -> None:
        for name, draft in references.drafts.items():
            if draft.uses:
                self._check_inputs(name, draft, self.library.inputs.get(draft.uses, {}), references)
            elif draft.signature is not None and draft.signature.known:
                self._check_parameters(name, draft, draft.signature, references)

    def _check_inputs(self, name: str, draft: Draft, inputs: Mapping[str, Input], references: References) -> None:
        """Check ``with`` against the inputs of the other workflow."""
        target = getattr(draft.body, "path", "")
        for given, value in draft.with_.items():
            if given not in inputs:
                hint = did_you_mean(given, inputs) or (f"it takes: {listed(inputs)}" if inputs else "it takes none")
                self.reading.problem((*draft.path, "with", given), f"{target} has no input '{given}'", hint, key=True)
            else:
                references.check_argument(name, given, value, inputs[given].type, f"the input '{given}'")
        missing = [known.name for known in inputs.values() if known.required and known.name not in draft.with_]
        if missing:
            self._missing(draft.path, "uses", f"{target} also needs: {listed(missing)}")

    def _check_parameters(self, name: str, draft: Draft, signature: Signature, references: References) -> None:
        """Check ``with`` against the function's signature."""
        target = getattr(draft.body, "target", "")
        if signature.positional:
            message = f"{target} takes {listed(signature.positional)} by place only, and 'with' gives names"
            self.reading.problem((*draft.path, "run"), message, "take the '/' out of its signature")
        parameters = {parameter.name: parameter for parameter in signature.parameters}
        for given, value in draft.with_.items():
            if given in parameters:
                references.check_argument(name, given, value, parameters[given].type, f"the parameter '{given}'")
            elif not signature.any_name and given not in signature.positional:
                hint = did_you_mean(given, parameters) or (f"it takes: {listed(parameters)}" if parameters else "it takes none")
                self.reading.problem((*draft.path, "with", given), f"{target} has no parameter '{given}'", hint, key=True)
        missing = [known.name for known in signature.parameters if known.required and known.name not in draft.with_]
        if missing:
            self._missing(draft.path, "run", f"{target} also needs: {listed(missing)}")

    def _missing(self, stage: Path, body: str, message: str) -> None:
        data = self.reading.written(stage)
        if not isinstance(data.get("with"), Mapping | None):
            return
        path = (*stage, "with" if "with" in data else body)
        self.reading.problem(path, message, "give it under 'with'", key="with" in data)

    def _warn(
        self,
        header: Header,
        main: Block,
        references: References,
        outputs: Mapping[str, Value] | None,
    ) -> None:
        """Keep the warnings about what is never used."""
        for name in header.inputs:
            if name not in references.links.inputs:
                self.reading.warning(("inputs", name), f"the input '{name}' is never used", key=True)
        used = {other for others in references.links.mentions.values() for other in others} | references.links.outputs
        for name, draft in main.drafts.items():
            if outputs is not None and _only_answers(draft) and name not in used:
                self.reading.warning(("stages", name), f"nothing uses the answer of stage '{name}'", key=True)

    def _warn_of_agents(self, people: People, references: References) -> None:
        """Keep the warnings about agents of this file whom nobody has; a file of their own may serve several workflows."""
        used = {agent.name for draft in references.drafts.values() for agent in agents_of(draft.body)}
        for name, agent in people.agents.items():
            if name not in used and agent.spot.document is None:
                self.reading.warning(("agents", name), f"the agent '{name}' is never used", key=True)


def _only_answers(draft: Draft) -> bool:
    """Say whether a stage does nothing but ask models."""
    if draft.inner is not None:
        return bool(draft.inner.drafts) and all(map(_only_answers, draft.inner.drafts.values()))
    if agents_of(draft.body):
        return False  # agents may have tools, which do something
    return isinstance(draft.body, Prompt) and not draft.body.tools


def _given(block: Block, name: str, goes: Mapping[str, Type]) -> Type:
    """Return what a stage of a block gives to others: a list with ``each``, anything where it could not be read."""
    draft = block.drafts.get(name)
    if draft is None:
        return ANY
    return goes[draft.id] if draft.each is None else ListOf(element=goes[draft.id])
