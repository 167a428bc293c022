"""The one writer: everything that waits goes into one transaction, on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict

from flowcraft.engine.ports import RunStore, Write
from flowcraft.errors import RunFenced

LAZY_SECONDS = 0.2
"""How long events and attempts may wait for a piece to share its transaction."""

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]", str, int]


class Writer:
    """Writes to ``store`` in batches. ``save`` waits until its write is on disk, ``add`` does not."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._writes: list[Write] = []
        self._waiters: list[_Waiter] = []
        self._closing = False
        self._asleep = False
        self._lost: BaseException | None = None
        self._thread: threading.Thread | None = None

    async def save(self, write: Write) -> None:
        """Return once ``write`` is stored; raise RunFenced if another process owns the run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._condition:
            self._ensure()
            self._writes.append(write)
            self._waiters.append((loop, future, write.run, write.epoch))
            self._condition.notify()
        await future

    def add(self, write: Write) -> None:
        """Store ``write`` soon: with the next piece, or after a short while."""
        with self._condition:
            self._ensure()
            self._writes.append(write)
            if self._asleep:
                self._condition.notify()

    def _ensure(self) -> None:
        if self._thread is None:
            self._closing = False
            self._thread = threading.Thread(target=self._serve, name="flowcraft-writer", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        while True:
            with self._condition:
                # What may wait does not wake this thread: between two pieces of a run that would cost as much as the writing.
                self._condition.wait_for(lambda: self._waiters or self._closing, LAZY_SECONDS)
                if not self._writes and not self._closing:
                    self._asleep = True
                    self._condition.wait_for(lambda: self._writes or self._closing)
                    self._asleep = False
                    continue
                if not self._writes:
                    return
                writes, self._writes = self._writes, []
                waiters, self._waiters = self._waiters, []
            self._write(writes, waiters)

    def _write(self, writes: list[Write], waiters: list[_Waiter]) -> None:
        fenced: set[tuple[str, int]] = set()
        error: BaseException | None = None
        try:
            fenced = self._store.write(writes)
        except BaseException as raised:  # noqa: BLE001 - border: background thread; whoever waits is told
            error = raised
            if not waiters:
                # Events and attempts: they go with the next piece, whose writer is told if it fails again.
                with self._condition:
                    if self._closing:
                        self._lost = raised
                    else:
                        self._writes = [*writes, *self._writes]
                time.sleep(LAZY_SECONDS)
                return
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], BaseException | None]]] = defaultdict(list)
        for loop, future, run, epoch in waiters:
            told = error or (RunFenced(f"another process owns run {run} now", run=run) if (run, epoch) in fenced else None)
            by_loop[loop].append((future, told))
        for loop, answers in by_loop.items():
            with contextlib.suppress(RuntimeError):  # a loop that ended waits for nothing
                loop.call_soon_threadsafe(_answer, answers)

    def close(self) -> None:
        """Write what waits and end the thread; raise what kept the last events and attempts from being written."""
        with self._condition:
            self._closing = True
            self._condition.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost


def _answer(answers: list[tuple[asyncio.Future[None], BaseException | None]]) -> None:
    for future, error in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
