from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from flowcraft.plugin import (
    ChatRequest,
    ChatResponse,
    Done,
    LogprobsDelta,
    Message,
    ProviderUnavailable,
    RateLimited,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
    Usage,
)
from flowcraft.testing import Chunks, FakeProvider, Hang

pytestmark = pytest.mark.unit

ASK = ChatRequest(messages=(Message.user("How are you?"),))


async def answers(provider: FakeProvider, count: int, model: str = "m") -> list[str]:
    return [(await provider.chat(model, ASK)).text for _ in range(count)]


async def events(provider: FakeProvider, request: ChatRequest = ASK) -> list[Any]:
    return [event async for event in provider.stream("m", request)]


async def test_steps_come_in_their_order_and_the_last_repeats() -> None:
    assert await answers(FakeProvider("one", "two"), 4) == ["one", "two", "two", "two"]


async def test_without_a_script_it_echoes() -> None:
    assert await answers(FakeProvider(), 1) == ["How are you?"]


async def test_a_model_may_have_a_script_of_its_own() -> None:
    provider = FakeProvider("any").script("special", "mine")
    assert await answers(provider, 1, "special") == ["mine"]
    assert await answers(provider, 1, "other") == ["any"]
    assert [model.model for model in await provider.list_models()] == ["special"]
    assert (provider.count(), provider.count("special")) == (2, 1)


async def test_an_error_is_raised_anew_each_time() -> None:
    given = RateLimited("slow down", retry_after=3)
    provider = FakeProvider(given)
    raised = []
    for _ in range(2):
        with pytest.raises(RateLimited, match="slow down") as told:
            await provider.chat("m", ASK)
        raised.append(told.value)
    assert raised[0] is not raised[1]
    assert [error.retry_after for error in raised] == [3, 3]
    assert given.__traceback__ is None


async def test_a_class_of_errors_is_a_step() -> None:
    with pytest.raises(ProviderUnavailable):
        await FakeProvider(ProviderUnavailable).chat("m", ASK)


async def test_a_value_is_answered_as_json() -> None:
    assert await answers(FakeProvider({"name": "Ада"}, [1, 2]), 2) == ['{"name": "Ада"}', "[1, 2]"]


async def test_a_function_sees_model_and_request() -> None:
    async def later(model: str, request: ChatRequest) -> str:
        return f"{model}: {request.last_text}"

    provider = FakeProvider(lambda model, request: model.upper(), later)
    assert await answers(provider, 2) == ["M", "m: How are you?"]


async def test_a_response_is_given_as_it_is_with_its_model() -> None:
    call = ToolCall(id="c1", name="weather")
    response = await FakeProvider(ChatResponse(parts=(call,), finish_reason="tool_calls")).chat("m", ASK)
    assert (response.model, response.tool_calls) == ("m", (call,))


async def test_requests_are_kept() -> None:
    provider = FakeProvider("fine")
    await provider.chat("m", ASK)
    await events(provider)
    assert provider.requests == [ASK, ASK]
    assert [(asked.model, asked.stream) for asked in provider.asked] == [("m", False), ("m", True)]


async def test_words_are_counted_as_tokens() -> None:
    assert (await FakeProvider("one two").chat("m", ASK)).usage == Usage(input=3, output=2)


async def test_a_stream_comes_word_by_word() -> None:
    *deltas, done = await events(FakeProvider("one two three"))
    assert deltas == [TextDelta("one "), TextDelta("two "), TextDelta("three")]
    assert done.response.text == "one two three"


async def test_a_streamed_response_shows_all_its_parts() -> None:
    call = ToolCall(id="c1", name="weather")
    token = TokenLogprob(token="Hi", logprob=-0.1)
    parts = (Reasoning(text="hm"), call)
    seen = await events(FakeProvider(ChatResponse(text="Hi", parts=parts, logprobs=(token,))))
    assert {type(event) for event in seen} >= {ReasoningDelta, TextDelta, LogprobsDelta, ToolCallEvent, Done}


async def test_chunks_stand_where_they_are_put() -> None:
    assert [type(event) for event in await events(FakeProvider(Chunks("Hel", "lo", ReasoningDelta("hm"))))] == [
        TextDelta,
        TextDelta,
        ReasoningDelta,
        Done,
    ]
    assert await answers(FakeProvider(Chunks("Hel", "lo")), 1) == ["Hello"]


async def test_chunks_may_bring_their_own_end() -> None:
    end = Done(ChatResponse(text="other"))
    assert (await events(FakeProvider(Chunks("Hel", end))))[-1] is end


async def test_a_stream_may_break_in_the_middle() -> None:
    stream = FakeProvider(Chunks("Hel", ProviderUnavailable("cut"))).stream("m", ASK)
    assert await anext(stream) == TextDelta("Hel")
    with pytest.raises(ProviderUnavailable, match="cut"):
        await anext(stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_ends_with_its_cancellation(stream: bool) -> None:
    provider = FakeProvider(Chunks("Hel", Hang()))
    task = asyncio.ensure_future(events(provider) if stream else provider.chat("m", ASK))
    await provider.until_asked()
    assert provider.running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (provider.cancelled, provider.running, provider.peak) == (1, 0, 1)


async def test_a_stream_closed_early_counts_as_cancelled() -> None:
    provider = FakeProvider("one two")
    async with aclosing(provider.stream("m", ASK)) as stream:
        await anext(stream)
    assert (provider.cancelled, provider.running) == (1, 0)


async def test_until_asked_waits_for_the_call() -> None:
    provider = FakeProvider(Hang())
    waiting = asyncio.ensure_future(provider.until_asked(2))
    calls = [asyncio.ensure_future(provider.chat("m", ASK)) for _ in range(2)]
    await waiting
    assert provider.running == provider.peak == 2
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("step", [5, None, object(), int])
def test_what_is_no_step_is_refused(step: Any) -> None:
    with pytest.raises(TypeError, match="a step is a text"):
        FakeProvider(step)
