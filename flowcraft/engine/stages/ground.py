"""What the stages of a segment stand on: pieces, models, bodies, names, events; nothing here carries a stage out."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flowcraft.attempts import Attempt
from flowcraft.engine.lease import Owner
from flowcraft.engine.pieces.book import PieceBook, Sources
from flowcraft.engine.pieces.fingerprints import Fingerprints
from flowcraft.engine.pieces.reuse import around, source_of
from flowcraft.engine.pieces.sources import code_digest
from flowcraft.engine.pieces.values import TOLERANT, stored
from flowcraft.engine.pieces.writer import Writer
from flowcraft.engine.ports import AttemptRow, EventRow, Quality, RunStore, SegmentStart, Write
from flowcraft.engine.stages.job import Frame, Job, Spent, Stopped, Waiting
from flowcraft.engine.threads import DaemonPool
from flowcraft.engine.tooling import Bench
from flowcraft.errors import RunFenced, StageFailed
from flowcraft.events import AnswerChosen, Bus, Event, Said
from flowcraft.plugin.agents import AgentRunner
from flowcraft.plugin.chat import ChatResponse
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.stages import StageBody
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.template import render_value
from flowcraft.workflow.inputs import bind_inputs
from flowcraft.workflow.loading.approvals import gates_of
from flowcraft.workflow.schema import Stage, Workflow

DECISIONS = ("strategy", "confidence")
"""What of an answer's ``extra`` tells how it was chosen."""

DEEPEST_USES = 10
JUDGE_PART = "judge"
"""Where below a try its judge's piece lies; no stage may have this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all segments of a process share."""

    store: RunStore
    writer: Writer
    owner: Owner
    bus: Bus
    threads: DaemonPool
    now: Callable[[], float] = field(default=time.time)


class Ground(ABC):
    """One segment of a run, as its stages see it. ``start`` is what the store gave when this process became the owner."""

    def __init__(self, desk: Desk, job: Job, start: SegmentStart) -> None:
        self.desk = desk
        self.job = job
        self.run_row = start.run
        self.threads = desk.threads
        self.taken: dict[str, set[str]] = {}
        sources = Sources(
            reuse=job.reuse,
            took=lambda piece: self.took(piece.path, piece.origin),
            asked=lambda path: desk.store.asked(start.run.id, path),
        )
        self.book = PieceBook((start.run.id, start.run.epoch), start.pieces, desk.writer, job.redactor, sources)
        self.budget = {unit: limit for unit, limit in job.workflow.budget.items() if unit != "time"}
        self.bench = Bench(job, desk.threads)
        self.fingerprints = Fingerprints(desk.threads)
        self.idle = job.cancels or job.replays
        self._gaps = desk.owner.gaps
        self._offline = False
        self._offline_at: set[str] = set()
        self._next_event = start.next_event
        self._said: set[str] = set()
        self._spent: dict[str, Spent] = {}
        self._chains: dict[tuple[str | None, str, str | None, Quality], LLM] = {}
        self._written: dict[tuple[str | None, str, str | None, Quality], Any] = {}
        self._bodies: dict[str, StageBody] = {}
        self._codes: dict[tuple[str, str], str] = {}
        self._event_lock = threading.Lock()

    @cached_property
    def asks(self) -> bool:
        """Whether a gate stands anywhere in the workflow."""
        return bool(gates_of(self.job.workflow))

    @abstractmethod
    async def walk(self, frame: Frame) -> None:
        """Carry all stages of a frame out; how they ended stands in the frame."""

    def outputs(self, frame: Frame) -> Any:
        """Return what a workflow returns, its stages being done."""
        outputs = frame.workflow.outputs
        if outputs is None:
            return {name: frame.values.get(name) for name in frame.workflow.results}
        try:
            value = render_value(outputs, self.names(frame, frame.workflow.stages))
        except ExpressionError as error:
            raise StageFailed(f"outputs: {error}", run=self.book.run) from None
        return stored(value, "the output")[1]

    def scope(self, frame: Frame, stage: Stage) -> dict[str, Any]:
        """Return the names that ``stage`` may mention, with their values."""
        return self.names(frame, stage.depends)

    def names(self, frame: Frame, stages: Any) -> dict[str, Any]:
        """Return the names around a frame and those of ``stages`` of it, with their values."""
        around = frame.around if frame.around is not None else self._first_names(frame)
        run = around["run"]
        told = {name: self._told_of(frame, name) for name in stages}
        scope = {**around, "run": {**run, "stages": {**run["stages"], **told}}}
        for name in stages:
            scope[name] = frame.values.get(name)
        return scope

    def _first_names(self, frame: Frame) -> Mapping[str, Any]:
        run = {"id": self.run_row.id, "folder": self.job.folder, "date": self.job.date, "stages": {}}
        return {"inputs": frame.inputs, "env": self.job.env, "run": run}

    def _told_of(self, frame: Frame, name: str) -> dict[str, Any]:
        spent = self._spent.get(stage_of(f"{frame.prefix}{name}")) or Spent()
        return {**frame.reports[name].data(), "model": spent.chosen or spent.model, "usd": spent.usd}

    async def run_part(self, around: Frame, workflow: Workflow, inputs: Mapping[str, Any], path: str) -> Any:
        """Carry another workflow out as a part of this run, its pieces below ``path``; return its outputs."""
        if around.depth >= DEEPEST_USES:
            raise StageFailed(f"'uses' is nested deeper than {DEEPEST_USES}", run=self.book.run, stage=path)
        frame = Frame(
            stages=workflow.stages,
            workflow=workflow,
            inputs=bind_inputs(workflow, inputs),
            parent=around,
            prefix=f"{path}/",
            depth=around.depth + 1,
        )
        await self._part(frame)
        try:
            return self.outputs(frame)
        except StageFailed as error:
            # A failure inside: on resume the stages are not begun anew for it.
            raise StageFailed(str(error), run=self.book.run, stage=f"{frame.prefix}outputs") from None

    async def run_group(self, around: Frame, stages: Mapping[str, Stage], names: Mapping[str, Any], path: str) -> Any:
        """Carry the stages of a group out, which see ``names``, their pieces below ``path``; return their values by name."""
        frame = Frame(
            stages=stages,
            workflow=around.workflow,
            inputs=around.inputs,
            around=names,
            parent=around,
            prefix=f"{path}/",
            depth=around.depth,
        )
        await self._part(frame)
        return {name: frame.values.get(name) for name in stages}

    async def _part(self, frame: Frame) -> None:
        await self.walk(frame)
        if frame.failure is not None:
            raise StageFailed(str(frame.failure), run=self.book.run, stage=frame.failure.stage)
        if frame.stopping:
            raise Stopped
        if frame.waiting:
            raise Waiting

    def code(self, folder: str, module: str) -> str:
        """Return the digest of a module's code, made once: many stages may call functions of one module."""
        found = self._codes.get((folder, module))
        if found is None:
            found = self._codes[folder, module] = code_digest(folder, module)
        return found

    def runner(self) -> AgentRunner:
        """Return who carries agents out."""
        if self.job.runner is None:
            raise StageFailed("there is no agent runner here", run=self.book.run)
        return self.job.runner

    def body(self, key: str) -> StageBody:
        """Return the body for a key, made once."""
        body = self._bodies.get(key)
        if body is None:
            body = self._bodies[key] = self.job.bodies[key]()
        return body

    def llm(self, model: str | None, stage: str, default: str | None, quality: Quality) -> LLM:
        """Return the chain for a stage, composed once; not kept for a rubric, which may differ from element to element."""
        key = (model, stage, default, quality)
        if quality.rubric:
            return self.job.models.llm(*key)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = self.job.models.llm(*key)
        return chain

    def written(self, model: str | None, stage: str, default: str | None, quality: Quality) -> Any:
        """Return the chain for a stage as settings write it, made once as the chain itself is."""
        key = (model, stage, default, quality)
        if quality.rubric:
            return self.job.models.written(*key)
        if key not in self._written:
            self._written[key] = self.job.models.written(*key)
        return self._written[key]

    def took(self, path: str, origin: str) -> None:
        """Take note of a piece that was not done here, and of the model that answered there."""
        stage = stage_of(path)
        for holder in {stage_of(holder) for holder in around(stage)}:
            self.taken.setdefault(holder, set()).add(origin.partition(":")[0])
        before = self.job.before if origin.startswith("fork:") else None
        found = before.answered.get(source_of(origin, path)) if before is not None else None
        if found is None or before is None or self.chosen(stage) == found[0]:
            return
        self._choose(path, found[0])
        decided = {"reused": {"reason": f"in run {before.run}"}}
        self.emit(AnswerChosen, stage=stage, path=path, model=found[0], provider=found[1], decided=decided)

    def origin(self, path: str) -> str:
        """Return where all that lies in the container at ``path`` was taken from; empty where some of it was done here."""
        return self.job.before.origin if self.job.before is not None and not self.book.anew(path) else ""

    def untouched(self, frame: Frame, stage: Stage) -> bool:
        """Say whether nothing in front of a stage ran again: what people decided there still holds."""
        before = self.job.before
        if before is None or not before.same_inputs:
            return before is None
        front: dict[str, None] = dict.fromkeys(stage.depends)
        waiting = list(front)
        while waiting:
            name = waiting.pop()
            if self.book.anew(f"{frame.prefix}{name}"):
                return False
            new = [other for other in frame.stages[name].depends if other not in front]
            front.update(dict.fromkeys(new))
            waiting += new
        if frame.parent is None:
            return True
        holder, owner = frame.prefix[:-1], frame.parent
        holds = owner.stages.get(stage_of(holder).removeprefix(owner.prefix))
        return not self._earlier_tries(holder) and (holds is None or self.untouched(owner, holds))

    def _earlier_tries(self, holder: str) -> bool:
        element, mark, number = holder.partition("~")[0].rpartition("#")
        return bool(mark) and number.isdigit() and any(self.book.anew(f"{element}#{n}") for n in range(1, int(number)))

    async def may_start(self) -> None:
        """Return if new work may start; after a pause of the process, look first who owns the run.

        Raises Stopped where nothing new starts.
        """
        if self.idle:
            raise Stopped
        owner = self.desk.owner
        if owner.fresh and owner.gaps == self._gaps:
            return
        await self.threads.run(self._verify)

    def _verify(self) -> None:
        gaps = self.desk.owner.gaps
        self.desk.owner.beat()
        row = self.desk.store.get(self.run_row.id)
        if row is None or row.epoch != self.run_row.epoch:
            raise RunFenced(f"another process owns run {self.run_row.id} now", run=self.run_row.id)
        self._gaps = gaps

    def emit(self, kind: type[Event], *, keep: bool = True, **fields: Any) -> None:
        """Make an event of this run, hand it to all who watch, and keep it if it is of a kept kind."""
        event = self.event(kind, **fields)
        if keep and event.kept:
            self.book.add_event(self._row(event))
        self.desk.bus.emit(event)

    def event(self, kind: type[Event], **fields: Any) -> Event:
        """Make an event of this run, which nobody has seen yet."""
        return kind(run=self.run_row.id, time=self.desk.now(), **fields)

    async def write(self, event: Event | None = None, **what: Any) -> None:
        """Store something of this run behind the fence, together with an event of it, which is handed out then."""
        events = (self._row(event),) if event is not None else ()
        await self.desk.writer.save(Write(run=self.book.run, epoch=self.book.epoch, events=events, **what))
        if event is not None:
            self.desk.bus.emit(event)

    def _row(self, event: Event) -> EventRow:
        with self._event_lock:
            sequence, self._next_event = self._next_event, self._next_event + 1
        data = self.job.redactor.value(event.data())
        return EventRow(sequence=sequence, kind=event.kind, stage=event.stage, time=event.time, data=TOLERANT.encode(data))

    def say(self, stage: str, message: str, *, level: str = "info", **details: Any) -> None:
        """Emit something worth knowing, secrets taken out."""
        redactor = self.job.redactor
        self.emit(Said, stage=stage, level=level, message=redactor.text(message), details=redactor.value(details))

    def say_once(self, topic: str, message: str) -> None:
        """Say something once in this segment."""
        if topic not in self._said:
            self._said.add(topic)
            self.say("", message)

    def attempt(self, path: str, stage: str, attempt: Attempt) -> None:
        """Record an attempt that was made for this run."""
        self.book.add_attempt(AttemptRow(path=path, stage=stage, attempt=attempt))
        if attempt.offline and attempt.outcome == "ok":
            self._offline = True
            self._offline_at.update(around(path))
        self._note(path, attempt)

    def offline_at(self, path: str) -> bool:
        """Say whether the built-in model answered for something at ``path`` or below it, in this segment."""
        return path in self._offline_at

    def answered(self, path: str, response: ChatResponse) -> None:
        """Keep which answer counts where that cannot be told from the attempts: several models gave one, or none was asked."""
        decided = {name: response.extra[name] for name in DECISIONS if name in response.extra}
        if not decided and not response.cached:
            return
        self._choose(path, response.model)
        self.emit(
            AnswerChosen,
            stage=stage_of(path),
            path=path,
            model=response.model,
            provider=response.provider,
            confidence=response.confidence,
            decided=decided,
        )

    def chosen(self, stage: str) -> str | None:
        """Return the model whose answer counted last at the path of a stage; None where the attempts tell it."""
        spent = self._spent.get(stage)
        return spent.chosen if spent is not None else None

    def _choose(self, path: str, model: str) -> None:
        self._spent.setdefault(stage_of(path), Spent()).chosen = model

    def _note(self, path: str, attempt: Attempt) -> None:
        answers = not is_judge(path)
        while path:  # the stage that asked, and those around it
            self._spent.setdefault(stage_of(path), Spent()).add(attempt, answers=answers)
            path = path.rpartition("/")[0]


def is_judge(path: str) -> bool:
    """Say whether something at ``path`` was done to judge a try."""
    return path.endswith(f"/{JUDGE_PART}")


def stage_of(path: str) -> str:
    """Return the path of the stage that something at ``path`` belongs to: without its element, its try and its go."""
    group, slash, last = path.rpartition("/")
    for mark in "[#~":
        last = last.partition(mark)[0]
    return group + slash + last
