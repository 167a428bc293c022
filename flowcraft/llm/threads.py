"""Work on threads whose end counts though nobody waits for it any more: what was taken is kept or given back, never lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


async def carried_out(work: Callable[[], T]) -> T:
    """Return what ``work`` gives on a thread. It is carried out though this task be cancelled meanwhile."""
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, work))


async def taken(take: Callable[[], T], undo: Callable[[T], None]) -> T:
    """Return what ``take`` gives on a thread; if this task is cancelled meanwhile, ``undo`` is given it there instead."""
    taking = _Taking(take, undo)
    loop = asyncio.get_running_loop()
    try:
        return await asyncio.shield(loop.run_in_executor(None, taking.run))
    except asyncio.CancelledError:
        left = taking.abandon()
        if left is not None:
            loop.run_in_executor(None, left)
        raise


class _Taking(Generic[T]):
    """One taking: either its caller has the result in the end, or it is undone."""

    def __init__(self, take: Callable[[], T], undo: Callable[[T], None]) -> None:
        self._take = take
        self._undo = undo
        self._lock = threading.Lock()
        self._abandoned = False
        self._result: list[T] = []

    def run(self) -> T:
        result = self._take()
        with self._lock:
            if not self._abandoned:
                self._result.append(result)
                return result
        self._undo(result)
        return result

    def abandon(self) -> Callable[[], None] | None:
        """Return what remains to be done to undo it; None if the thread will see to that."""
        with self._lock:
            self._abandoned = True
            if not self._result:
                return None
        result = self._result[0]
        return lambda: self._undo(result)
