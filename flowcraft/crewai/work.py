"""What a crew's thread hands to the loop of its stage: one bit of work after the other, until something ends it for good."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from flowcraft.errors import StageFailed

T = TypeVar("T")


class Ended(BaseException):
    """The work is over: nothing more is asked. No Exception, so that nobody takes it for an answer on its way."""


class Work:
    """Carries a function out on a daemon thread, which hands what it awaits to the loop it is made on.

    The first error of what was handed over, and the end of who waits, are the end of it all: whatever is handed over
    afterwards raises Ended at once, and ``run`` raises the error in place of any result.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._end: BaseException | None = None
        self._closed = False

    async def run(self, function: Callable[[], T], name: str) -> T:
        """Return what ``function`` returns, which is called on a thread called ``name``; raise what ended it."""
        done: asyncio.Future[T] = self._loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error if isinstance(error, Exception) else StageFailed(_told(error)))

        def carry() -> None:
            result, error = None, None
            try:
                result = context.run(function)
            except BaseException as raised:  # noqa: BLE001 - border: whatever the library raises is the stage's failure
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
                self._loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=carry, name=name, daemon=True).start()
        try:
            return await self._outcome(done)
        finally:
            self._closed = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _outcome(self, done: asyncio.Future[T]) -> T:
        try:
            result = await done
        except Exception:
            if self._end is not None:
                raise self._end from None
            raise
        if self._end is not None:  # somebody on the way took the end of it for an answer
            raise self._end
        return result

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what ``work`` gives on the loop; the calling thread waits. Raises Ended where there is no more to do."""
        try:
            return self._start(work).result()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the end, and is raised where the stage waits
            self._ends(error)
        raise Ended  # where no other error is handled: it would be looked into for words

    def end(self, error: Exception) -> None:
        """End the work with ``error``. Raises Ended."""
        self._ends(error)
        raise Ended

    async def do_async(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what ``work`` gives on the loop, for a caller on another loop. Raises Ended as ``do`` does."""
        try:
            return await asyncio.wrap_future(self._start(work))
        except BaseException as error:  # noqa: BLE001 - as above
            self._ends(error)
        raise Ended

    def _start(self, work: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]:
        if self._over:
            raise Ended
        tracked = self._tracked(work)
        try:
            return asyncio.run_coroutine_threadsafe(tracked, self._loop)
        except RuntimeError:  # the loop is closed
            tracked.close()
            raise

    async def _tracked(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._over:  # it ended while this was on its way here
            raise Ended
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await work()
        finally:
            self._tasks.discard(task)

    @property
    def _over(self) -> bool:
        return self._closed or self._end is not None

    def _ends(self, error: BaseException) -> None:
        """Keep the first error that ends the work."""
        if isinstance(error, Ended):
            return
        if isinstance(error, concurrent.futures.CancelledError | asyncio.CancelledError):
            error = StageFailed("a call of the agents was cancelled from within")
        with self._lock:
            if not self._over:
                self._end = error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def on_thread(function: Callable[[], T]) -> T:
    """Return what a synchronous function returns, called on a daemon thread: one that hangs never holds the process up."""
    return await Work().run(function, "flowcraft-tool")
