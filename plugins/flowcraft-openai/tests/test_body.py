"""What is sent: seen by a server, not by mocks."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from flowcraft.plugin import (
    Audio,
    ChatRequest,
    File,
    Image,
    InvalidRequest,
    Message,
    OutputSpec,
    Reasoning,
    ReasoningSpec,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Video,
)
from flowcraft.testing import FaultServer, Reply

pytestmark = pytest.mark.integration

PNG = b"\x89PNG\r\n"
PNG_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def of(*parts: Any, role: Any = "user", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role=role, parts=parts),), **fields)


@pytest.fixture
def sent(server: FaultServer, provider: Any) -> Any:
    """Sends a request and returns the body that arrived."""

    async def send(request: ChatRequest) -> dict[str, Any]:
        await provider.chat("model-a", request)
        body: dict[str, Any] = server.requests[-1].body
        return body

    return send


async def test_a_bare_request_sends_nothing_but_model_and_messages(sent: Any) -> None:
    assert await sent(of(Text(text="hi"))) == {"model": "model-a", "messages": [{"role": "user", "content": "hi"}]}


async def test_every_parameter_has_its_field(sent: Any) -> None:
    request = of(
        Text(text="hi"),
        temperature=0.0,
        top_p=0.5,
        max_tokens=7,
        stop=("END",),
        seed=1,
        n=1,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        top_logprobs=3,
        user="ada",
        modalities=("text",),
        extra={"min_p": 0.05},
    )
    body = await sent(request)
    del body["model"], body["messages"]
    assert body == {
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 7,
        "stop": ["END"],
        "seed": 1,
        "n": 1,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logprobs": True,
        "top_logprobs": 3,
        "user": "ada",
        "modalities": ["text"],
        "min_p": 0.05,
    }


async def test_scope_and_metadata_stay_here(sent: Any) -> None:
    request = of(Text(text="hi"), metadata={"secret": "x"}).within(run="run-1", key="k")
    assert set(await sent(request)) == {"model", "messages"}


async def test_media_are_sent_as_data_or_by_address(sent: Any) -> None:
    request = of(
        Text(text="look"),
        Image(data=PNG),
        Image(url="https://example.org/a.jpg"),
        Audio(data=b"RIFF", media_type="audio/mpeg"),
        File(data=b"%PDF", name="report.pdf"),
        Video(url="https://example.org/a.mp4"),
    )
    assert (await sent(request))["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": PNG_URL}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "mp3"}},
        {"type": "file", "file": {"filename": "report.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
        {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
    ]


async def test_a_path_is_read_and_its_type_taken_from_its_name(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "画.gif").write_bytes(b"GIF89a")
    body = await sent(of(Image(path=str(tmp_path / "画.gif"))))
    assert body["messages"][0]["content"][0]["image_url"]["url"] == "data:image/gif;base64,R0lGODlh"


async def test_a_file_that_is_not_there_is_named(sent: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.png: No such file"):
        await sent(of(Image(path=str(tmp_path / "nowhere.png"))))


async def test_a_conversation_with_tools_keeps_calls_and_results_apart(sent: Any) -> None:
    call = ToolCall(id="c1", name="weather", arguments='{"city": "Oslo"}')
    request = ChatRequest(
        messages=(
            Message.user("weather?"),
            Message(role="assistant", parts=(call, ToolCall(id="c2", name="weather"))),
            Message(role="tool", parts=(ToolResult(id="c1", content="rain"), ToolResult(id="c2", content="sun"))),
        ),
        tools=(ToolSpec(name="weather", description="Tell."),),
        tool_choice="weather",
        parallel_tools=False,
    )
    body = await sent(request)
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert body["messages"][1]["content"] is None
    assert body["messages"][1]["tool_calls"][0] == {"id": "c1", "type": "function", "function": function}
    assert body["messages"][2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "content": "sun"},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["parallel_tool_calls"] is False
    assert body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}


async def test_a_refusal_and_a_name_go_back_as_they_came(sent: Any) -> None:
    request = ChatRequest(messages=(Message(role="assistant", parts=(Refusal(text="No."),), name="bot"), Message.user("Why?")))
    assert (await sent(request))["messages"][0] == {"role": "assistant", "name": "bot", "content": None, "refusal": "No."}


async def test_a_prefix_is_the_beginning_of_the_answer(sent: Any) -> None:
    body = await sent(of(Text(text="hi"), prefix="Dear "))
    assert body["messages"][-1] == {"role": "assistant", "content": "Dear "}


async def test_a_server_is_told_as_it_needs_it_that_the_answer_is_begun(server: FaultServer, make: Any) -> None:
    exact = {"continue_final_message": True, "add_generation_prompt": False}
    provider = make(prefix_body=exact, prefix_message={"prefix": True})
    server.script("model-a", Reply("Dear reader", prefill=True))
    assert (await provider.chat("model-a", of(Text(text="hi"), prefix="Dear "))).text == "reader"
    body = server.requests[-1].body
    assert body["messages"][-1] == {"role": "assistant", "content": "Dear ", "prefix": True}
    assert exact.items() <= body.items()
    await provider.chat("model-a", of(Text(text="hi")))
    assert server.requests[-1].body.keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("key", "origin", "back"),
    [
        (None, ("here", "model-a"), None),
        ("reasoning", ("here", "model-a"), "hm"),
        ("reasoning", ("here", "model-b"), None),
        ("reasoning", ("there", "model-a"), None),
    ],
)
async def test_reasoning_goes_back_only_to_the_model_it_came_from(
    server: FaultServer, make: Any, key: str | None, origin: tuple[str, str], back: str | None
) -> None:
    thought = Reasoning(text="hm", provider=origin[0], model=origin[1])
    request = ChatRequest(messages=(Message(role="assistant", parts=(thought, Text(text="yes"))), Message.user("sure?")))
    await make(reasoning_key=key).chat("model-a", request)
    message = server.requests[-1].body["messages"][0]
    assert message.get("reasoning") == back
    assert message["content"] == "yes"


@pytest.mark.parametrize(
    ("style", "spec", "fields"),
    [
        ("effort", ReasoningSpec(effort="low"), {"reasoning_effort": "low"}),
        ("effort", ReasoningSpec(budget=99), {}),
        ("openrouter", ReasoningSpec(effort="high"), {"reasoning": {"effort": "high"}}),
        ("openrouter", ReasoningSpec(budget=99), {"reasoning": {"max_tokens": 99}}),
        ("qwen", ReasoningSpec(budget=99), {"enable_thinking": True, "thinking_budget": 99}),
        ("qwen", ReasoningSpec(effort="none"), {"enable_thinking": False}),
    ],
)
async def test_reasoning_is_asked_for_as_the_vendor_wants(
    server: FaultServer, make: Any, style: str, spec: ReasoningSpec, fields: dict[str, Any]
) -> None:
    await make(reasoning_style=style).chat("model-a", of(Text(text="hi"), reasoning=spec))
    body = server.requests[-1].body
    assert {key: body[key] for key in body if key not in ("model", "messages")} == fields


async def test_settings_name_the_limit_and_add_to_the_body(server: FaultServer, make: Any) -> None:
    provider = make(max_tokens_key="max_completion_tokens", extra_body={"keep_alive": "1h", "seed": 1})
    await provider.chat("model-a", of(Text(text="hi"), max_tokens=5, extra={"seed": 2}))
    body = server.requests[-1].body
    assert (body["max_completion_tokens"], body["keep_alive"], body["seed"]) == (5, "1h", 2)


@pytest.mark.parametrize("usage", [True, False])
async def test_a_stream_asks_for_its_usage_unless_told_not_to(server: FaultServer, make: Any, usage: bool) -> None:
    [_ async for _ in make(stream_usage=usage).stream("model-a", of(Text(text="hi")))]
    assert server.requests[-1].body["stream"] is True
    assert ("stream_options" in server.requests[-1].body) is usage


NAME = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"name": NAME}, "required": ["name"]}, True),
        ({"type": "object", "properties": {"name": NAME}}, False),
        ({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}, False),
        ({"type": "array", "items": NAME}, False),
        ({"type": "object", "properties": {"any": {"type": "object"}}, "required": ["any"]}, False),
        ({"type": "object", "additionalProperties": False}, True),
        (
            {
                "type": "object",
                "properties": {"people": {"type": "array", "items": {"$ref": "#/$defs/P"}}},
                "required": ["people"],
                "$defs": {"P": {"type": "object", "properties": {"name": NAME}, "required": ["name"]}},
            },
            True,
        ),
        (
            {
                "type": "object",
                "properties": {"one": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"a": NAME}}]}},
                "required": ["one"],
            },
            False,
        ),
        (
            {
                "type": "object",
                "properties": {"all": {"type": "array", "items": {"type": "object", "properties": {"a": NAME}}}},
                "required": ["all"],
            },
            False,
        ),
    ],
)
async def test_a_schema_is_strict_where_strict_mode_can_say_it(sent: Any, schema: dict[str, Any], strict: bool) -> None:
    body = await sent(of(Text(text="hi"), output=OutputSpec(schema=schema, name="an odd/name")))
    shape = body["response_format"]["json_schema"]
    assert body["response_format"]["type"] == "json_schema"
    assert shape["name"] == "an_odd_name"
    assert shape["strict"] is strict
    if strict:
        assert shape["schema"]["additionalProperties"] is False
        assert all(part["additionalProperties"] is False for part in shape["schema"].get("$defs", {}).values())
    else:
        assert shape["schema"] == schema


@pytest.mark.parametrize("strict", [True, False])
async def test_an_object_of_any_shape_is_asked_for_as_json(sent: Any, strict: bool) -> None:
    body = await sent(of(Text(text="some JSON"), output=OutputSpec(schema={"type": "object"}, strict=strict)))
    assert body["response_format"] == {"type": "json_object"}


async def test_a_lone_surrogate_is_an_invalid_request(sent: Any) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        await sent(of(Text(text="\ud800")))
