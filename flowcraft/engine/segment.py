"""A segment: from a start or a resume of a run until it ends, is interrupted, or belongs to another process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flowcraft.attempts import Attempt
from flowcraft.engine.graph import first_error, walk
from flowcraft.engine.job import Frame, Job, Spent, Stopped
from flowcraft.engine.lease import Owner
from flowcraft.engine.pieces import PieceBook
from flowcraft.engine.ports import ENDED, AttemptRow, EventRow, Quality, RunStore, SegmentStart, StateChange, Write
from flowcraft.engine.sources import code_digest
from flowcraft.engine.stage import StageRunner
from flowcraft.engine.threads import DaemonPool
from flowcraft.engine.values import TOLERANT, stored
from flowcraft.engine.writer import Writer
from flowcraft.errors import BudgetExceeded, RunDiverged, RunFenced, StageFailed
from flowcraft.events import AnswerChosen, Bus, Event, RunFinished, RunStarted, Said
from flowcraft.plugin.chat import ChatResponse
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.stages import StageBody
from flowcraft.workflow.expressions import ExpressionError
from flowcraft.workflow.inputs import bind_inputs
from flowcraft.workflow.schema import Stage, Workflow
from flowcraft.workflow.template import render_value

DECISIONS = ("strategy", "confidence")
"""What of an answer's ``extra`` tells how it was chosen."""

T = TypeVar("T")

DEEPEST_USES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all segments of a process share."""

    store: RunStore
    writer: Writer
    owner: Owner
    bus: Bus
    threads: DaemonPool
    now: Callable[[], float] = field(default=time.time)


class Segment:
    """Carries a run out until it ends. ``start`` is what the store gave when this process became the owner."""

    def __init__(self, desk: Desk, job: Job, start: SegmentStart) -> None:
        self.desk = desk
        self.job = job
        self.run_row = start.run
        self.threads = desk.threads
        self.book = PieceBook(start.run.id, start.run.epoch, start.pieces, desk.writer, job.redactor)
        self.root = Frame(workflow=job.workflow, inputs=job.inputs)
        self.budget = {unit: limit for unit, limit in job.workflow.budget.items() if unit != "time"}
        self.cancelled = False
        self.ended = threading.Event()
        self._gaps = desk.owner.gaps
        self._offline = False
        self._lost = 0.0
        self._next_event = start.next_event
        self._said: set[str] = set()
        self._spent: dict[str, Spent] = {}
        self._chains: dict[tuple[str | None, str, str | None, Quality], LLM] = {}
        self._bodies: dict[str, StageBody] = {}
        self._codes: dict[tuple[str, str], str] = {}
        self._event_lock = threading.Lock()
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> StateChange:
        """Carry the run out and store how it ended; raise RunFenced if another process took it over."""
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        begun = time.monotonic()
        stages = tuple(self.job.workflow.stages)
        self.emit(RunStarted, workflow=self.job.workflow.name, segment=self.run_row.segment, stages=stages)
        interrupted: asyncio.CancelledError | None = None
        try:
            await self._remember()
            state, outputs, error = await self._carry()
        except asyncio.CancelledError as raised:
            state, outputs, error = ("cancelled", None, "") if self.cancelled else ("interrupted", None, "")
            interrupted = raised
            _forgive()
        seconds = self.run_row.seconds + time.monotonic() - begun
        change = StateChange(
            state=state,  # type: ignore[arg-type]  # one of RunState, by the lines above
            outputs=outputs,
            error=error,
            seconds=seconds,
            ended=self.desk.now() if state in ENDED else None,
            offline=self._offline,
        )
        finished = RunFinished(run=self.run_row.id, time=self.desk.now(), state=state, seconds=seconds, error=error)
        end = Write(run=self.book.run, epoch=self.book.epoch, events=(self._row(finished),), state=change)
        await unhurried(self.desk.writer.save(end))
        self.desk.bus.emit(finished)
        if interrupted is not None and not self.cancelled:
            raise interrupted
        return change

    async def _carry(self) -> tuple[str, Any, str]:
        try:
            await self._in_time(self._walk(self.root))
            if self.root.failure is not None:
                return "failed", None, f"stage {self.root.failure.stage}: {self.root.failure}"
            for name, report in self.root.reports.items():
                if report.state not in ("done", "skipped", "failed"):
                    return "failed", None, f"stage {name} did not come to an end"
            return "done", self._outputs(self.root), ""
        except (BudgetExceeded, RunDiverged, ExpressionError, StageFailed) as error:
            return "failed", None, self.job.redactor.text(str(error))

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry ``work`` out in the time that the run may take by its own file; raise BudgetExceeded."""
        limit = self.job.workflow.budget.get("time")
        taken = self.run_row.seconds + self._lost
        try:
            async with asyncio.timeout(None if limit is None else limit - taken) as clock:
                await work
        except TimeoutError:
            if not clock.expired():
                raise
            message = f"the workflow's budget, time: the run has taken all of its {limit:g} s; raise it and run again"
            raise BudgetExceeded(message) from None

    async def _walk(self, frame: Frame) -> None:
        def settle(stage: Stage) -> Any:
            return StageRunner(self, frame, stage).settle()

        try:
            await walk(frame.workflow.stages, settle)
        except BaseExceptionGroup as group:
            error = first_error(group)
        else:
            return
        raise error

    def _outputs(self, frame: Frame) -> Any:
        outputs = frame.workflow.outputs
        if outputs is None:
            return {name: frame.values.get(name) for name in frame.workflow.results}
        try:
            value = render_value(outputs, self._scope(frame, frame.workflow.stages))
        except ExpressionError as error:
            raise StageFailed(f"outputs: {error}", run=self.book.run) from None
        return stored(value, "the output")[1]

    def scope(self, frame: Frame, stage: Stage) -> dict[str, Any]:
        """Return the names that ``stage`` may mention, with their values."""
        return self._scope(frame, stage.depends)

    def _scope(self, frame: Frame, names: Any) -> dict[str, Any]:
        run: dict[str, Any] = {"id": self.run_row.id, "folder": self.job.folder, "date": self.job.date}
        run["stages"] = {name: self._told_of(frame, name) for name in names}
        scope: dict[str, Any] = {"inputs": frame.inputs, "env": self.job.env, "run": run}
        for name in names:
            scope[name] = frame.values.get(name)
        return scope

    def _told_of(self, frame: Frame, name: str) -> dict[str, Any]:
        spent = self._spent.get(f"{frame.prefix}{name}") or Spent()
        return {**frame.reports[name].data(), "model": spent.chosen or spent.model, "usd": spent.usd}

    async def run_part(self, around: Frame, workflow: Workflow, inputs: Mapping[str, Any], path: str) -> Any:
        """Carry another workflow out as a part of this run, its pieces below ``path``; return its outputs."""
        if around.depth >= DEEPEST_USES:
            raise StageFailed(f"'uses' is nested deeper than {DEEPEST_USES}", run=self.book.run, stage=path)
        frame = Frame(
            workflow=workflow,
            inputs=bind_inputs(workflow, inputs),
            parent=around,
            prefix=f"{path}/",
            depth=around.depth + 1,
        )
        await self._walk(frame)
        if frame.failure is not None:
            raise StageFailed(str(frame.failure), run=self.book.run, stage=frame.failure.stage)
        if frame.stopping:
            raise Stopped
        try:
            return self._outputs(frame)
        except StageFailed as error:
            # A failure inside: on resume the stages are not begun anew for it.
            raise StageFailed(str(error), run=self.book.run, stage=f"{frame.prefix}outputs") from None

    def code(self, folder: str, module: str) -> str:
        """Return the digest of a module's code, made once: many stages may call functions of one module."""
        found = self._codes.get((folder, module))
        if found is None:
            found = self._codes[folder, module] = code_digest(folder, module)
        return found

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

    async def may_start(self) -> None:
        """Return if new work may start; after a pause of the process, look first who owns the run."""
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

    def cancel(self) -> None:
        """End the run as cancelled; may be called from any thread."""
        if self.cancelled:
            return
        self.cancelled = True
        self.interrupt()

    def interrupt(self) -> None:
        """Stop what is under way, so that the run can be resumed; may be called from any thread."""
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    def emit(self, kind: type[Event], *, keep: bool = True, **fields: Any) -> None:
        """Make an event of this run, hand it to all who watch, and keep it if it is of a kept kind."""
        event = kind(run=self.run_row.id, time=self.desk.now(), **fields)
        if keep and event.kept:
            self.book.add_event(self._row(event))
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
        self._offline |= attempt.offline and attempt.outcome == "ok"
        self._note(path, attempt)

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
        self._spent.setdefault(stage_of(path), Spent()).add(attempt)

    async def _remember(self) -> None:
        """Read whose answers counted in finished stages, and what these spent if the workflow mentions it."""
        if self.run_row.segment == 1:
            return
        if any(stage.mentions_run for stage in self.job.workflow.stages.values()):
            for row in await self.threads.run(lambda: self.desk.store.attempts(self.run_row.id)):
                self._note(row.path, row.attempt)
        events = await self.threads.run(lambda: self.desk.store.events(self.run_row.id))
        self._lost = lost_seconds(events)
        for event in events:
            if event.kind == AnswerChosen.kind:
                told = json.loads(event.data)
                self._choose(told["path"], told["model"])


def stage_of(path: str) -> str:
    """Return the path of the stage that something at ``path`` belongs to: without its element and its go."""
    group, slash, last = path.rpartition("/")
    return group + slash + last.partition("[")[0].partition("~")[0]


def lost_seconds(events: Iterable[EventRow]) -> float:
    """Return for how long segments ran that were killed: as long as they told something. The run's own seconds lack these."""
    lost, begun, last = 0.0, None, 0.0
    for event in events:
        if event.kind == RunStarted.kind:
            lost += 0.0 if begun is None else last - begun
            begun = event.time
        elif event.kind == RunFinished.kind:
            begun = None
        last = event.time
    return lost if begun is None else lost + last - begun


async def unhurried(work: Coroutine[Any, Any, T]) -> T:
    """Return what ``work`` gives though this task be cancelled meanwhile: what is being written is written."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            _forgive()
    return task.result()


def _forgive() -> None:
    """Take back that this task was cancelled, so that it can still wait for something."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
