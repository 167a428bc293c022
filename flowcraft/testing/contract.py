"""The suite that every provider passes. Needs pytest."""

# The names of tests are sentences, and a token here is a piece of text:
# ruff: noqa: D102, S106

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar

import pytest

from flowcraft.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextTooLong,
    InvalidOutput,
    InvalidRequest,
    ModelNotFound,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)
from flowcraft.plugin import (
    ChatRequest,
    Done,
    Message,
    OutputSpec,
    Provider,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
    ToolSpec,
    Usage,
)
from flowcraft.testing.script import Fault, Reply, Step
from flowcraft.testing.server import FaultServer

LIMIT_SECONDS = 60.0
"""What hangs is a failure, not a suite that never ends."""

ERRORS: dict[str, tuple[Fault, type[ProviderError]]] = {
    "rate limited": (Fault.rate_limit(2), RateLimited),
    "quota by code": (Fault.quota(429), QuotaExhausted),
    "quota by status": (Fault.quota(402), QuotaExhausted),
    "wrong key": (Fault.unauthorized(401), AuthenticationFailed),
    "forbidden": (Fault.unauthorized(403), AuthenticationFailed),
    "no such model": (Fault.model_not_found(), ModelNotFound),
    "bad request": (Fault.bad_request(400), InvalidRequest),
    "unprocessable": (Fault.bad_request(422), InvalidRequest),
    "context by code": (Fault.context_too_long(), ContextTooLong),
    "context by message": (Fault.context_too_long(code=False), ContextTooLong),
    "content filter": (Fault.content_filter(), ContentFiltered),
    "500": (Fault.failure(500), ProviderUnavailable),
    "503": (Fault.failure(503), ProviderUnavailable),
    "cut before headers": (Fault.cut("connect"), ProviderUnavailable),
    "cut before the body": (Fault.cut("headers"), ProviderUnavailable),
    "cut in the body": (Fault.cut("chunk"), ProviderUnavailable),
    "cut inside a character": (Fault.cut("character"), ProviderUnavailable),
    "garbage": (Fault.garbage(), ProviderUnavailable),
    "no JSON": (Fault.not_json(), ProviderUnavailable),
    "empty body": (Fault.empty_body(), ProviderUnavailable),
    "no choices": (Fault.no_choices(), ProviderUnavailable),
    "error inside": (Fault.error_in_answer(), ProviderUnavailable),
}

WEATHER = ToolSpec(
    name="weather",
    description="Tell the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CALLS = (
    ToolCall(id="call_a", name="weather", arguments='{"city": "Zürich"}'),
    ToolCall(id="call_b", name="weather", arguments='{"city": "北京"}'),
)
PERSON = OutputSpec(schema={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}, name="person")
UNICODE = "Привет, 世界! 🙂🇺🇳 naïve"

Test = Callable[..., Coroutine[Any, Any, None]]


def in_loop(test: Test) -> Callable[..., None]:
    """Run a test in an event loop of its own, so that the suite needs no pytest plugin."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), LIMIT_SECONDS))

    return run


def ask(text: str = "How are you?", **fields: Any) -> ChatRequest:
    """Return a request of one user message."""
    return ChatRequest(messages=(Message.user(text),), **fields)


class ProviderContract:
    """What every provider must do. Subclass it and say how the provider is made; pytest runs the suite.

    ::

        class TestMine(ProviderContract):
            def provider(self, server):
                return Mine(MineConfig(base_url=server.url))

    A vendor with another wire format overrides ``server`` as well, with a dialect of its own. What the provider's capabilities
    deny is skipped.
    """

    model: ClassVar[str] = "model-a"

    def provider(self, server: FaultServer) -> Provider:
        """Return the provider under test, set up for ``server``."""
        raise NotImplementedError(f"{type(self).__name__} must say how its provider is made: def provider(self, server)")

    @pytest.fixture
    def server(self) -> Iterator[FaultServer]:
        """Serve what the tests script."""
        with FaultServer() as server:
            yield server

    # -- chat

    @in_loop
    async def test_chat_returns_text_model_and_reason(self, server: FaultServer) -> None:
        async with self.opened(server, "Fine, thanks.") as provider:
            response = await provider.chat(self.model, ask())
        assert response.text == "Fine, thanks."
        assert response.model == self.model
        assert response.finish_reason == "stop"
        assert response.message.text == "Fine, thanks."

    @in_loop
    async def test_chat_sends_the_whole_conversation(self, server: FaultServer) -> None:
        turns = (Message.system("Be short."), Message.user("One?"), Message.assistant("1"), Message.user("Two?"))
        async with self.opened(server, "2") as provider:
            await provider.chat(self.model, ChatRequest(messages=turns))
        prompt = server.dialect.prompt(server.requests[-1].body)
        assert all(turn.text in prompt for turn in turns)

    @in_loop
    async def test_an_answer_that_was_cut_short_says_so(self, server: FaultServer) -> None:
        async with self.opened(server, Reply("Once upon a", finish_reason="length")) as provider:
            assert (await provider.chat(self.model, ask())).finish_reason == "length"

    @in_loop
    async def test_an_empty_answer_is_empty_or_invalid(self, server: FaultServer) -> None:
        async with self.opened(server, Reply("")) as provider:
            try:
                response = await provider.chat(self.model, ask())
            except InvalidOutput:
                return
        assert response.text == ""

    @in_loop
    async def test_usage_is_counted_with_its_parts(self, server: FaultServer) -> None:
        usage = Usage(input=20, cached=12, output=9, reasoning=4)
        async with self.opened(server, Reply("Fine.", usage=usage)) as provider:
            assert (await provider.chat(self.model, ask())).usage == usage
            assert (await self.events(provider, ask()))[-1].response.usage == usage

    @in_loop
    async def test_filtered_without_a_word_is_an_error(self, server: FaultServer) -> None:
        async with self.opened(server, Reply("", finish_reason="content_filter")) as provider:
            with pytest.raises(ContentFiltered):
                await provider.chat(self.model, ask())

    # -- streams

    @in_loop
    async def test_a_stream_ends_with_exactly_one_done(self, server: FaultServer) -> None:
        async with self.opened(server, "one two three") as provider:
            events = await self.events(provider, ask())
        assert [isinstance(event, Done) for event in events].count(True) == 1
        assert isinstance(events[-1], Done)

    @in_loop
    async def test_a_streams_pieces_make_the_text_of_its_response(self, server: FaultServer) -> None:
        async with self.opened(server, "one two three") as provider:
            events = await self.events(provider, ask())
            whole = await provider.chat(self.model, ask())
        assert _text(events) == events[-1].response.text == whole.text == "one two three"

    @in_loop
    async def test_text_comes_before_the_answer_is_complete(self, server: FaultServer) -> None:
        self.needs_stream(server)
        async with self.opened(server, Fault.hang("chunk", "first second")) as provider:
            stream = provider.stream(self.model, ask())
            async with aclosing(stream):
                assert isinstance(await anext(stream), TextDelta)
                server.release()
                assert [event async for event in stream]

    @pytest.mark.parametrize("bytes_per_write", [1, 3])
    @in_loop
    async def test_unicode_survives_being_cut_anywhere(self, server: FaultServer, bytes_per_write: int) -> None:
        async with self.opened(server, Reply(UNICODE, bytes_per_write=bytes_per_write)) as provider:
            assert (await provider.chat(self.model, ask(UNICODE))).text == UNICODE
            events = await self.events(provider, ask(UNICODE))
        assert _text(events) == UNICODE
        assert server.dialect.last_text(server.requests[-1].body) == UNICODE

    @pytest.mark.parametrize("place", ["headers", "chunk", "character"])
    @in_loop
    async def test_a_stream_that_is_cut_raises_and_is_never_done(self, server: FaultServer, place: Any) -> None:
        async with self.opened(server, Fault.cut(place)) as provider:
            with pytest.raises(ProviderUnavailable):
                await self.without_done(provider)

    @in_loop
    async def test_an_error_inside_a_stream_raises(self, server: FaultServer) -> None:
        async with self.opened(server, Fault.error_in_answer(at="chunk")) as provider:
            with pytest.raises(ProviderUnavailable):
                await self.events(provider, ask())

    # -- errors

    @pytest.mark.parametrize("case", ERRORS)
    @in_loop
    async def test_errors_are_translated(self, server: FaultServer, case: str) -> None:
        fault, kind = ERRORS[case]
        async with self.opened(server, fault) as provider:
            with pytest.raises(ProviderError) as told:
                await provider.chat(self.model, ask())
            with pytest.raises(ProviderError) as streamed:
                await self.events(provider, ask())
        assert type(told.value) is kind, told.value
        assert type(streamed.value) is kind, streamed.value
        assert str(told.value)
        assert not told.value.model
        assert not told.value.provider

    @pytest.mark.parametrize("form", ["seconds", "date"])
    @in_loop
    async def test_retry_after_is_told_in_seconds(self, server: FaultServer, form: Any) -> None:
        async with self.opened(server, Fault.rate_limit(1000, form=form)) as provider:
            with pytest.raises(RateLimited) as told:
                await provider.chat(self.model, ask())
        assert told.value.retry_after == pytest.approx(1000, abs=100)

    @in_loop
    async def test_a_failure_is_not_retried(self, server: FaultServer) -> None:
        async with self.opened(server, Fault.failure(500), "never asked for") as provider:
            with pytest.raises(ProviderUnavailable):
                await provider.chat(self.model, ask())
        assert server.count() == 1

    @in_loop
    async def test_a_server_that_is_not_there_is_unavailable(self, server: FaultServer) -> None:
        async with self.opened(server, "unheard") as provider:
            server.stop()
            with pytest.raises(ProviderUnavailable):
                await provider.chat(self.model, ask())

    # -- cancellation

    @pytest.mark.parametrize("place", ["connect", "headers", "chunk"])
    @in_loop
    async def test_cancelling_a_chat_closes_the_connection(self, server: FaultServer, place: Any) -> None:
        async with self.opened(server, Fault.hang(place)) as provider:
            task = asyncio.ensure_future(provider.chat(self.model, ask()))
            await server.until(lambda: server.running() == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.until(lambda: server.abandoned() == 1 and not server.open_connections)

    @in_loop
    async def test_closing_a_stream_early_closes_the_connection(self, server: FaultServer) -> None:
        self.needs_stream(server)
        async with self.opened(server, Fault.hang("chunk")) as provider:
            async with aclosing(provider.stream(self.model, ask())) as stream:
                await anext(stream)
            await server.until(lambda: server.abandoned() == 1 and not server.open_connections)

    # -- tools, structure, logprobs

    @in_loop
    async def test_tools_are_offered_and_called(self, server: FaultServer) -> None:
        async with self.opened(server, Reply(tool_calls=CALLS), needs="tools") as provider:
            response = await provider.chat(self.model, ask(tools=(WEATHER,)))
        assert response.tool_calls == CALLS
        assert response.finish_reason == "tool_calls"
        assert WEATHER.name in str(server.requests[-1].body)

    @pytest.mark.parametrize("deltas", [True, False])
    @in_loop
    async def test_streamed_tool_calls_come_whole_at_last(self, server: FaultServer, deltas: bool) -> None:
        async with self.opened(server, Reply(tool_calls=CALLS, tool_deltas=deltas), needs="tools") as provider:
            events = await self.events(provider, ask(tools=(WEATHER,)))
        assert tuple(event.call for event in events if isinstance(event, ToolCallEvent)) == CALLS
        assert events[-1].response.tool_calls == CALLS

    @in_loop
    async def test_the_schema_of_the_answer_is_sent(self, server: FaultServer) -> None:
        async with self.opened(server, '{"name": "Ада"}', needs="json_schema") as provider:
            response = await provider.chat(self.model, ask(output=PERSON))
        assert response.text == '{"name": "Ада"}'
        assert "'name'" in str(server.requests[-1].body)

    @in_loop
    async def test_logprobs_come_with_their_alternatives(self, server: FaultServer) -> None:
        unlikely = TokenLogprob(token="é", logprob=-9999.0, bytes="é".encode())
        tokens = (TokenLogprob(token="Hi", logprob=-0.25, bytes=b"Hi", top=(unlikely,)), TokenLogprob(token="!", logprob=-1.5))
        async with self.opened(server, Reply(logprobs=tokens), needs="logprobs") as provider:
            request = ask(logprobs=True, top_logprobs=1)
            assert (await provider.chat(self.model, request)).logprobs == tokens
            assert (await self.events(provider, request))[-1].response.logprobs == tokens

    # -- loops and load

    def test_one_provider_serves_two_loops_one_after_the_other(self, server: FaultServer) -> None:
        server.script(self.model, "hello")
        provider = self.provider(server)

        async def once() -> str:
            return (await provider.chat(self.model, ask())).text

        assert [asyncio.run(once()), asyncio.run(once())] == ["hello", "hello"]
        server.wait_until(lambda: not server.open_connections)

    @in_loop
    async def test_many_at_once_get_their_own_answers(self, server: FaultServer) -> None:
        async with self.opened(server) as provider:
            answers = await asyncio.gather(*(provider.chat(self.model, ask(f"number {n}")) for n in range(50)))
        assert [answer.text for answer in answers] == [f"number {n}" for n in range(50)]

    # -- for subclasses

    @asynccontextmanager
    async def opened(self, server: FaultServer, *steps: Step, needs: str = "") -> AsyncIterator[Provider]:
        """Script the model, give the provider, and see that nothing is left open or running behind it."""
        if steps:
            server.script(self.model, *steps)
        provider = self.provider(server)
        if needs and getattr(provider.capabilities, needs) is False:
            pytest.skip(f"{type(provider).__name__} says that it lacks {needs}")
        before = asyncio.all_tasks()
        try:
            yield provider
        finally:
            await provider.aclose()
        await server.until(lambda: not server.open_connections)
        left = asyncio.all_tasks() - before
        if left:  # the loop may still be closing generators that an SDK dropped
            _, left = await asyncio.wait(left, timeout=5)
        assert not left, f"tasks are left behind: {left}"

    async def events(self, provider: Provider, request: ChatRequest) -> list[Any]:
        """Return all events of a stream."""
        return [event async for event in provider.stream(self.model, request)]

    async def without_done(self, provider: Provider) -> None:
        """Read a stream that must not come to its end."""
        async for event in provider.stream(self.model, ask()):
            assert not isinstance(event, Done)

    def needs_stream(self, server: FaultServer) -> None:
        """Skip where the provider makes its streams of whole answers."""
        if type(self.provider(server)).stream is Provider.stream:
            pytest.skip("the provider has no stream of its own")


def _text(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))
