"""One timer for many waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from flowcraft.llm.alarm import Alarm

pytestmark = pytest.mark.unit


async def waited(alarm: Alarm, seconds: float, what: Awaitable[object]) -> bool:
    """Return whether ``what`` came in time."""
    alarm.set(asyncio.get_running_loop().time() + seconds)
    try:
        await what
    except asyncio.CancelledError:
        if not alarm.rang():
            raise
        return False
    finally:
        alarm.off()
    return True


async def test_a_later_wait_may_end_before_an_earlier_one_would_have() -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm(loop)
    assert await waited(alarm, 10, asyncio.sleep(9))
    assert await waited(alarm, 10, asyncio.sleep(9))
    assert await waited(alarm, 100, asyncio.sleep(50))
    assert not await waited(alarm, 5, asyncio.sleep(6))
    assert loop.time() == 73
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # a test runs in a task
    alarm.close()


async def test_between_waits_the_task_takes_its_time() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    assert await waited(alarm, 1, asyncio.sleep(0))
    await asyncio.sleep(100)
    assert await waited(alarm, 1, asyncio.sleep(0))
    alarm.close()
    await asyncio.sleep(100)


async def test_who_is_cancelled_by_others_as_well_stays_cancelled() -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm(loop)
    task = asyncio.ensure_future(waited(alarm, 5, asyncio.sleep(9)))
    await asyncio.sleep(0)
    loop.call_at(loop.time() + 5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_would_not_be_cancelled_is_no_longer() -> None:
    alarm = Alarm(asyncio.get_running_loop())

    async def stubborn() -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            return

    assert await waited(alarm, 5, stubborn())
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # a test runs in a task
    assert await waited(alarm, 5, asyncio.sleep(1))
    assert not alarm.rang()


async def test_an_error_in_place_of_the_cancellation_is_owned_too() -> None:
    alarm = Alarm(asyncio.get_running_loop())

    async def translates() -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            raise OSError("lost") from None

    alarm.set(5)
    with pytest.raises(OSError, match="lost"):
        await translates()
    assert alarm.rang()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # a test runs in a task
