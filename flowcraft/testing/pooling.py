"""The suite of providers whose connections are kept by ``flowcraft.plugin.http.Pool``. Needs pytest."""

# The names of tests are sentences:
# ruff: noqa: D102

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any, ClassVar

import pytest

from flowcraft.errors import ProviderUnavailable
from flowcraft.plugin import http
from flowcraft.testing.contract import ProviderContract, ask, in_loop
from flowcraft.testing.script import Fault, Reply
from flowcraft.testing.server import FaultServer


class PooledContract(ProviderContract):
    """What ``ProviderContract`` asks, and of connections besides: kept, replaced, closed; never leaked.

    ``drains`` says that the SDK reads a stream to the end of its connection's body, without which it cannot be kept.
    """

    drains: ClassVar[bool] = True

    # -- kept

    @in_loop
    async def test_calls_one_after_the_other_share_a_connection(self, server: FaultServer) -> None:
        async with self.opened(server) as provider:
            for _ in range(5):
                await provider.chat(self.model, ask())
        assert server.connections == 1

    @in_loop
    async def test_a_stream_read_to_its_end_gives_its_connection_back(self, server: FaultServer) -> None:
        if not self.drains:
            pytest.skip("the SDK closes the connection behind the last event of a stream")
        async with self.opened(server) as provider:
            for _ in range(3):
                await self.events(provider, ask())
            await provider.chat(self.model, ask())
        assert server.connections == 1

    @in_loop
    async def test_an_error_gives_its_connection_back(self, server: FaultServer) -> None:
        async with self.opened(server, Fault.failure(500)) as provider:
            for _ in range(3):
                with pytest.raises(ProviderUnavailable):
                    await provider.chat(self.model, ask())
        assert server.connections == 1

    # -- replaced

    @in_loop
    async def test_a_pooled_connection_that_died_idle_is_replaced_without_an_error(self, server: FaultServer) -> None:
        async with self.opened(server) as provider:
            await provider.chat(self.model, ask())
            # The loop is held while the server closes: the client cannot have noticed when the next call takes the connection.
            server.close_connections()
            assert (await provider.chat(self.model, ask("Still there?"))).text == "Still there?"
        assert server.count() == 2
        assert server.connections == 2

    @in_loop
    async def test_every_pooled_connection_may_have_died(self, server: FaultServer) -> None:
        async with self.opened(server) as provider:
            await asyncio.gather(*(provider.chat(self.model, ask()) for _ in range(16)))
            server.close_connections()
            answers = await asyncio.gather(*(provider.chat(self.model, ask(f"call {n}")) for n in range(16)))
        assert [answer.text for answer in answers] == [f"call {n}" for n in range(16)]

    @in_loop
    async def test_a_stream_on_a_connection_that_died_idle_begins_anew(self, server: FaultServer) -> None:
        async with self.opened(server) as provider:
            await provider.chat(self.model, ask())
            server.close_connections()
            events = await self.events(provider, ask("Still there?"))
        assert events[-1].response.text == "Still there?"

    @in_loop
    async def test_a_request_that_closes_every_connection_is_sent_at_most_twice(self, server: FaultServer) -> None:
        async with self.opened(server, "fine", Fault.cut("connect")) as provider:
            await provider.chat(self.model, ask())
            with pytest.raises(ProviderUnavailable, match="closed the connection before it answered"):
                await provider.chat(self.model, ask())
        assert server.count() == 3

    @in_loop
    async def test_a_new_connection_that_dies_is_not_replaced(self, server: FaultServer) -> None:
        async with self.opened(server, Fault.cut("connect"), "fine") as provider:
            with pytest.raises(ProviderUnavailable):
                await provider.chat(self.model, ask())
        assert server.count() == 1

    @in_loop
    async def test_an_answer_that_had_begun_is_not_asked_again(self, server: FaultServer) -> None:
        async with self.opened(server, "fine", Fault.cut("chunk")) as provider:
            await provider.chat(self.model, ask())
            with pytest.raises(ProviderUnavailable, match="cut in the middle"):
                await provider.chat(self.model, ask())
        assert server.count() == 2

    # -- closed

    @in_loop
    async def test_three_hundred_calls_32_at_once_leave_nothing_behind(self, server: FaultServer) -> None:
        before, slots = set(threading.enumerate()), asyncio.Semaphore(32)

        async def call(provider: Any, number: int) -> str:
            async with slots:
                if number % 3:
                    return str((await provider.chat(self.model, ask(f"call {number}"))).text)
                return str((await self.events(provider, ask(f"call {number}")))[-1].response.text)

        async with self.opened(server) as provider:
            answers = await asyncio.gather(*(call(provider, number) for number in range(300)))
        assert answers == [f"call {number}" for number in range(300)]
        assert server.peak <= 32
        # The loop's own executor keeps its threads; nobody else started any.
        assert {thread.name.rpartition("_")[0] for thread in set(threading.enumerate()) - before} <= {"asyncio", ""}

    @in_loop
    async def test_many_cancelled_calls_close_their_connections(self, server: FaultServer) -> None:
        async with self.opened(server, Fault.hang()) as provider:
            tasks = [asyncio.ensure_future(provider.chat(self.model, ask())) for _ in range(20)]
            await server.until(lambda: server.running() == 20)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.until(lambda: server.abandoned() == 20 and not server.open_connections)

    @in_loop
    async def test_a_stream_cancelled_while_it_waits_closes_its_connection(self, server: FaultServer) -> None:
        first = asyncio.Event()

        async def read(provider: Any) -> None:
            async for _ in provider.stream(self.model, ask()):
                first.set()

        async with self.opened(server, Fault.hang("chunk")) as provider:
            task = asyncio.ensure_future(read(provider))
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.until(lambda: server.abandoned() == 1 and not server.open_connections)

    @in_loop
    async def test_a_stream_closed_between_two_events_closes_its_connection(self, server: FaultServer) -> None:
        async with self.opened(server, Reply("a b c d e", delay=0.001)) as provider:
            async with aclosing(provider.stream(self.model, ask())) as stream:
                await anext(stream)
            await server.until(lambda: not server.open_connections)

    def test_a_provider_nobody_closed_is_closed_by_its_loop(self, server: FaultServer) -> None:
        provider = self.provider(server)
        for _ in range(3):
            asyncio.run(provider.chat(self.model, ask()))
        server.wait_until(lambda: not server.open_connections)
        assert server.connections == 3

    @in_loop
    async def test_an_idle_connection_is_closed_before_the_server_would(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert http.KEEP_ALIVE < 5
        monkeypatch.setattr(http, "KEEP_ALIVE", 0.05)
        async with self.opened(server) as provider:
            await provider.chat(self.model, ask())
            await server.until(lambda: server.open_connections == 0)
        assert server.abandoned() == 0
