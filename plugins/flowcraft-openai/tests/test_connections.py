"""Connections: kept, replaced, closed; never leaked."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import aclosing
from typing import Any

import openai
import pytest

from flowcraft.plugin import ChatRequest, Message, ProviderUnavailable, http
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = pytest.mark.integration

DRAINS = pytest.mark.skipif(openai.__version__ < "3", reason="SDK 2 closes the connection behind a stream's [DONE]")

ASK = ChatRequest(messages=(Message.user("How are you?"),))


async def still_running(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Tasks that do not end by themselves; the loop may still be closing generators that the SDK dropped."""
    left = asyncio.all_tasks() - before
    return (await asyncio.wait(left, timeout=5))[1] if left else set()


async def test_calls_one_after_the_other_share_a_connection(server: FaultServer, provider: Any) -> None:
    for _ in range(5):
        await provider.chat("model-a", ASK)
    assert server.connections == 1


@DRAINS
async def test_a_stream_read_to_its_end_gives_its_connection_back(server: FaultServer, provider: Any) -> None:
    for _ in range(3):
        [_ async for _ in provider.stream("model-a", ASK)]
    await provider.chat("model-a", ASK)
    assert server.connections == 1


async def test_an_error_gives_its_connection_back(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault.failure(500))
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await provider.chat("model-a", ASK)
    assert server.connections == 1


async def test_a_pooled_connection_that_died_idle_is_replaced_without_an_error(server: FaultServer, provider: Any) -> None:
    await provider.chat("model-a", ASK)
    # The loop is held while the server closes: the client cannot have noticed when the next call takes the connection.
    server.close_connections()
    assert (await provider.chat("model-a", ASK)).text == "How are you?"
    assert server.count() == 2
    assert server.connections == 2


async def test_every_pooled_connection_may_have_died(server: FaultServer, provider: Any) -> None:
    await asyncio.gather(*(provider.chat("model-a", ASK) for _ in range(16)))
    server.close_connections()
    answers = await asyncio.gather(*(provider.chat("model-a", ASK) for _ in range(16)))
    assert len(answers) == 16


async def test_a_stream_on_a_connection_that_died_idle_begins_anew(server: FaultServer, provider: Any) -> None:
    await provider.chat("model-a", ASK)
    server.close_connections()
    events = [event async for event in provider.stream("model-a", ASK)]
    assert events[-1].response.text == "How are you?"


async def test_a_request_that_closes_every_connection_is_sent_at_most_twice(server: FaultServer, provider: Any) -> None:
    server.script("model-a", "fine", Fault.cut("connect"))
    await provider.chat("model-a", ASK)
    with pytest.raises(ProviderUnavailable, match="closed the connection before it answered"):
        await provider.chat("model-a", ASK)
    assert server.count() == 3


async def test_a_new_connection_that_dies_is_not_replaced(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault.cut("connect"), "fine")
    with pytest.raises(ProviderUnavailable):
        await provider.chat("model-a", ASK)
    assert server.count() == 1


async def test_an_answer_that_had_begun_is_not_asked_again(server: FaultServer, provider: Any) -> None:
    server.script("model-a", "fine", Fault.cut("chunk"))
    await provider.chat("model-a", ASK)
    with pytest.raises(ProviderUnavailable, match="cut in the middle"):
        await provider.chat("model-a", ASK)
    assert server.count() == 2


async def test_three_hundred_calls_32_at_once_leave_nothing_behind(server: FaultServer, provider: Any) -> None:
    tasks_before, threads_before = asyncio.all_tasks(), set(threading.enumerate())
    slots = asyncio.Semaphore(32)

    async def call(number: int) -> str:
        request = ChatRequest(messages=(Message.user(f"call {number}"),))
        async with slots:
            if number % 3:
                return str((await provider.chat("model-a", request)).text)
            return str([event async for event in provider.stream("model-a", request)][-1].response.text)

    answers = await asyncio.gather(*(call(number) for number in range(300)))
    assert answers == [f"call {number}" for number in range(300)]
    assert server.peak <= 32
    await provider.aclose()
    await server.until(lambda: server.open_connections == 0)
    assert await still_running(tasks_before) == set()
    # The loop's own executor keeps its threads; nobody else started any.
    assert {thread.name.rpartition("_")[0] for thread in set(threading.enumerate()) - threads_before} <= {"asyncio", ""}


async def test_cancelled_calls_close_their_connections(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault.hang())
    tasks = [asyncio.ensure_future(provider.chat("model-a", ASK)) for _ in range(20)]
    await server.until(lambda: server.running() == 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.until(lambda: server.abandoned() == 20 and not server.open_connections)


async def test_a_stream_cancelled_while_it_waits_closes_its_connection(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault.hang("chunk"))
    first = asyncio.Event()

    async def read() -> None:
        async for _ in provider.stream("model-a", ASK):
            first.set()

    task = asyncio.ensure_future(read())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: server.abandoned() == 1 and not server.open_connections)


async def test_a_stream_closed_early_leaves_no_task(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Reply("a b c d e", delay=0.001))
    before = asyncio.all_tasks()
    async with aclosing(provider.stream("model-a", ASK)) as stream:
        await anext(stream)
    gc.collect()
    await server.until(lambda: not server.open_connections)
    assert await still_running(before) == set()


def test_a_provider_nobody_closed_is_closed_by_its_loop(server: FaultServer, make: Any) -> None:
    provider = make()
    for _ in range(3):
        asyncio.run(provider.chat("model-a", ASK))
    server.wait_until(lambda: not server.open_connections)
    assert server.connections == 3


async def test_an_idle_connection_is_closed_before_the_server_would(
    server: FaultServer, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.KEEP_ALIVE < 5
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.05)
    await make().chat("model-a", ASK)
    await server.until(lambda: server.open_connections == 0)
    assert server.abandoned() == 0
