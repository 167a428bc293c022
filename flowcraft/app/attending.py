"""Runs that nobody looks after go on: one sleeping task attends to all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from flowcraft.app.results import RunResult
from flowcraft.app.runs import Runs
from flowcraft.engine import ENDED
from flowcraft.engine.lease import BEAT_SECONDS
from flowcraft.engine.runs.lookout import Lookout
from flowcraft.engine.stages.failures import explain
from flowcraft.errors import RunError, StoreError
from flowcraft.events import Said

MOST_AT_ONCE = 64
AGAIN_SECONDS = 60.0
"""A run that cannot go on here is left alone for so long."""


class Attendant:
    """Goes on with runs that wait, once somebody has answered or the time of a gate is over, and with those left behind.

    Left behind are runs whose process is gone, those that are to be cancelled and have no process, and those that were
    interrupted while somebody attended to them. It sleeps until the earliest deadline; what other processes do it finds within
    ``every`` seconds.
    """

    def __init__(self, runs: Runs, every: float, on_result: Callable[[RunResult], None] | None) -> None:
        self.runs = runs
        self.every = every
        self._on_result = on_result
        self._under_way: set[str] = set()
        self._left_alone: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._answered = asyncio.Event()
        self._lookout = Lookout(runs.engine.store, runs.engine.owner.id)

    async def attend(self) -> None:
        """Look after runs until this task is cancelled; those that go on then are interrupted, for who attends next."""
        loop = asyncio.get_running_loop()
        forget = self.runs.approvals.watch(lambda: loop.call_soon_threadsafe(self._answered.set))
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._answered.clear()
                    try:
                        for run in await asyncio.to_thread(self._due):
                            self._under_way.add(run)
                            group.create_task(self._go_on(run))
                        deadline = await asyncio.to_thread(self.runs.engine.store.next_deadline)
                    except StoreError as error:  # a database that is locked or gone is asked again
                        self._warn("", f"the runs that somebody must look after cannot be looked up: {error}")
                        deadline = None
                    await self._sleep(deadline)
        finally:
            forget()

    def _due(self) -> Sequence[str]:
        engine, now = self.runs.engine, time.monotonic()
        due = dict.fromkeys([*engine.store.due_runs(engine.desk.now()), *(one.run for one in self._lookout.look())])
        return [run for run in due if run not in self._under_way and self._left_alone.get(run, now) <= now]

    async def _sleep(self, deadline: float | None) -> None:
        every = min(self.every, BEAT_SECONDS) if self._lookout.watching else self.every
        ahead = every if deadline is None else deadline - self.runs.engine.desk.now()
        left = min(every, ahead if ahead > 0 else 1.0)  # one that is over belongs to a run that is left alone
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._answered.wait()

    async def _go_on(self, run: str) -> None:
        try:
            async with self._places:
                result = await self.runs.resume(run, attended=True)
        except Exception as error:  # noqa: BLE001 - border: background task; one run that cannot go on holds up no other
            await self._not_here(run, error)
        else:
            if result.state == "waiting":
                self._left_alone[run] = time.monotonic() + self.every
            if self._on_result is not None:
                self._on_result(result)
        finally:
            self._under_way.discard(run)
            self._answered.set()

    async def _not_here(self, run: str, error: Exception) -> None:
        """Leave a run alone for a while, and say once why, unless somebody else was faster."""
        self._left_alone[run] = time.monotonic() + AGAIN_SECONDS
        if isinstance(error, RunError) and await asyncio.to_thread(self._is_looked_after, run):
            self._left_alone[run] = time.monotonic() + self.every
            return
        message = f"run {run} cannot go on here: {explain(error)}"
        if self._told.get(run) != message:
            self._told[run] = message
            self._warn(run, message)

    def _is_looked_after(self, run: str) -> bool:
        try:
            row = self.runs.engine.find(run)
            return row.state in ENDED or self.runs.engine.may_live(row)
        except StoreError:
            return False

    def _warn(self, run: str, message: str) -> None:
        self.runs.engine.desk.bus.emit(Said(run=run, time=time.time(), level="warning", message=message))
