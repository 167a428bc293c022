"""A recorded run once more: everything that models, functions, commands and people answered comes from the recording."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from flowcraft.app.ancestors import KEPT_AS as FORK_KEPT_AS
from flowcraft.app.comparing.findings import Finding
from flowcraft.app.comparing.recorded import Recorded
from flowcraft.app.comparing.values import unified
from flowcraft.app.recordings import recording_of
from flowcraft.app.stage_models import StageModels
from flowcraft.discovery import discover
from flowcraft.engine import Before, Job, RunRow, StateChange, stage_of
from flowcraft.errors import StoreError, WorkflowError
from flowcraft.events import RunStarted
from flowcraft.redaction import Redactor
from flowcraft.settings import Settings
from flowcraft.storage import Export, reopen
from flowcraft.workflow import Workflow, bind_inputs, load_workflow, parse_inputs
from flowcraft.workflow.checks.check import environment_names
from flowcraft.workflow.schema import Input

if TYPE_CHECKING:
    from flowcraft.app.flowcraft import FlowCraft


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of a replay: ``findings`` in the order of the file, ``pieces`` that were taken from the recording."""

    file: str
    recording: str
    run: str
    findings: tuple[Finding, ...]
    pieces: int
    state: str
    outputs: Any = None

    @property
    def same(self) -> bool:
        """Whether the workflow asks for the same and gives the same as when it was recorded."""
        return not self.findings

    def __str__(self) -> str:
        if self.same:
            count = f"{self.pieces} piece{'s' * (self.pieces != 1)} of work"
            return f"{self.file}: the same as run {self.run} in {self.recording} ({count}, {self.state})"
        first, *others = self.findings
        told = [str(first), *(f"besides: {one.place + ': ' if one.place else ''}{one.message}" for one in others)]
        return "\n".join(told)

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        plain = {name: getattr(self, name) for name in ("file", "recording", "run", "state", "pieces", "outputs")}
        return {**plain, "same": self.same, "findings": [finding.data() for finding in self.findings]}


def open_recording(path: Path) -> Export:
    """Return an opened recording; raise StoreError where there is none or the file is something else."""
    if not path.exists():
        raise StoreError(f"there is no recording {path}; 'flowcraft run --record FILE' makes one")
    return Export(path)


def recorded_inputs(file: str | Path, recording: str | Path | None, workflow: Workflow) -> dict[str, Any]:
    """Return what a recorded run was given, as far as the file still takes it; nothing where there is no recording.

    Where it took a default, today's counts.
    """
    path = Path(recording) if recording is not None else recording_of(file)
    if not path.exists():
        return {}
    export = Export(path)
    try:
        row = export.run
    finally:
        export.close()
    taken = _defaults_taken(row)
    return {
        name: row.inputs[name]
        for name, known in workflow.inputs.items()
        if name in row.inputs and (known.required or name not in taken)
    }


def _defaults_taken(row: RunRow) -> Mapping[str, Input]:
    """Return the inputs of which a run has the default, as its file had them."""
    try:
        workflow = load_workflow(row.snapshot["file"], files=row.snapshot["files"], bodies=discover().bodies())
    except (WorkflowError, KeyError):
        return {}  # kept in another form, or for another version of the language or of a plugin
    return {
        name: known
        for name, known in workflow.inputs.items()
        if not known.required and name in row.inputs and _text(row.inputs[name]) == _text(known.default)
    }


def parse_given(file: str | Path, pairs: Sequence[str], stdin: TextIO) -> dict[str, Any]:
    """Return inputs that are given as ``NAME=VALUE``, without those that are not."""
    workflow = load_workflow(file, bodies=discover().bodies())
    optional = {name: replace(known, required=False) for name, known in workflow.inputs.items()}  # the recording has the others
    return parse_inputs(replace(workflow, inputs=optional), pairs, stdin=stdin)


async def replay(file: str | Path, recording: str | Path | None = None, inputs: Mapping[str, Any] | None = None) -> Replayed:
    """Replay the recording of a workflow file: nothing is carried out, no network, key or database is needed.

    ``recording`` is ``<stem>.recorded.sqlite`` beside the file unless it is named; ``inputs`` count over those recorded.
    Raises WorkflowError where the file is wrong, StoreError where there is no recording or it is damaged.
    """
    if not await asyncio.to_thread(Path(file).is_file):
        load_workflow(file)  # which tells what is wrong with it, before anything of a recording
    export = await asyncio.to_thread(open_recording, Path(recording) if recording is not None else recording_of(file))
    try:
        with tempfile.TemporaryDirectory(prefix="flowcraft-replay-") as folder:
            return await _Replay(file, export).carry(Path(folder), inputs or {})
    except StoreError as error:
        named = str(export.path) in str(error)
        raise error if named else StoreError(f"{export.path} cannot be replayed: {error}") from None
    finally:
        export.close()


class _Replay:
    """One replay of one file."""

    def __init__(self, file: str | Path, export: Export) -> None:
        self.file = str(file)
        self.export = export
        self.row = export.run
        self.snapshot = export.run.snapshot

    async def carry(self, folder: Path, inputs: Mapping[str, Any]) -> Replayed:
        """Replay it with a database in ``folder``."""
        from flowcraft.app.flowcraft import FlowCraft

        async with FlowCraft(self._settings(folder)) as flow:
            workflow = load_workflow(self.file, bodies=flow.plugins.bodies())
            bound, gone = self._inputs(workflow, inputs)
            await asyncio.to_thread(reopen, self.export, folder, bound)
            pieces = await asyncio.to_thread(self.export.store.pieces, self.row.id, asked=True)
            seen = Recorded(pieces, workflow, self._stages(flow), ended=self.row.state == "done")
            change = await self._carried(flow, workflow, seen)
            skipped = [piece.path for piece in flow.engine.store.pieces(self.row.id) if piece.state == "skipped"]
        found = [*gone, *seen.findings, *seen.gone(skipped, ended=change.state == "done"), *self._end(change, seen)]
        return Replayed(
            file=self.file,
            recording=str(self.export.path),
            run=self.row.id,
            findings=tuple(sorted(found, key=lambda finding: finding.order)),
            pieces=len(seen.used),
            state=self.row.state if seen.cut else change.state,
            outputs=change.outputs,
        )

    def _settings(self, folder: Path) -> Settings:
        """Return the settings that the run was recorded with, over a database in ``folder``; they need no keys."""
        kept = [self.snapshot.get(name, {}) for name in ("files", FORK_KEPT_AS)]
        if not all(isinstance(value, dict) for value in (self.snapshot.get("settings"), *kept)):
            raise StoreError(f"{self.export.path} was kept in another form; record the run again")
        settings = Settings.from_snapshot(self.snapshot["settings"], {})
        configured = self.snapshot.get("configured")
        if configured is not None:
            settings = settings.with_configured(configured)
        return settings.model_copy(update={"storage": f"sqlite:///{folder}/run.sqlite"})

    def _inputs(self, workflow: Workflow, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
        """Return the inputs of the replay, and a finding for each that the file does not take any more."""
        recorded = {name: value for name, value in self.row.inputs.items() if name in workflow.inputs}
        gone = [name for name in self.row.inputs if name not in workflow.inputs]
        findings = [
            Finding(kind="inputs", path=name, message=f"the input '{name}' of the recording is gone", place=self.file)
            for name in gone
        ]
        findings += [finding for finding in self._other_defaults(workflow) if finding.path not in given]
        return bind_inputs(workflow, {**recorded, **given}), findings

    def _other_defaults(self, workflow: Workflow) -> Iterable[Finding]:
        """Yield a finding for each input of which the recorded run took the default, and that has another one now."""
        for name, old in _defaults_taken(self.row).items():
            known = workflow.inputs.get(name)
            if known is None or (not known.required and _text(known.default) == _text(old.default)):
                continue
            now = "has no default any more" if known.required else "has another default than in the recording"
            diff = unified(old.default, known.default, f"inputs.{name}")
            place = f"{known.position.file}:{known.position.line}:{known.position.column}"
            yield Finding(kind="inputs", path=name, message=f"the input '{name}' {now}", place=place, diff=diff)

    def _stages(self, flow: FlowCraft) -> frozenset[str]:
        """Return the stages, by path, that the recorded file had, as far as the recording tells."""
        known = {stage_of(piece.path) for piece in self.export.store.pieces(self.row.id)}
        for event in self.export.store.events(self.row.id):
            told = json.loads(event.data)
            known |= {event.stage, *(told.get("stages", ()) if event.kind == RunStarted.kind else ())}
        return frozenset(known)

    async def _carried(self, flow: FlowCraft, workflow: Workflow, seen: Recorded) -> StateChange:
        row = self.row
        start = await flow.engine.begin(lambda given_up: flow.engine.take_over(row.id, lambda process: None, given_up))
        job = Job(
            workflow=replace(workflow, budget={}),
            inputs=start.run.inputs,
            models=StageModels(flow.manager, self.snapshot.get("model")),
            bodies=flow.plugins.bodies(),
            redactor=Redactor(),
            env={name: f"env.{name}" for name in environment_names(workflow)},
            folder=row.folder,
            date=str(self.snapshot.get("date", "")),
            reuse=seen,
            before=self._given(),
            replays=True,
        )
        change, _ = await flow.engine.carry(job, start)
        return change

    def _given(self) -> Before | None:
        """Return the outputs that somebody set by hand where the recorded run is a fork; they are set again."""
        told = self.snapshot.get(FORK_KEPT_AS) or {}
        return Before(run=told["run"], given=told["set"], same_inputs=False) if told.get("set") else None

    def _end(self, change: StateChange, seen: Recorded) -> Iterable[Finding]:
        """Yield what is to be said of how the replay ended, where nothing before explains it."""
        last = (len(seen.workflow.stages) + len(seen.workflow.finally_) + 1,)
        if any(finding.kind != "gone" for finding in seen.findings) or seen.cut:
            return
        if change.state != self.row.state:
            told = f": {change.error}" if change.error else ""
            message = f"the run is {change.state}{told}; in the recording it was {self.row.state}"
            yield Finding(kind="failed", path="", message=message, place=self.file, order=last)
        elif not seen.has_failed(change.error) and change.error != self.row.error:
            message = f"the run fails otherwise: {change.error}; in the recording: {self.row.error}"
            yield Finding(kind="failed", path="", message=message, place=self.file, order=last)
        elif _text(change.outputs) != _text(self.row.outputs):
            diff = unified(self.row.outputs, change.outputs, "outputs")
            yield Finding(kind="outputs", path="", message="the outputs differ", place=self.file, diff=diff, order=last)


def _text(outputs: Any) -> str:
    """Return outputs as they are stored: what is compared byte by byte."""
    return json.dumps(outputs, ensure_ascii=False, separators=(",", ":"))
