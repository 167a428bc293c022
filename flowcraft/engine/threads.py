"""An executor of daemon threads for users' synchronous functions: one that hangs never keeps the process from ending."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

EAGER = 4
GROWTH_SECONDS = 0.005


class _Work(Generic[T]):
    """One function on its way: called on a thread, its end told to the loop that waits for it."""

    def __init__(self, function: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[T] = loop.create_future()
        self.begun = False
        self._function = function
        self._loop = loop
        self._context = contextvars.copy_context()

    def __call__(self) -> None:
        if self.future.cancelled():
            return
        self.begun = True
        result, error = None, None
        try:
            result = self._context.run(self._function)
        except BaseException as raised:  # noqa: BLE001 - border: whatever a user's function raises is the stage's failure
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            self.future.set_exception(error)
        else:
            # A loop would take these as its own end, or not take them at all.
            told = RuntimeError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
            told.__cause__ = error
            self.future.set_exception(told)


class DaemonPool:
    """Runs functions on up to ``size`` daemon threads, not counting those whose work was given up and goes on.

    A few are started on need at once, more only when work has waited for a moment: a burst of short functions does not pay
    for threads that it would hardly use, and a function that blocks does not hold up the others for long.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._work: queue.SimpleQueue[_Work[Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        # Threads less the works that wait or go on. A work counts from when it is handed in: one that no thread has taken yet
        # must not leave the thread that will take it to look free for the next.
        self._spare = 0
        self._growing = False
        self._handed = 0

    async def run(self, function: Callable[[], T]) -> T:
        """Run ``function`` on a thread and return its result. Cancelled, its result is dropped; the thread goes on."""
        loop = asyncio.get_running_loop()
        work = _Work(function, loop)
        with self._lock:
            self._handed += 1
            self._spare -= 1
            short = self._spare < 0
        self._work.put(work)
        if short and self._threads < self._size:
            if self._threads < EAGER:
                self._start(1)
            elif not self._growing:
                self._look(loop)
        try:
            return await work.future
        except asyncio.CancelledError:
            if work.begun:
                self._size += 1  # its thread may never come back
                self._start(1)
            raise

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """See in a moment whether all that was handed in until now has been taken."""
        self._growing = True
        loop.call_later(GROWTH_SECONDS, self._grow, loop, self._handed)

    def _grow(self, loop: asyncio.AbstractEventLoop, handed: int) -> None:
        """Start as many threads as there are, if some of the first ``handed`` works still waits."""
        self._growing = False
        waiting = self._work.qsize()
        if not waiting:
            return
        if self._handed - waiting < handed:
            self._start(min(waiting, max(self._threads, EAGER), self._size - self._threads))
        if self._threads < self._size:
            self._look(loop)

    def _start(self, count: int) -> None:
        for _ in range(count):
            self._threads += 1
            with self._lock:
                self._spare += 1
            threading.Thread(target=self._serve, name=f"flowcraft-work-{self._threads}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            if work is not None:
                work()
            with self._lock:
                self._spare += 1 if work is not None else -1
            if work is None:
                return

    def close(self) -> None:
        """Let idle threads end; busy ones end after their work."""
        threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._work.put(None)
