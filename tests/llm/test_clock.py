"""Virtual time, on which the other tests of this room stand."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from flowcraft.testing.clock import VirtualTimeLoop, run_virtual

pytestmark = pytest.mark.unit


async def test_an_hour_passes_at_once_and_in_order() -> None:
    order: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append((name, asyncio.get_running_loop().time()))

    await asyncio.gather(wait("late", 3600), wait("soon", 0.5), wait("later", 7200))
    assert order == [("soon", 0.5), ("late", 3600), ("later", 7200)]


async def test_time_stands_still_while_a_thread_works() -> None:
    go = threading.Event()
    timer = asyncio.get_running_loop().call_later(5, go.set)
    task = asyncio.ensure_future(asyncio.to_thread(time.monotonic))
    await task
    assert asyncio.get_running_loop().time() == 0
    timer.cancel()


async def test_time_can_be_let_pass() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.pass_time(30)
    assert loop.time() == 30


def test_a_coroutine_runs_in_virtual_time() -> None:
    async def wait() -> float:
        await asyncio.sleep(1000)
        return asyncio.get_running_loop().time()

    assert run_virtual(wait()) == 1000


def test_threads_are_awaited_at_the_end_however_long_they_work() -> None:
    """Python 3.12 and later give them 300 seconds: of real time, not of ours."""
    ended = threading.Event()

    def work() -> None:
        time.sleep(0.05)
        ended.set()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    run_virtual(main())
    assert ended.is_set()
