"""CrewAI's shapes as ours and back, without the library."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from flowcraft.attempts import Attempt, Usage
from flowcraft.crewai.translate import billed, calls_for_crewai, messages_of, tools_of, usage_for_crewai
from flowcraft.plugin import ChatResponse, Image, Message, Text, ToolCall, ToolResult

pytestmark = pytest.mark.unit


def call(name: str, number: int = 1) -> ToolCall:
    return ToolCall(id=f"c{number}", name=name, arguments='{"a": 1}')


def test_a_conversation_with_tools() -> None:
    asked = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    given = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": [{"type": "text", "text": "add"}]},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "2"},
    ]
    assert messages_of(given) == (
        Message.system("be short"),
        Message.user("add"),
        Message(role="assistant", parts=(call("add"),)),
        Message(role="tool", parts=(ToolResult(id="c1", name="add", content="2"),)),
    )


def test_a_text_is_the_users() -> None:
    assert messages_of("hi") == (Message.user("hi"),)


def test_images_by_address_and_by_their_bytes() -> None:
    data = f"data:image/png;base64,{base64.b64encode(b'png').decode()}"
    parts: list[Any] = [
        "see",
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_image", "image_url": data},
    ]
    (message,) = messages_of([{"role": "user", "content": parts}])
    assert message.parts == (
        Text(text="see"),
        Image(url="https://example.org/a.png"),
        Image(data=b"png", media_type="image/png"),
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"role": "robot", "content": "hi"}, "a message's role is"),
        ({"role": "user", "content": 3}, "a message's content is text or a list"),
        ({"role": "user", "content": [{"type": "film"}]}, "of type 'text' or 'image_url', not 'film'"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]}, "no base64"),
    ],
)
def test_what_is_no_message_is_said(message: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        messages_of([message])


def test_tools_keep_name_description_and_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    function = {"name": "add", "description": "Add", "parameters": schema}
    (spec,) = tools_of([{"type": "function", "function": function}])
    assert (spec.name, spec.description, spec.parameters) == ("add", "Add", schema)
    assert tools_of(None) == ()


@pytest.mark.parametrize(
    ("names", "handed"),
    [
        (["add", "add"], 2),
        (["delegate_work_to_coworker", "add"], 1),
        (["add", "ask_question_to_coworker"], 1),
    ],
)
def test_of_calls_with_a_delegation_the_first_is_handed_over(names: list[str], handed: int) -> None:
    calls = tuple(call(name, number) for number, name in enumerate(names))
    found = calls_for_crewai(ChatResponse(parts=calls))
    assert [item["id"] for item in found] == [f"c{number}" for number in range(handed)]
    assert found[0] == {"id": "c0", "type": "function", "function": {"name": names[0], "arguments": '{"a": 1}'}}


def test_usage_has_crewais_names_and_skips_used_none() -> None:
    usage = Usage(input=10, cached=4, output=5, reasoning=2)
    told = usage_for_crewai(usage)
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (10, 5, 15)
    assert (told["cached_prompt_tokens"], told["reasoning_tokens"]) == (4, 2)
    spent = Attempt(model="a", usage=usage)
    assert billed([spent, Attempt(model="b", outcome="skipped")]) == [spent]
