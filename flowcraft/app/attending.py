"""Runs that wait go on: one sleeping task looks after all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from flowcraft.app.results import RunResult
from flowcraft.app.runs import Runs
from flowcraft.engine.stages.failures import explain
from flowcraft.errors import StoreError
from flowcraft.events import Said

MOST_AT_ONCE = 64
AGAIN_SECONDS = 60.0
"""A run that cannot go on here is left alone for so long."""


class Attendant:
    """Goes on with runs that wait, once somebody has answered or the time of a gate is over.

    It sleeps until the earliest deadline; what other processes answer it finds within ``every`` seconds.
    """

    def __init__(self, runs: Runs, every: float, on_result: Callable[[RunResult], None] | None) -> None:
        self.runs = runs
        self.every = every
        self._on_result = on_result
        self._under_way: set[str] = set()
        self._left_alone: dict[str, float] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._answered = asyncio.Event()

    async def attend(self) -> None:
        """Look after waiting runs until this task is cancelled; those that go on then are interrupted."""
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
                        self._warn("", f"what waits for people cannot be looked up: {error}")
                        deadline = None
                    await self._sleep(deadline)
        finally:
            forget()

    def _due(self) -> Sequence[str]:
        engine, now = self.runs.engine, time.monotonic()
        due = engine.store.due_runs(engine.desk.now())
        return [run for run in due if run not in self._under_way and self._left_alone.get(run, now) <= now]

    async def _sleep(self, deadline: float | None) -> None:
        ahead = self.every if deadline is None else deadline - self.runs.engine.desk.now()
        left = min(self.every, ahead if ahead > 0 else 1.0)  # one that is over belongs to a run that is left alone
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._answered.wait()

    async def _go_on(self, run: str) -> None:
        try:
            async with self._places:
                result = await self.runs.resume(run)
        except Exception as error:  # noqa: BLE001 - border: background task; one run that cannot go on holds up no other
            self._left_alone[run] = time.monotonic() + AGAIN_SECONDS
            self._warn(run, f"run {run} was answered and cannot go on here: {explain(error)}")
        else:
            if result.state == "waiting":
                self._left_alone[run] = time.monotonic() + self.every
            if self._on_result is not None:
                self._on_result(result)
        finally:
            self._under_way.discard(run)
            self._answered.set()

    def _warn(self, run: str, message: str) -> None:
        self.runs.engine.desk.bus.emit(Said(run=run, time=time.time(), level="warning", message=message))
