"""Streams: what comes before the first event is mended in silence, what comes after it is not."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from flowcraft.errors import ChainExhausted, ProviderTimeout, ProviderUnavailable, RateLimited
from flowcraft.plugin import ChatResponse, Done, TextDelta, collect

pytestmark = pytest.mark.unit


def now() -> float:
    return asyncio.get_running_loop().time()


async def pieces(stream: Any) -> list[str]:
    return [event.text async for event in stream if isinstance(event, TextDelta)]


async def test_a_stream_ends_with_the_response_that_chat_would_give(staged: Any) -> None:
    stage = staged({"a": ["hello you"]})
    async with stage.chain.stream("hi") as stream:
        events = [event async for event in stream]
    assert events == [TextDelta("hello"), TextDelta("you"), Done(stream.response)]
    plain = await staged({"a": ["hello you"]}).chain.chat("hi")
    assert stream.response.text == plain.text
    assert stream.response.usage == plain.usage
    assert stream.response.first_token == 0
    assert stage.outcomes(stream.response.attempts) == [("a", "ok")]


async def test_what_fails_before_the_first_event_is_tried_again_and_then_elsewhere(staged: Any) -> None:
    stage = staged({"a": [ProviderUnavailable("503")], "b": ["hello"]}, retries=1)
    async with stage.chain.stream("hi") as stream:
        assert await pieces(stream) == ["hello"]
    assert stage.outcomes(stream.response.attempts) == [("a", "ProviderUnavailable")] * 2 + [("b", "ok")]


async def test_what_fails_after_the_first_event_is_raised(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("hel", then=ProviderUnavailable("reset"))], "b": ["hello"]})
    stream = stage.chain.stream("hi")
    assert await anext(stream) == TextDelta("hel")
    with pytest.raises(ProviderUnavailable) as caught:
        await anext(stream)
    assert stream.response is None
    assert stage.outcomes(caught.value.attempts) == [("a", "ProviderUnavailable")]


async def test_a_stream_without_an_end_is_unavailable(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("hel")]})
    with pytest.raises(ProviderUnavailable, match="ended before the answer was complete"):
        await collect(stage.chain.stream("hi"))


async def test_an_empty_stream_is_asked_of_the_next_model(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut()], "b": ["hello"]}, retries=0)
    assert (await collect(stage.chain.stream("hi"))).text == "hello"


async def test_pieces_without_text_are_no_content(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("", then=ProviderUnavailable("503"))], "b": ["hello"]}, retries=0)
    async with stage.chain.stream("hi") as stream:
        assert await pieces(stream) == ["hello"]


async def test_an_empty_answer_goes_to_the_next_model(staged: Any) -> None:
    stage = staged({"a": [""], "b": ["hello"]})
    response = await collect(stage.chain.stream("hi"))
    assert stage.outcomes(response.attempts) == [("a", "InvalidOutput"), ("b", "ok")]


async def test_a_stream_that_is_closed_early_is_cancelled_and_closes_its_connection(staged: Any) -> None:
    stage = staged({"a": ["one two three"]})
    async with stage.chain.stream("hi") as stream:
        async for _ in stream:
            break
    assert stage.fake.closed == ["a"]
    assert stage.outcomes(record.attempt for record in stage.sink.records) == [("a", "cancelled")]


@pytest.mark.parametrize("strategy", ["single", "hedge"])
@pytest.mark.parametrize("continuation", ["fail", "restart", "continue"])
async def test_a_stream_that_is_dropped_closes_its_connection(staged: Any, strategy: str, continuation: str) -> None:
    stage = staged({"a": ["one two three"], "b": ["hello"]}, strategy=strategy, continuation=continuation)
    stream = stage.chain.stream("hi")
    assert await anext(stream) == TextDelta("one")
    del stream
    gc.collect()
    await asyncio.sleep(1)
    assert stage.fake.closed == ["a"]
    assert stage.outcomes(record.attempt for record in stage.sink.records) == [("a", "cancelled")]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_tasks_may_read_a_stream_in_turn_and_any_of_them_close_it(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("one", "two", then=acts.hang)]})
    stream = stage.chain.stream("hi")
    for piece in ("one", "two"):
        assert await asyncio.create_task(anext(stream)) == TextDelta(piece)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="already running"):
        await stream.aclose()
    assert stage.fake.closed == []
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.create_task(stream.aclose())
    assert stage.fake.closed == ["a"]
    assert stage.outcomes(record.attempt for record in stage.sink.records) == [("a", "cancelled")]


async def test_a_stream_whose_task_is_cancelled_closes_its_connection(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("hel", then=acts.hang)], "b": ["hello"]})

    async def read() -> None:
        async with stage.chain.stream("hi") as stream:
            async for _ in stream:
                pass

    task = asyncio.ensure_future(read())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.fake.closed == ["a"]
    assert stage.outcomes(record.attempt for record in stage.sink.records) == [("a", "cancelled")]


async def test_closing_early_says_nothing_of_health_and_gives_the_probes_place_back(staged: Any) -> None:
    stage = staged({"a": ["one two three"]})
    health = stage.shop.health.of("fake:a")
    health.leave(health.enter(now()), "fatal", now(), why="QuotaExhausted")
    await asyncio.sleep(31)
    async with stage.chain.stream("hi") as stream:
        await anext(stream)
        assert "probing" in health.blocked(now())
    assert health.blocked(now()) == ""
    await collect(stage.chain.stream("hi"))
    assert health.enter(now()) is False


async def test_the_first_token_has_a_time_of_its_own(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang], "b": ["hello"]}, timeout=200, deadline=400)
    response = await collect(stage.chain.stream("hi"))
    assert now() == 30
    assert "no first token within 30 s" in response.attempts[0].message


async def test_a_stream_that_stalls_is_cut(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("hel", then=acts.hang)]})
    with pytest.raises(ProviderTimeout, match="no further token within 60 s"):
        await collect(stage.chain.stream("hi"))
    assert now() == 60


async def test_a_stream_ends_at_the_deadline_of_the_answer(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("hel", then=acts.hang)], "b": ["hello"]}, timeout=10, deadline=40)
    with pytest.raises(ProviderTimeout, match="not complete at the deadline"):
        await collect(stage.chain.stream("hi"))
    assert now() == 40


async def test_a_slow_reader_is_not_cut_off(staged: Any) -> None:
    stage = staged({"a": ["one two three"]}, timeout=10, deadline=20)
    async with stage.chain.stream("hi") as stream:
        async for _ in stream:
            await asyncio.sleep(100)
    assert stream.response.text == "one two three"
    assert stream.response.seconds == 0


async def test_a_stream_made_of_a_whole_answer_has_the_time_of_a_whole_answer(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(100, "all at once")]}, kind=acts.whole)
    assert (await collect(stage.chain.stream("hi"))).text == "all at once"
    assert now() == 100


async def test_text_that_the_last_event_left_out_is_put_together(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("hel", "lo", then=ChatResponse(text=""))]})
    assert (await collect(stage.chain.stream("hi"))).text == "hello"


async def test_an_exhausted_chain_raises_at_the_first_event(staged: Any) -> None:
    stage = staged({"a": [RateLimited("no", retry_after=1000)]})
    with pytest.raises(ChainExhausted) as caught:
        await anext(stage.chain.stream("hi"))
    assert stage.outcomes(caught.value.attempts) == [("a", "RateLimited")]


async def test_a_waiting_stream_can_be_sent_to_and_thrown_into(staged: Any) -> None:
    stage = staged({"a": ["one two"]})
    stream = stage.chain.stream("hi")
    assert await stream.asend(None) == TextDelta("one")
    with pytest.raises(KeyError):
        await stream.athrow(KeyError("mine"))
    assert stage.fake.closed == ["a"]
