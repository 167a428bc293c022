"""A recorded run once more: everything that models, functions, commands and people answered comes from the recording."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from flowcraft.app.ancestors import KEPT_AS as FORK_KEPT_AS
from flowcraft.app.comparing.findings import Finding, Place, changed, locate
from flowcraft.app.comparing.values import unified
from flowcraft.app.recordings import recording_of
from flowcraft.app.stage_models import StageModels
from flowcraft.discovery import discover
from flowcraft.engine import Before, Job, Piece, RunRow, StateChange, stage_of
from flowcraft.engine.pieces.reuse import SET_BY_HAND, Wanted
from flowcraft.engine.stages.job import Stopped
from flowcraft.errors import Rejected, StageFailed, StoreError, WorkflowError
from flowcraft.events import RunStarted
from flowcraft.redaction import Redactor
from flowcraft.settings import Settings
from flowcraft.storage import Export, reopen
from flowcraft.workflow import Workflow, bind_inputs, load_workflow, parse_inputs
from flowcraft.workflow.checks.check import environment_names
from flowcraft.workflow.schema import Approve, Group, Input, Uses
from flowcraft.workflow.words import FINALLY

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


_END = re.compile(rf"{FINALLY}\[(\d+)\](.*)")
_ONLY_END = f"{FINALLY}[1]"
"""Where a replay comes to its end: once."""


def _of_last_end(pieces: Sequence[Piece]) -> Iterable[Piece]:
    """Yield the pieces of a run; of what ran last in it only that of its last end, as if it had been the only one."""
    ends = {piece.path: (int(found[1]), found[2]) for piece in pieces if (found := _END.fullmatch(piece.path))}
    last = max((number for number, _ in ends.values()), default=0)
    for piece in pieces:
        number, rest = ends.get(piece.path, (last, ""))
        if number == last:
            yield replace(piece, path=_ONLY_END + rest) if piece.path in ends else piece


def _text(outputs: Any) -> str:
    """Return outputs as they are stored: what is compared byte by byte."""
    return json.dumps(outputs, ensure_ascii=False, separators=(",", ":"))


class Recorded:
    """The pieces of a recording, as a replayed run finds them. ``findings`` is what it asked for in vain.

    ``cut`` says that the replay came to where the recorded run was stopped.
    """

    def __init__(self, pieces: Sequence[Piece], workflow: Workflow, stages: frozenset[str], *, ended: bool) -> None:
        self.workflow = workflow
        self.findings: list[Finding] = []
        self.used: set[str] = set()
        self.cut = False
        self._stages = stages
        self._ended = ended
        self._by_path = {piece.path: piece for piece in _of_last_end(pieces)}
        self._by_what: dict[str, list[Piece]] = {}
        for piece in self._by_path.values():
            if piece.what and "~" not in piece.path.rpartition("/")[2]:
                self._by_what.setdefault(piece.what, []).append(piece)

    def find(self, wanted: Wanted) -> Piece | None:
        """Return the recorded piece of work; raise its failure, or Stopped where there is none."""
        if wanted.path == _ONLY_END:
            return self._recorded_end(str(wanted.asks["state"]))
        piece = self._recorded(wanted)
        place = locate(self.workflow, wanted.path)
        if piece is None:
            self._miss(wanted, place)
            raise Stopped
        self.used.add(piece.path)
        if piece.state == "failed" and not self._goes_on(place, wanted.path):
            error = _told(piece, "error")
            asks = place is not None and isinstance(place.stage.body, Approve)
            raise (Rejected if asks else StageFailed)(error, stage=wanted.path)
        return piece

    def _recorded(self, wanted: Wanted) -> Piece | None:
        piece = self._by_path.get(wanted.path)
        if piece is not None and piece.what == wanted.what and piece.state != "skipped":
            return piece
        same = self._by_what.get(wanted.what, [])
        return next((piece for piece in same if piece.path not in self.used and piece.state != "skipped"), None)

    def _recorded_end(self, state: str) -> Piece | None:
        """Return how the recorded run ended, where this one comes to the same."""
        end = self._by_path.get(_ONLY_END)
        if end is None or self.findings:
            return None
        return end if self.cut or _told(end, "state") == state else None

    def has_failed(self, error: str) -> bool:
        """Say whether a run's error is one that the recording has too: of stages side by side the other may be first now."""
        return any(piece.state == "failed" and _told(piece, "error") in error for piece in self._by_path.values())

    def _goes_on(self, place: Place | None, path: str) -> bool:
        """Say whether the stage goes on in spite of a failure; that of a try is not its own."""
        return place is not None and place.stage.on_error == "continue" and "#" not in path.rpartition("/")[2]

    def _miss(self, wanted: Wanted, place: Place | None) -> None:
        path = wanted.path
        if path.startswith(f"{FINALLY}[") and (self.findings or self.cut):
            return  # how the run ended differs, and what runs last tells of it
        piece = self._by_path.get(path)
        if piece is not None and piece.state != "skipped":
            self.findings.append(changed(path, place, _asked(piece.asked), _plain(wanted.asks)))
            return
        failed = self._failed_around(path)
        if failed is not None:
            raise StageFailed(_told(failed, "error"), stage=failed.path)
        if not self._ended and stage_of(path) in self._stages and piece is None:
            self.cut = True
            return
        told, order = place.told() if place else "", place.order if place else ()
        self.findings.append(Finding(kind="new", path=path, message=self._new(path, piece), place=told, order=order))

    def _failed_around(self, path: str) -> Piece | None:
        """Return the piece of a stage around that failed in the recording, such as by its ``timeout``."""
        around = path.rpartition("/")[0]
        while around:
            piece = self._by_path.get(around)
            if piece is not None and piece.state == "failed":
                return piece
            around = around.rpartition("/")[0]
        return None

    def _new(self, path: str, skipped: Piece | None) -> str:
        if skipped is not None:
            return f"{path} is carried out; in the recording it was skipped: {_told(skipped, 'reason')}"
        stage = stage_of(path)
        if stage not in self._stages:
            return f"the stage '{stage}' is new: the recording has nothing of it"
        before = sum(stage_of(known) == stage and "~" not in known.rpartition("/")[2] for known in self._by_path)
        number = f"{before} piece{'s' * (before != 1)}"
        return f"{path} is asked for; the recording has {number} of '{stage}', and not this one"

    def gone(self, skipped: Iterable[str], *, ended: bool) -> list[Finding]:
        """Return what the recording has and the run did not ask for, where nothing before explains it.

        A run that has not ``ended`` well begins nothing new, while in the recording more may have been under way.
        """
        missing = {stage for stage in self._known_stages() if locate(self.workflow, stage) is None}
        outermost = [stage for stage in missing if not any(stage.startswith(f"{other}/") for other in missing)]
        found = [
            Finding(kind="gone", path=stage, message=f"the stage '{stage}' of the recording is gone", place=self._file)
            for stage in sorted(outermost)
        ]
        for path in skipped:
            piece, place = self._by_path.get(path), locate(self.workflow, path)
            if place is not None and (piece is None or piece.state != "skipped") and stage_of(path) in self._stages:
                message = f"{path} is skipped now; in the recording it was carried out"
                found.append(Finding(kind="gone", path=path, message=message, place=place.told("when"), order=place.order))
        if ended and not found and not self.findings and not self.cut:
            found += self._unasked()
        return found

    def _known_stages(self) -> set[str]:
        return {stage_of(piece.path) for piece in self._by_path.values() if piece.asked or piece.state == "skipped"}

    def _unasked(self) -> list[Finding]:
        """Return the elements and stages of the recording that nobody asked for, the outermost of each."""
        found = []
        for piece in self._by_path.values():
            last = piece.path.rpartition("/")[2]
            place = locate(self.workflow, piece.path)
            if piece.path in self.used or not piece.asked or piece.origin == SET_BY_HAND or "~" in last or place is None:
                continue
            if isinstance(place.stage.body, Group | Uses) or self._below_used(piece.path):
                continue  # what lies in it says it; or it lies in what was taken as a whole
            message = f"{piece.path} of the recording is not asked for any more"
            found.append(Finding(kind="gone", path=piece.path, message=message, place=place.told(), order=place.order))
        return found

    def _below_used(self, path: str) -> bool:
        """Say whether a part of a piece that was taken as a whole is meant: a call of it, or what it used."""
        around = path.rpartition("/")[0]
        while around:
            if around in self.used or around.partition("~")[0] in self.used:
                return True
            around = around.rpartition("/")[0]
        return False

    @property
    def _file(self) -> str:
        document = self.workflow.document
        return document.name if document is not None else self.workflow.path


def _told(piece: Piece, name: str) -> str:
    """Return what the result of a piece that gave nothing says; raise StoreError where it does not."""
    told = json.loads(piece.result)
    if not isinstance(told, dict) or name not in told:
        raise StoreError(f"the database is damaged: the piece {piece.path} is {piece.state} and has no {name}")
    return str(told[name])


def _asked(text: str) -> Mapping[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _plain(asks: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is asked for as the recording holds it: shortened as there, and read back."""
    from flowcraft.engine.pieces.asked import asked_text

    return _asked(asked_text(asks))
