"""What comes back: whole answers and streams say the same."""

from __future__ import annotations

from typing import Any

import pytest

from flowcraft.plugin import (
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
    ToolCallEvent,
    Usage,
)
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft.testing.dialect import dump
from flowcraft.testing.messages import SIGNATURE

pytestmark = pytest.mark.integration

ASK = ChatRequest(messages=(Message.user("How are you?"),))
CALL = ToolCall(id="toolu_1", name="weather", arguments='{"city": "Oslo"}')


@pytest.fixture
def both(server: FaultServer, provider: Any) -> Any:
    """Asks plainly and as a stream, and returns both responses and the events."""

    async def ask(reply: Any) -> tuple[ChatResponse, ChatResponse, list[Any]]:
        server.script("model-a", reply)
        plain = await provider.chat("model-a", ASK)
        events = [event async for event in provider.stream("model-a", ASK)]
        return plain, events[-1].response, events

    return ask


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\n".encode() + b"data: " + dump(event) + b"\n\n" for event in events)


async def test_thinking_is_a_part_with_signature_and_origin(both: Any) -> None:
    plain, streamed, events = await both(Reply("Fine.", reasoning="Let me see."))
    thought = Reasoning(text="Let me see.", signature=SIGNATURE, provider="here", model="model-a")
    assert plain.parts == streamed.parts == (thought, Text(text="Fine."))
    assert [event for event in events if isinstance(event, ReasoningDelta)] == [ReasoningDelta("Let me see.")]


async def test_thinking_without_words_and_redacted_thinking_are_kept_for_the_next_turn(
    both: Any, server: FaultServer, provider: Any
) -> None:
    blocks = [
        {"type": "thinking", "thinking": "", "signature": "s1"},
        {"type": "redacted_thinking", "data": "d2"},
        {"type": "text", "text": "Fine."},
    ]
    plain, streamed, events = await both(Reply(message={"content": blocks}))
    assert plain.parts == streamed.parts
    assert [(part.signature, part.redacted) for part in plain.parts[:2]] == [("s1", False), ("d2", True)]
    assert not [event for event in events if isinstance(event, ReasoningDelta)]
    await provider.chat("model-a", ChatRequest(messages=(*ASK.messages, plain.message, Message.user("Sure?"))))
    assert server.requests[-1].body["messages"][1]["content"] == blocks


async def test_a_call_behind_thinking_is_sent_back_as_it_came(both: Any, server: FaultServer, provider: Any) -> None:
    plain, streamed, events = await both(Reply("Let me see.", reasoning="Hm.", tool_calls=(CALL,)))
    assert plain.parts == streamed.parts
    assert [type(part) for part in plain.parts] == [Reasoning, Text, ToolCall]
    assert next(event.index for event in events if isinstance(event, ToolCallDelta)) == 0
    await provider.chat("model-a", ChatRequest(messages=(*ASK.messages, plain.message)))
    thought, said, called = server.requests[-1].body["messages"][1]["content"]
    assert (thought["signature"], said["text"], called["input"]) == (SIGNATURE, "Let me see.", {"city": "Oslo"})


async def test_a_call_is_told_as_soon_as_it_is_complete(both: Any) -> None:
    second = ToolCall(id="toolu_2", name="time", arguments="{}")
    plain, streamed, events = await both(Reply(tool_calls=(CALL, second)))
    assert plain.tool_calls == streamed.tool_calls == (CALL, second)
    told = [(type(event), event.index) for event in events if isinstance(event, ToolCallDelta | ToolCallEvent)]
    assert told.index((ToolCallEvent, 0)) < told.index((ToolCallDelta, 1))
    deltas = [event for event in events if isinstance(event, ToolCallDelta) and event.index == 0]
    assert "".join(delta.arguments for delta in deltas) == CALL.arguments
    assert (deltas[0].id, deltas[0].name) == ("toolu_1", "weather")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("brand_new", "stop"),
    ],
)
async def test_stop_reasons_are_mapped(both: Any, told: str, reason: str) -> None:
    plain, streamed, _ = await both(Reply("Fine.", finish_reason=told))
    assert (plain.finish_reason, streamed.finish_reason) == (reason, reason)


async def test_an_answer_that_is_refused_half_way_keeps_its_text_and_the_reason(both: Any) -> None:
    plain, streamed, _ = await both(Reply("Once", refusal="This could do harm."))
    for response in (plain, streamed):
        assert (response.text, response.finish_reason) == ("Once", "refusal")
        assert response.parts == (Text(text="Once"), Refusal(text="This could do harm."))


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_is_refused_whole_is_filtered(server: FaultServer, provider: Any, streamed: bool) -> None:
    server.script("model-a", Reply("", refusal="This could do harm."))
    answer = anext(provider.stream("model-a", ASK)) if streamed else provider.chat("model-a", ASK)
    with pytest.raises(ContentFiltered, match="could do harm") as told:
        await answer
    assert told.value.details[0]["category"] == "general_harms"


async def test_tokens_include_those_read_from_the_cache_and_written_to_it(both: Any, server: FaultServer) -> None:
    usage = Usage(input=100, cached=60, cache_write=30, output=9, reasoning=4)
    plain, streamed, _ = await both(Reply("Fine.", usage=usage))
    assert plain.usage == streamed.usage == usage


async def test_usage_that_is_told_at_the_end_alone_counts(server: FaultServer, provider: Any) -> None:
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": None}
    raw = sse(
        {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 0, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
    )
    server.script("model-a", Fault(raw=raw))
    events = [event async for event in provider.stream("model-a", ASK)]
    assert events[0] == TextDelta("Hi")
    assert (events[-1].response.text, events[-1].response.usage) == ("Hi", Usage(input=5, output=7))


async def test_a_call_without_its_end_is_told_at_the_end(server: FaultServer, provider: Any) -> None:
    block = {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Zürich"}}
    raw = sse(
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    )
    server.script("model-a", Fault(raw=raw))
    events = [event async for event in provider.stream("model-a", ASK)]
    call = ToolCall(id="t", name="weather", arguments='{"city": "Zürich"}')
    assert events[1:] == [ToolCallEvent(0, call), Done(events[-1].response)]


async def test_id_model_and_notes_are_kept(both: Any) -> None:
    plain, streamed, _ = await both(Reply("Fine.", fields={"id": "msg_7", "model": "model-a-20260101", "stop_sequence": "END"}))
    for response in (plain, streamed):
        assert (response.response_id, response.provider, response.model) == ("msg_7", "here", "model-a")
        assert response.extra == {"model": "model-a-20260101", "stop_sequence": "END"}


async def test_blocks_of_other_kinds_are_kept_as_they_are(both: Any) -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    blocks = [search, {"type": "text", "text": "Fine."}]
    plain, streamed, _ = await both(Reply(message={"content": blocks}))
    for response in (plain, streamed):
        assert response.text == "Fine."
        assert response.extra["content"] == blocks


async def test_the_input_of_a_tool_of_the_vendors_is_kept_whole(server: FaultServer, provider: Any) -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    raw = sse(
        {"type": "content_block_start", "index": 0, "content_block": search},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"query": '}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '"Oslo"}'}},
        {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}},
    )
    server.script("model-a", Fault(raw=raw))
    (done,) = [event async for event in provider.stream("model-a", ASK)]
    assert done.response.finish_reason == "pause"
    assert done.response.extra["content"] == [{**search, "input": {"query": "Oslo"}}]


async def test_what_a_newer_api_adds_to_a_stream_is_passed_over(server: FaultServer, provider: Any) -> None:
    raw = sse(
        {"type": "brand_new"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    )
    server.script("model-a", Fault(raw=raw))
    assert [type(event) async for event in provider.stream("model-a", ASK)] == [TextDelta, Done]


async def test_a_stream_that_just_stops_is_no_answer(server: FaultServer, provider: Any) -> None:
    raw = sse(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}, {"type": "message_stop"}
    )
    server.script("model-a", Fault(raw=raw))
    stream = provider.stream("model-a", ASK)
    assert await anext(stream) == TextDelta("Hel")
    with pytest.raises(ProviderUnavailable, match="ended before the answer did"):
        await anext(stream)


@pytest.mark.parametrize(
    "raw",
    [
        b"[1, 2]",
        b'{"content": []}',
        b'{"content": ["Hi"], "stop_reason": "end_turn"}',
        b'{"content": "Hi", "stop_reason": "end_turn"}',
        b"null",
    ],
)
async def test_a_body_that_is_no_answer_is_none(server: FaultServer, provider: Any, raw: bytes) -> None:
    server.script("model-a", Fault(raw=raw))
    with pytest.raises(ProviderUnavailable, match="the server answered with"):
        await provider.chat("model-a", ASK)


async def test_an_event_that_is_no_object_is_no_answer(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Fault(raw=b"event: content_block_delta\ndata: [1]\n\n"))
    with pytest.raises(ProviderUnavailable, match="JSON list"):
        [_ async for _ in provider.stream("model-a", ASK)]


async def test_done_is_the_only_event_of_an_empty_stream(server: FaultServer, provider: Any) -> None:
    server.script("model-a", Reply(""))
    assert [type(event) async for event in provider.stream("model-a", ASK)] == [Done]
