"""A segment: from a start or a resume of a run until it ends, is interrupted, or belongs to another process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from flowcraft.engine.order import first_error, walk
from flowcraft.engine.ports import ENDED, EventRow, SegmentStart, StateChange, Write
from flowcraft.engine.runs.finale import End, Finale
from flowcraft.engine.stages.gates import Gates
from flowcraft.engine.stages.ground import Desk, Ground
from flowcraft.engine.stages.job import Frame, Job, StageReport
from flowcraft.engine.stages.stage import StageRunner
from flowcraft.errors import BudgetExceeded, RunDiverged, StageFailed
from flowcraft.events import AnswerChosen, RunFinished, RunStarted
from flowcraft.workflow.checks.check import mentions_run
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.schema import Stage
from flowcraft.workflow.words import FINALLY

T = TypeVar("T")
CANCELS = "the run is to be cancelled: nothing begins but what 'finally' holds"


class Segment(Ground):
    """Carries a run out until it ends. ``start`` is what the store gave when this process became the owner."""

    def __init__(self, desk: Desk, job: Job, start: SegmentStart) -> None:
        super().__init__(desk, job, start)
        self.root = Frame(stages=job.workflow.stages, workflow=job.workflow, inputs=job.inputs)
        self.cancelled = False
        self.ended = threading.Event()
        self.finale = Finale(self, self.root, 1)
        self._remembered = False
        self._lost = 0.0
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> StateChange:
        """Carry the run out and store how it ended; raise RunFenced if another process took it over."""
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self.cancelled:  # before it began
            self.interrupt()
        begun = time.monotonic()
        stages = tuple(self.job.workflow.stages)
        self.emit(RunStarted, workflow=self.job.workflow.name, segment=self.run_row.segment, stages=stages)
        for note in self.job.notes:
            self.say("", note)
        if self.job.cancels:
            self.say("", CANCELS)
        interrupted: asyncio.CancelledError | None = None
        try:
            end = await self._whole()
        except asyncio.CancelledError as raised:
            end, interrupted = End(state="interrupted"), raised
            _forgive()
        finally:
            await unhurried(self.bench.aclose())
        state, error = end.state, end.error
        seconds = self.run_row.seconds + time.monotonic() - begun
        change = StateChange(
            state=state,  # type: ignore[arg-type]  # one of RunState, by the lines above
            outputs=end.outputs,
            error=error,
            seconds=seconds,
            ended=self.desk.now() if state in ENDED else None,
            offline=self._offline,
        )
        finished = RunFinished(run=self.run_row.id, time=self.desk.now(), state=state, seconds=seconds, error=error)
        last = Write(run=self.book.run, epoch=self.book.epoch, events=(self._row(finished),), state=change)
        await unhurried(self.desk.writer.save(last))
        self.desk.bus.emit(finished)
        if interrupted is not None:
            raise interrupted
        return change

    async def _whole(self) -> End:
        """Carry the run out and then, unless it is interrupted, what runs last."""
        try:
            await self._remember()
            if self.job.cancels:
                return await self._given_up()
            return await self._last(self.finale.recorded() or await self._carry())
        except asyncio.CancelledError:
            if not self.cancelled:
                raise
            _forgive()
            if not self._remembered:
                await self._remember()
        end = End(state="cancelled")
        # Cancelled while 'finally' ran, nothing is left to do.
        return end if self.finale.frame is not None else await self._last(end)

    async def _last(self, end: End) -> End:
        """Do what is done last when a run ends, which one that waits for people does not: withdraw what is asked, 'finally'."""
        if end.state == "waiting":
            return end
        if end.state != "done":
            await Gates(self).withdraw()
        return await self.finale.carry(end)

    async def _given_up(self) -> End:
        """End a run as cancelled that its process left: look up what was finished, then do what is done last."""
        if self.finale.begun_as() not in ("", "cancelled"):
            return End(state="cancelled")  # it was cancelled while 'finally' ran: nothing is left to do
        await self._carry()
        self.idle = False
        return await self._last(End(state="cancelled"))

    async def _carry(self) -> End:
        try:
            await self._in_time(self.walk(self.root))
            if self.root.failure is not None:
                return End(state="failed", error=f"stage {self.root.failure.stage}: {self.root.failure}")
            if self.root.waiting:
                return End(state="waiting")
            for name, report in self.root.reports.items():
                if report.state not in ("done", "skipped", "failed"):
                    return End(state="failed", error=f"stage {name} did not come to an end")
            return End(state="done", outputs=self.outputs(self.root))
        except (BudgetExceeded, RunDiverged, ExpressionError, StageFailed) as error:
            return End(state="failed", error=self.job.redactor.text(str(error)))

    @property
    def reports(self) -> dict[str, StageReport]:
        """How the stages of the file ended, those that ran last among them, as ``finally/NAME``."""
        last = self.finale.frame.reports if self.finale.frame is not None else {}
        return {**self.root.reports, **{f"{FINALLY}/{name}": report for name, report in last.items()}}

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

    async def walk(self, frame: Frame) -> None:
        """Carry all stages of a frame out; how they ended stands in the frame."""

        def settle(stage: Stage) -> Any:
            return StageRunner(self, frame, stage).settle()

        try:
            await walk(frame.stages, settle)
        except BaseExceptionGroup as group:
            error = first_error(group)
        else:
            return
        raise error

    def cancel(self) -> None:
        """End the run as cancelled; may be called from any thread, and more than once."""
        if self.cancelled or self.job.cancels:
            return
        self.cancelled = True
        self.interrupt()

    def interrupt(self) -> None:
        """Stop what is under way, so that the run can be resumed; may be called from any thread."""
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _remember(self) -> None:
        """Read whose answers counted in finished stages, and what these spent if the workflow mentions it."""
        if self.run_row.segment == 1:
            self._remembered = True
            return
        if mentions_run(self.job.workflow):
            for row in await self.threads.run(lambda: self.desk.store.attempts(self.run_row.id)):
                self._note(row.path, row.attempt)
        events = await self.threads.run(lambda: self.desk.store.events(self.run_row.id))
        self._lost = lost_seconds(events)
        self.finale = Finale(self, self.root, 1 + sum(_is_end(event) for event in events))
        for event in events:
            if event.kind == AnswerChosen.kind:
                told = json.loads(event.data)
                self._choose(told["path"], told["model"])
        self._remembered = True


def _is_end(event: EventRow) -> bool:
    return event.kind == RunFinished.kind and json.loads(event.data)["state"] in ENDED


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
