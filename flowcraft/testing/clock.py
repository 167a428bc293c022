"""An event loop whose clock jumps ahead as soon as nothing is left to do: hours of waiting pass in no time, in order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class _Jumping(selectors.DefaultSelector):
    """A selector that, asked to wait, moves the clock instead; while a thread works, time stands still and it really waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, let ``timeout`` seconds pass at once."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(None if self.threads else 0)
        if not ready and not self.threads:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which starts at 0 and stands still while anything runs.

    For all tests of a folder, its ``conftest.py`` defines ``pytest_asyncio_loop_factories()`` that returns
    ``{"virtual": VirtualTimeLoop}``.
    """

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds that have passed for this loop."""
        return self._jumping.now

    def pass_time(self, seconds: float) -> None:
        """Let ``seconds`` pass without running anything."""
        self._jumping.now += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        """Run ``func`` in a thread; virtual time stands still until it has returned."""
        self._jumping.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """Wait for the threads; virtual time, and with it the limit that Python 3.12 has for that, stands still."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._jumping.threads -= 1

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._jumping.threads -= 1


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end in virtual time, as ``asyncio.run`` does in real time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
