"""The engine: starts runs, takes them over, cancels them. One per process and database."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from flowcraft.engine.lease import Owner, is_gone, watch
from flowcraft.engine.pieces.writer import Writer
from flowcraft.engine.ports import CANCEL, ENDED, NewRun, ProcessRow, RunRow, RunStore, SegmentStart, StateChange, Write
from flowcraft.engine.runs.segment import Segment, unhurried
from flowcraft.engine.stages.ground import Desk
from flowcraft.engine.stages.job import Job, StageReport
from flowcraft.engine.threads import DaemonPool
from flowcraft.errors import FlowCraftError, RunError, RunFenced, StoreError
from flowcraft.events import Bus
from flowcraft.llm.ports import CallRecord

OnWait = Callable[[ProcessRow], None]
S = TypeVar("S", bound=SegmentStart | None)


class RunAlive(RunError):
    """Another process carries the run out, and is alive; or it has just begun to."""


class Engine:
    """Carries runs out in this process, and keeps other processes' runs alone."""

    def __init__(self, store: RunStore, bus: Bus) -> None:
        self.store = store
        self.owner = Owner(store, self._wanted, lambda: bool(self._segments))
        self.writer = Writer(store)
        self.threads = DaemonPool()
        self.desk = Desk(store=store, writer=self.writer, owner=self.owner, bus=bus, threads=self.threads)
        self._segments: dict[str, Segment] = {}

    async def begin(self, start: Callable[[threading.Event], S]) -> S:
        """Return what ``start`` (``create`` or ``take_over``) gives on a thread, told by its argument if nobody waits any more.

        Cancelled meanwhile, the run is left alone, or as interrupted where it was begun already.
        """
        given_up = threading.Event()
        task = asyncio.ensure_future(asyncio.to_thread(start, given_up))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            given_up.set()
            begun = await unhurried(_started(task))
            if begun is not None:
                await unhurried(self.let_go(begun))
            raise

    async def let_go(self, begun: SegmentStart) -> None:
        """Leave a run that was begun and cannot be carried out here as interrupted, as far as that can be written."""
        left = StateChange(state="interrupted", seconds=begun.run.seconds)
        with contextlib.suppress(StoreError, RunFenced):
            await self.writer.save(Write(run=begun.run.id, epoch=begun.run.epoch, state=left))

    def create(self, run: NewRun) -> SegmentStart:
        """Store a new run and become its owner."""
        self.owner.start()
        self.store.create(run)
        start = self.store.begin(run.id, self.owner.id, 0)
        if start is None:
            raise RunError(f"run {run.id} was taken by another process at its start", run=run.id)
        return start

    def take_over(self, run: str, on_wait: OnWait, given_up: threading.Event | None = None) -> SegmentStart:
        """Become the owner of a run that nobody carries out any more.

        Where its owner may still live, ``on_wait`` is told and its counter is watched for up to a lease, or until ``given_up``
        is set. Raises RunError if the run is done or cancelled, or if its owner is alive.
        """
        row = self.find(run)
        if row.state in ("done", "cancelled"):
            raise RunError(f"run {row.id} is {row.state}; start a new one with 'flowcraft run'", run=row.id)
        if row.id in self._segments:
            raise RunError(f"run {row.id} is running in this process", run=row.id)
        self.owner.start()
        given_up = given_up or threading.Event()
        if not self._is_free(row, on_wait, given_up):
            raise RunAlive(
                f"run {row.id} is being carried out by another process that is alive; wait for it, or end it with "
                f"'flowcraft runs cancel {row.id}'",
                run=row.id,
            )
        start = None if given_up.is_set() else self.store.begin(row.id, self.owner.id, row.epoch)
        if start is None:
            raise RunAlive(f"run {row.id} was just taken over by another process", run=row.id)
        if row.owner:
            self.store.leave(row.owner)  # it is dead; whatever else it owned is free as well
        return start

    def find(self, run: str) -> RunRow:
        """Return a run by its id, the beginning of it, or as the 'last' that began; raise StoreError if there is none."""
        begun = self.store.list(1) if run == "last" else ()
        row = self.store.get(begun[0].id if begun else run)
        if row is None:
            raise StoreError(f"there is no run {run!r}; 'flowcraft runs list' shows what there is")
        return row

    def _is_free(self, row: RunRow, on_wait: OnWait, given_up: threading.Event) -> bool:
        if not row.owner or row.state != "running":
            return True
        process = self.store.process(row.owner)
        if process is None or is_gone(process):
            return True
        on_wait(process)
        dead = watch(self.store, process.id, pause=given_up.wait).dead and not given_up.is_set()
        if dead:
            self.store.leave(process.id)  # whatever else it owned is free as well
        return dead

    def may_live(self, row: RunRow) -> bool:
        """Say whether somebody carries a run out, as far as that shows at once."""
        return self.carries(row.id) or self.is_carried(row)

    async def carry(self, job: Job, start: SegmentStart) -> tuple[StateChange, Mapping[str, StageReport]]:
        """Carry a segment out until the run ends; return how it and its stages ended."""
        due: Sequence[tuple[str, int]] = ()
        while True:
            self.owner.start()
            if start.run.wanted == CANCEL:
                job = replace(job, cancels=True)
            segment = Segment(self.desk, job, start)
            self._segments[start.run.id] = segment
            try:
                change = await segment.run()
            except Exception:
                await self.let_go(start)
                raise
            finally:
                del self._segments[start.run.id]
                segment.ended.set()
            if change.state != "waiting":
                return change, segment.reports
            # Somebody may have answered who found the run running still: who ends a segment looks once more behind it.
            before, due = due, await asyncio.to_thread(self.due, start.run.id)
            begun = await self._begin_again(start.run) if due and due != before else None
            if begun is None:
                return change, segment.reports
            start, job = begun, replace(job, notes=())

    def due(self, run: str) -> Sequence[tuple[str, int]]:
        """Return which approvals of a run were answered, or ran out of time, and wait for its next segment."""
        return self.store.due(run, self.desk.now())

    async def _begin_again(self, run: RunRow) -> SegmentStart | None:
        """Begin the next segment of a run that has just begun to wait; None where somebody else was faster."""
        return await self.begin(lambda given_up: self.store.begin(run.id, self.owner.id, run.epoch))

    def is_carried(self, row: RunRow) -> bool:
        """Say whether a process carries the run out, as far as can be seen at once."""
        if not row.owner or row.state != "running":
            return False
        process = self.store.process(row.owner)
        return process is not None and not is_gone(process)

    def carries(self, run: str) -> bool:
        """Say whether the run is being carried out in this process."""
        return run in self._segments

    def want_cancel(self, run: str) -> RunRow:
        """Keep that a run is to be cancelled, whoever owns it; return it. Raise RunError where it has ended already."""
        row = self.find(run)
        if not self.store.want(row.id, CANCEL):
            row = self.find(row.id)
            raise RunError(f"run {row.id} is {row.state} already", run=row.id)
        own = self._segments.get(row.id)
        if own is not None:
            own.cancel()
        return row

    def await_cancel(self, run: str, on_wait: OnWait, patience: float = 30.0) -> RunRow:
        """Return a run that is to be cancelled once it has ended, as its owner sees to, or has no live owner.

        After ``patience`` seconds it is returned as it is.
        """
        row = self.find(run)
        until = time.monotonic() + patience
        free = self._is_free(row, on_wait, threading.Event())
        while not free and row.state not in ENDED and time.monotonic() < until:
            time.sleep(0.1)
            row = self.find(row.id)
            free = not self.is_carried(row)
        return row

    def end_unowned(self, row: RunRow) -> None:
        """End a run that nobody carries out, and that has nothing left to do, as cancelled."""
        change = StateChange(state="cancelled", seconds=row.seconds, ended=self.desk.now())
        self.store.end_unowned(row.id, row.epoch, change)

    def _wanted(self, run: str, wanted: str) -> None:
        segment = self._segments.get(run)
        if segment is not None and wanted == CANCEL:
            segment.cancel()

    def record(self, record: CallRecord) -> None:
        """Take a call that was made for one of this process's runs."""
        segment = self._segments.get(record.run)
        if segment is not None:
            segment.attempt(record.path, record.stage, record.attempt)

    async def interrupt(self) -> None:
        """Interrupt the runs that still go on, and wait until that is written."""
        for segment in list(self._segments.values()):
            segment.interrupt()
            await asyncio.to_thread(segment.ended.wait)

    def close(self) -> None:
        """Write what waits, stop the beat, let the threads go."""
        try:
            self.writer.close()
        finally:
            self.owner.stop()
            self.threads.close()


async def _started(task: asyncio.Future[Any]) -> SegmentStart | None:
    try:
        begun: SegmentStart | None = await task
        return begun
    except FlowCraftError:
        return None
