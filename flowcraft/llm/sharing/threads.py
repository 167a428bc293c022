"""Work on threads whose end counts though nobody waits for it any more: what was taken is kept or given back, never lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE = 5.0
HASTE = 0.25
"""Seconds for which an answer waits for what concerns nobody but its books, and for which it waits when its time is over.
A database that is busy for longer keeps nobody waiting."""


async def carried_out(work: Callable[[], None], deadline: float | None) -> None:
    """Let a thread do ``work``, and wait for it a little. It is carried out though this task goes on or is cancelled."""
    with suppress(TimeoutError):
        async with _patience(deadline):
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, work))


async def looked_up(look: Callable[[], T], deadline: float | None) -> T | None:
    """Return what ``look`` gives on a thread; None where that takes too long."""
    with suppress(TimeoutError):
        async with _patience(deadline):
            return await asyncio.get_running_loop().run_in_executor(None, look)
    return None


def _patience(deadline: float | None) -> asyncio.Timeout:
    now = asyncio.get_running_loop().time()
    left = PATIENCE if deadline is None else deadline - now
    return asyncio.timeout_at(now + min(max(left, HASTE), PATIENCE))


async def taken(take: Callable[[], T], undo: Callable[[T], None], until: float | None = None) -> T:
    """Return what ``take`` gives on a thread; if this task is cancelled meanwhile, ``undo`` is given it there instead.

    So it is where that takes longer than ``until``, on the loop's clock; raises TimeoutError.
    """
    taking = _Taking(take, undo)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            return await asyncio.shield(loop.run_in_executor(None, taking.run))
    except (asyncio.CancelledError, TimeoutError):
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
