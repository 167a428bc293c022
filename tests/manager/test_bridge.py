"""Synchronous callers over one loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator

import pytest

from flowcraft.bridge import Bridge
from flowcraft.errors import FlowCraftError

pytestmark = pytest.mark.unit


async def where() -> tuple[asyncio.AbstractEventLoop, str]:
    return asyncio.get_running_loop(), threading.current_thread().name


def test_all_calls_share_one_loop_in_one_thread() -> None:
    with Bridge() as bridge:
        first, second = bridge.run(where()), bridge.run(where())
    assert first == second
    assert first[1] == "flowcraft-bridge"
    assert first[0].is_closed()


def test_an_error_comes_out_where_the_call_went_in() -> None:
    async def fail() -> None:
        raise KeyError("mine")

    with Bridge() as bridge, pytest.raises(KeyError, match="mine"):
        bridge.run(fail())


def test_a_call_from_inside_the_loop_is_refused() -> None:
    with Bridge() as bridge:

        async def inside() -> None:
            bridge.run(where())

        with pytest.raises(FlowCraftError, match="await instead"):
            bridge.run(inside())


def test_the_bridge_cannot_be_closed_from_inside_its_loop() -> None:
    with Bridge() as bridge:

        async def inside() -> None:
            bridge.close()

        with pytest.raises(FlowCraftError, match="from inside its own loop"):
            bridge.run(inside())
        assert bridge.run(where())[1] == "flowcraft-bridge"


def test_closing_cancels_what_runs_and_closes_generators() -> None:
    ended = []

    async def keep() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            ended.append("generator")

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def begin() -> tuple[object, object]:
        keeper = keep()
        await anext(keeper)
        task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        return keeper, task

    bridge = Bridge()
    held = bridge.run(begin())
    bridge.close()
    assert ended == ["task", "generator"]
    assert held


def test_a_closed_bridge_can_be_used_again() -> None:
    bridge = Bridge()
    first, _ = bridge.run(where())
    bridge.close()
    bridge.close()
    second, _ = bridge.run(where())
    bridge.close()
    assert first is not second


def test_many_threads_may_call_at_once() -> None:
    results: list[int] = []
    with Bridge() as bridge:

        async def answer(number: int) -> int:
            await asyncio.sleep(0)
            return number

        threads = [threading.Thread(target=lambda n=n: results.append(bridge.run(answer(n)))) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == list(range(20))


def test_a_bridge_is_stopped_from_within_its_own_loop_and_from_whoever_holds_its_lock() -> None:
    """As the collector of garbage does, which may run inside of anything."""
    for inside in (True, False):
        bridge, ended = Bridge(), threading.Event()
        bridge.run(where())
        thread = bridge._thread
        assert thread is not None

        async def stop(bridge: Bridge = bridge, ended: threading.Event = ended) -> None:
            bridge.stop(ended.set)

        if inside:
            bridge.run(stop())
        else:
            with bridge._lock:
                bridge.stop(ended.set)
        thread.join(60)
        assert ended.is_set()
        assert not thread.is_alive()


def test_a_bridge_that_was_never_used_has_nothing_to_stop() -> None:
    ended = threading.Event()
    Bridge().stop(ended.set)
    assert not ended.is_set()


FORK = """
import os, signal, sys
from flowcraft.bridge import Bridge

async def answer():
    return "answered"

with Bridge() as bridge:
    bridge.run(answer())
    child = os.fork()
    if not child:
        signal.alarm(20)
        print(bridge.run(answer()), flush=True)
        bridge.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(bridge.run(answer()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_has_a_loop_of_its_own() -> None:
    told = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stdout.split()) == (0, ["answered", "answered"]), told.stderr
