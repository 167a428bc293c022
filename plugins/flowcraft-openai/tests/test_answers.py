"""What comes back: whole answers and streams say the same."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from flowcraft.plugin import (
    Audio,
    AudioDelta,
    ChatRequest,
    ChatResponse,
    ContentFiltered,
    Done,
    Message,
    ProviderUnavailable,
    Reasoning,
    ReasoningDelta,
    Refusal,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = pytest.mark.integration

ASK = ChatRequest(messages=(Message.user("How are you?"),))


@pytest.fixture
def both(server: FaultServer, provider: Any) -> Any:
    """Asks plainly and as a stream, and returns both responses and the events."""

    async def ask(reply: Any) -> tuple[ChatResponse, ChatResponse, list[Any]]:
        server.script("model-a", reply)
        plain = await provider.chat("model-a", ASK)
        events = [event async for event in provider.stream("model-a", ASK)]
        return plain, events[-1].response, events

    return ask


async def test_reasoning_is_a_part_with_its_origin(both: Any) -> None:
    plain, streamed, events = await both(Reply("Fine.", reasoning="Let me see."))
    thought = Reasoning(text="Let me see.", provider="here", model="model-a")
    assert plain.parts == streamed.parts == (thought, Text(text="Fine."))
    assert [event for event in events if isinstance(event, ReasoningDelta)] == [ReasoningDelta("Let me see.")]


async def test_reasoning_under_its_other_name_is_found(both: Any) -> None:
    plain, streamed, _ = await both(Reply("Fine.", message={"reasoning": "Hm."}))
    assert {type(part) for part in plain.parts} == {type(part) for part in streamed.parts} == {Reasoning, Text}


async def test_a_refusal_is_no_text(both: Any) -> None:
    plain, streamed, _ = await both(Reply("", refusal="I will not."))
    for response in (plain, streamed):
        assert (response.text, response.finish_reason) == ("", "refusal")
        assert response.parts == (Refusal(text="I will not."),)


async def test_text_that_the_filter_cut_is_kept(both: Any) -> None:
    plain, streamed, _ = await both(Reply("Once", finish_reason="content_filter"))
    assert [(r.text, r.finish_reason) for r in (plain, streamed)] == [("Once", "content_filter")] * 2


async def test_a_stream_filtered_whole_raises(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Reply("", finish_reason="content_filter"))
    with pytest.raises(ContentFiltered):
        [_ async for _ in provider.stream("model-a", ASK)]


@pytest.mark.parametrize(
    ("told", "reason"),
    [("stop", "stop"), ("max_tokens", "length"), ("function_call", "tool_calls"), ("abort", "cut"), ("eos", "stop")],
)
async def test_finish_reasons_are_mapped(both: Any, told: str, reason: str) -> None:
    plain, streamed, _ = await both(Reply("Fine.", finish_reason=told))
    assert (plain.finish_reason, streamed.finish_reason) == (reason, reason)


async def test_cost_id_and_notes_are_kept(both: Any) -> None:
    fields = {"id": "gen-7", "usage": {"prompt_tokens": 5, "completion_tokens": 2, "cost": 0.25}, "provider": "Somebody"}
    plain, streamed, _ = await both(Reply("Fine.", fields=fields))
    for response in (plain, streamed):
        assert (response.usd, response.response_id, response.provider) == (0.25, "gen-7", "here")
        assert response.extra["provider"] == "Somebody"


async def test_usage_without_details_or_none_at_all_is_counted_as_told(both: Any) -> None:
    plain, _, _ = await both(Reply("Fine.", fields={"usage": {"prompt_tokens": 5, "prompt_cache_hit_tokens": 3}}))
    assert plain.usage == Usage(input=5, cached=3)
    plain, _, _ = await both(Reply("Fine.", fields={"usage": None}))
    assert plain.usage == Usage()


async def test_several_choices_are_all_kept(both: Any) -> None:
    plain, streamed, events = await both(Reply("one", choices=("two", "three")))
    for response in (plain, streamed):
        assert response.text == "one"
        assert [choice.text for choice in response.choices] == ["one", "two", "three"]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "one"


async def test_sound_comes_with_its_transcript(both: Any) -> None:
    audio = {"id": "a", "data": base64.b64encode(b"RIFFsound").decode(), "transcript": "Hello"}
    plain, streamed, events = await both(Reply("", message={"content": None, "audio": audio}))
    assert plain.parts == streamed.parts == (Text(text="Hello"), Audio(data=b"RIFFsound"))
    assert [event for event in events if isinstance(event, AudioDelta)] == [AudioDelta(b"RIFFsound")]


async def test_content_in_parts_is_text(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Reply("", message={"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}))
    assert (await provider.chat("model-a", ASK)).text == "Hello"


@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, '{"city": "Oslo"}'])
async def test_calls_of_sloppy_servers_are_mended(both: Any, arguments: Any) -> None:
    calls = [{"function": {"name": "weather", "arguments": arguments}}, {"function": {"name": "time"}}]
    plain, streamed, _ = await both(Reply("", finish_reason="stop", message={"tool_calls": calls[:1]}))
    whole, _, _ = await both(Reply("", finish_reason="stop", message={"tool_calls": calls}))
    call = ToolCall(id="call_0", name="weather", arguments='{"city": "Oslo"}')
    assert plain.tool_calls == streamed.tool_calls == (call,)
    assert plain.finish_reason == streamed.finish_reason == "tool_calls"
    assert whole.tool_calls == (call, ToolCall(id="call_1", name="time", arguments="{}"))


async def test_streamed_calls_without_an_index_are_told_apart_by_their_ids(server: FaultServer, provider: Any) -> None:
    first = {"id": "a", "function": {"name": "one", "arguments": "{}"}}
    second = {"id": "b", "function": {"name": "two", "arguments": "{}"}}
    server.script("model-a", Reply("", finish_reason="tool_calls", message={"tool_calls": [first, second]}))
    events = [event async for event in provider.stream("model-a", ASK)]
    assert [event.index for event in events if isinstance(event, ToolCallDelta)] == [0, 1]
    assert [call.id for call in events[-1].response.tool_calls] == ["a", "b"]


async def test_a_message_that_is_answered_can_be_sent_back(both: Any, server: FaultServer, provider: Any) -> None:
    plain, _, _ = await both(Reply("", tool_calls=(ToolCall(id="c1", name="weather", arguments="{}"),)))
    await provider.chat("model-a", ChatRequest(messages=(*ASK.messages, plain.message)))
    assert server.requests[-1].body["messages"][-1]["tool_calls"][0]["id"] == "c1"


async def test_a_stream_that_just_stops_is_no_answer(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault(raw=b'data: {"choices": [{"index": 0, "delta": {"content": "Hel"}}]}\n\ndata: [DONE]\n\n'))
    stream = provider.stream("model-a", ASK)
    assert await anext(stream) == TextDelta("Hel")
    with pytest.raises(ProviderUnavailable, match="ended before the answer did"):
        await anext(stream)


async def test_a_body_that_is_no_object_is_no_answer(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault(raw=b"[1, 2]"))
    with pytest.raises(ProviderUnavailable, match="JSON list"):
        await provider.chat("model-a", ASK)


async def test_an_error_inside_a_choice_is_raised(both: Any, server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault(raw=b'{"choices": [{"error": {"code": 502, "message": "upstream"}}]}'))
    with pytest.raises(ProviderUnavailable, match="upstream"):
        await provider.chat("model-a", ASK)
    server.script("model-a", Fault(raw=b'data: {"choices": [{"error": {"code": 502, "message": "upstream"}}]}\n\n'))
    with pytest.raises(ProviderUnavailable, match="upstream"):
        [_ async for _ in provider.stream("model-a", ASK)]


async def test_done_is_the_only_event_of_an_empty_stream(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Reply(""))
    events = [event async for event in provider.stream("model-a", ASK)]
    assert [type(event) for event in events] == [Done]
