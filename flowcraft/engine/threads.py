"""An executor of daemon threads for users' synchronous functions: one that hangs never keeps the process from ending."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


EAGER = 4
GROWTH_SECONDS = 0.005


class DaemonPool:
    """Runs functions on up to ``size`` daemon threads.

    A few are started on need at once, more only when work has waited for a moment: a burst of short functions does not pay
    for threads that it would hardly use, and a function that blocks does not hold up the others for long.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._growing = False

    async def run(self, function: Callable[[], T]) -> T:
        """Run ``function`` on a thread and return its result. Cancelled, its result is dropped; the thread goes on."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):
                future.set_exception(RuntimeError("the function raised StopIteration"))
            else:
                future.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(function)
            except BaseException as raised:  # noqa: BLE001 - border: whatever a user's function raises is the stage's failure
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(settle, result, error)

        self._work.put(work)
        if self._idle <= 0 and self._threads < self._size:
            if self._threads < EAGER:
                self._start(1)
            elif not self._growing:
                self._growing = True
                loop.call_later(GROWTH_SECONDS, self._grow, loop)
        return await future

    def _grow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start as many threads as there are, if work still waits."""
        self._growing = False
        waiting = self._work.qsize()
        if not waiting:
            return
        self._start(min(waiting, max(self._threads, EAGER), self._size - self._threads))
        if self._threads < self._size:
            self._growing = True
            loop.call_later(GROWTH_SECONDS, self._grow, loop)

    def _start(self, count: int) -> None:
        for _ in range(count):
            self._threads += 1
            threading.Thread(target=self._serve, name=f"flowcraft-work-{self._threads}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            work = self._work.get()
            with self._lock:
                self._idle -= 1
            if work is None:
                return
            work()

    def close(self) -> None:
        """Let idle threads end; busy ones end after their work."""
        threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._work.put(None)
