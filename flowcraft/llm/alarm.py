"""A time limit for waits that come one after the other, of which nearly all are over at once."""

from __future__ import annotations

import asyncio


class Alarm:
    """Cancels the task that waits too long. ``set`` before each wait, ``off`` behind it, ``close`` in the end.

    As ``asyncio.timeout_at`` for each wait, but with one timer for all of them, which finds out by itself how much later it
    is due by now: a tenth of the time where a stream brings thousands of pieces.
    """

    __slots__ = ("_cancelling", "_loop", "_rang", "_task", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._rang: bool | None = None

    def set(self, until: float) -> None:
        """Cancel this task if it still waits at ``until``, on the loop's clock."""
        task = self._task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        self._until = until
        timer = self._timer
        if timer is None:
            self._timer = self._loop.call_at(until, self._ring)
        elif timer.when() > until:
            timer.cancel()
            self._timer = self._loop.call_at(until, self._ring)

    def off(self) -> None:
        """Let the task take its time."""
        if self._rang and self._task is not None:
            # It was cancelled and would not have it.
            self._task.uncancel()
            self._rang = None
        self._task = None

    def rang(self) -> bool:
        """Say whether the task was cancelled by this alarm, and by nobody else; takes that back. Ask it in the task."""
        if self._rang is None:
            return False
        if self._task is not None:
            self._rang = self._task.uncancel() <= self._cancelling
            self._task = None
        return self._rang

    def close(self) -> None:
        """Forget the timer."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._ring)
        else:
            self._rang = True
            self._task.cancel()
