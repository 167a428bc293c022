"""The one bridge from synchronous code: a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from flowcraft.errors import FlowCraftError

T = TypeVar("T")


class Bridge:
    """Runs coroutines for synchronous callers, on one loop in one daemon thread, which starts with the first of them.

    One bridge for one owner, so that all its calls share clients. A context manager; ``close`` ends loop and thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._then: Callable[[], None] | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what ``coroutine`` returns; the caller waits. Interrupted while waiting, it is cancelled.

        Raises FlowCraftError when called from the bridge's own thread, which would wait for itself.
        """
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin ``coroutine`` and return its future, which cancels it when it is cancelled; it sees the caller's context.

        Raises FlowCraftError when called from the bridge's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise FlowCraftError(
                "a synchronous call inside the bridge's own loop would wait for itself for ever; await instead"
            )
        return asyncio.run_coroutine_threadsafe(coroutine, self._running())

    def close(self) -> None:
        """Cancel what still runs, close the loop's generators, end the thread. A later call starts a new one.

        Raises FlowCraftError when called from the bridge's own thread, which cannot wait for its own end.
        """
        if threading.current_thread() is self._thread:
            raise FlowCraftError("the bridge cannot be closed from inside its own loop; close it from the thread that made it")
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def stop(self, then: Callable[[], None]) -> None:
        """End loop and thread as ``close`` does, without waiting or locking: the thread itself calls ``then`` at its end.

        For what collects garbage, which may run inside anything. Nothing is called where no thread was needed so far.
        """
        loop, self._loop = self._loop, None
        if loop is not None:
            self._then = then
            loop.call_soon_threadsafe(loop.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():  # a forked process has no such thread
                ready = threading.Event()
                self._thread = threading.Thread(target=self._work, args=(ready,), name="flowcraft-bridge", daemon=True)
                self._thread.start()
                ready.wait()
            assert self._loop is not None, "the thread sets the loop before it is ready"
            return self._loop

    def _work(self, ready: threading.Event) -> None:
        # The runner's end is that of asyncio.run: tasks cancelled, generators closed, and with them this loop's clients.
        with asyncio.Runner() as runner:
            self._loop = loop = runner.get_loop()
            ready.set()
            loop.run_forever()
        then, self._then = self._then, None
        if then is not None:
            then()
