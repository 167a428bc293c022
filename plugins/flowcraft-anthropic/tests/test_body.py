"""What is sent: seen by a server, not by mocks."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from flowcraft.plugin import (
    Audio,
    ChatRequest,
    ChatResponse,
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
PNG_BASE64 = base64.b64encode(PNG).decode()
MARK = {"type": "ephemeral"}
HI = Text(text="hi")


def of(*parts: Any, role: Any = "user", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role=role, parts=parts),), **fields)


@pytest.fixture
def sent(server: FaultServer, make: Any) -> Any:
    """Sends a request and returns the body that arrived; ``response`` is what came back."""

    async def send(request: ChatRequest, model: str = "model-a", **config: Any) -> dict[str, Any]:
        send.response = await make(**config).chat(model, request)  # type: ignore[attr-defined]
        body: dict[str, Any] = server.requests[-1].body
        return body

    return send


def left_out(response: ChatResponse) -> tuple[str, ...]:
    return tuple(response.extra.get("left_out", ()))


async def test_a_bare_request_sends_nothing_but_model_messages_and_the_limit_that_the_api_wants(sent: Any) -> None:
    assert await sent(of(HI)) == {"model": "model-a", "max_tokens": 8192, "messages": [{"role": "user", "content": "hi"}]}
    assert left_out(sent.response) == ()


async def test_every_parameter_has_its_field(sent: Any) -> None:
    body = await sent(of(HI, temperature=0.0, max_tokens=7, stop=("END",), user="ada", extra={"top_k": 5}))
    del body["model"], body["messages"]
    assert body == {
        "temperature": 0.0,
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "ada"},
        "top_k": 5,
    }


async def test_what_the_api_has_no_field_for_is_left_out_and_told(sent: Any) -> None:
    body = await sent(of(HI, seed=0, n=3, presence_penalty=0.5, frequency_penalty=0.0, top_logprobs=2))
    assert set(body) == {"model", "messages", "max_tokens"}
    assert left_out(sent.response) == ("seed", "n", "presence_penalty", "top_logprobs")


@pytest.mark.parametrize(
    ("model", "version", "given", "kept"),
    [
        ("claude-sonnet-5-5", "2026-10-21", {"temperature": 0.5}, set()),
        ("claude-haiku-4-5", "2026-10-21", {"temperature": 0.5, "top_p": 0.5}, set()),
        ("claude-haiku-4-5-20251001", "2023-06-01", {"temperature": 0.5}, {"temperature"}),
        ("claude-sonnet-4-6", "2023-06-01", {"top_p": 0.5}, {"top_p"}),
        ("claude-sonnet-4-6", "2023-06-01", {"temperature": 0.5, "top_p": 0.5}, {"temperature"}),
        ("claude-opus-4-7", "2023-06-01", {"temperature": 0.5}, set()),
        ("claude-next", "2026-10-21", {"temperature": 0.5}, set()),
        ("glm-5", "2026-10-21", {"temperature": 0.5}, {"temperature"}),
    ],
)
async def test_sampling_is_left_out_where_the_api_refuses_it(
    sent: Any, model: str, version: str, given: dict[str, float], kept: set[str]
) -> None:
    body = await sent(of(HI, **given), model=model, api_version=version)
    assert {key for key in ("temperature", "top_p") if key in body} == kept
    assert set(left_out(sent.response)) == set(given) - kept


@pytest.mark.parametrize(
    ("model", "asked", "config", "limit"),
    [
        ("claude-sonnet-5-5", None, {}, 16_384),
        ("claude-sonnet-5-5", None, {"max_tokens": 128_000}, 128_000),
        ("claude-haiku-4-5-20251001", None, {}, 16_384),
        ("claude-haiku-4-5", None, {"max_tokens": 500}, 500),
        ("claude-haiku-4-5", 9, {"max_tokens": 500}, 9),
        ("model-a", None, {}, 8192),
    ],
)
async def test_a_limit_is_always_sent(sent: Any, model: str, asked: Any, config: dict[str, Any], limit: int) -> None:
    assert (await sent(of(HI, max_tokens=asked), model=model, **config))["max_tokens"] == limit


@pytest.mark.parametrize(
    ("model", "spec", "config", "limit"),
    [
        ("claude-sonnet-5-5", ReasoningSpec(effort="high"), {}, 40_960),
        ("claude-sonnet-5-5", ReasoningSpec(effort="none"), {}, 16_384),
        ("claude-sonnet-5-5", ReasoningSpec(effort="high"), {"max_tokens": 500}, 500),
        ("claude-haiku-4-5", ReasoningSpec(effort="high"), {}, 40_960),
        ("claude-haiku-4-5", ReasoningSpec(budget=60_000), {}, 64_000),
        ("model-a", ReasoningSpec(effort="high"), {}, 8192),
    ],
)
async def test_thoughts_have_room_besides_the_answer(
    sent: Any, model: str, spec: ReasoningSpec, config: dict[str, Any], limit: int
) -> None:
    assert (await sent(of(HI, reasoning=spec), model=model, **config))["max_tokens"] == limit


async def test_scope_and_metadata_stay_here(sent: Any) -> None:
    request = of(HI, metadata={"secret": "x"}).within(run="run-1", key="k")
    assert set(await sent(request)) == {"model", "messages", "max_tokens"}


async def test_system_messages_are_the_system_prompt_wherever_they_stand(sent: Any) -> None:
    turns = (Message.system("Be short."), Message.user("One?"), Message.system("Be kind."))
    body = await sent(ChatRequest(messages=turns))
    assert body["system"] == [{"type": "text", "text": "Be short."}, {"type": "text", "text": "Be kind."}]
    assert body["messages"] == [{"role": "user", "content": "One?"}]
    assert (await sent(ChatRequest(messages=turns[:2])))["system"] == "Be short."


async def test_a_system_message_alone_is_said_by_the_user(sent: Any) -> None:
    body = await sent(ChatRequest(messages=(Message.system("Say hello."),)))
    assert body["messages"] == [{"role": "user", "content": "Say hello."}]
    assert "system" not in body


async def test_a_system_message_with_a_picture_is_refused(sent: Any) -> None:
    with pytest.raises(InvalidRequest, match="text only, not Image"):
        await sent(of(Image(data=PNG), role="system"))


async def test_nothing_to_say_is_refused_before_it_is_sent(sent: Any, server: FaultServer) -> None:
    with pytest.raises(InvalidRequest, match="every message is empty"):
        await sent(of(Text(text="")))
    assert server.count() == 0


async def test_neighbours_of_one_role_are_one_turn_without_what_is_empty(sent: Any) -> None:
    turns = (Message.user("One"), Message.user(""), Message.user("two"), Message.assistant("3"), Message.user("go on"))
    body = await sent(ChatRequest(messages=turns))
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]


async def test_pictures_and_documents_are_sent_as_data_or_by_address(sent: Any) -> None:
    request = of(
        Text(text="look"),
        Image(data=PNG),
        Image(url="https://example.org/a.jpg"),
        Image(url=f"data:image/webp;base64,{PNG_BASE64}"),
        File(data=b"%PDF", name="report.pdf"),
        File(data=b"%PDF"),
        File(url="https://example.org/a.pdf"),
        File(data="naïve".encode(), name="a.csv"),
    )
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    assert (await sent(request))["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.jpg"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG_BASE64}},
        {"type": "document", "source": pdf, "title": "report.pdf"},
        {"type": "document", "source": pdf},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "naïve"}, "title": "a.csv"},
    ]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Audio(data=b"RIFF"), "no audio"),
        (Video(url="https://example.org/a.mp4"), "no video"),
        (File(data=b"PK\x03\xff", name="a.zip"), "not application/zip"),
        (File(url="https://example.org/a.csv"), "only PDF by address, not text/csv"),
        (Image(url="data:image/svg+xml,<svg/>"), "must hold base64"),
    ],
)
async def test_what_the_api_cannot_take_is_refused_by_name(sent: Any, server: FaultServer, part: Any, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        await sent(of(part))
    assert server.count() == 0


async def test_a_path_is_read_and_its_type_taken_from_its_name(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "画.gif").write_bytes(b"GIF89a")
    (tmp_path / "notes.md").write_text("# Ада")
    body = await sent(of(Image(path=str(tmp_path / "画.gif")), File(path=str(tmp_path / "notes.md"))))
    image, document = body["messages"][0]["content"]
    assert image["source"] == {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"}
    assert (document["title"], document["source"]["data"]) == ("notes.md", "# Ада")


async def test_a_file_that_is_not_there_is_named(sent: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.png: No such file"):
        await sent(of(Image(path=str(tmp_path / "nowhere.png"))))


async def test_results_of_tools_come_first_in_the_turn_behind_the_calls(sent: Any) -> None:
    request = ChatRequest(
        messages=(
            Message.user("weather?"),
            Message(
                role="assistant",
                parts=(
                    Text(text="Let me see."),
                    ToolCall(id="call:1", name="weather", arguments='{"city": "Zürich"}'),
                    ToolCall(id="c2", name="weather", arguments="{broken"),
                ),
            ),
            Message(role="tool", parts=(ToolResult(id="call:1", content="rain"),)),
            Message.user("Hurry!"),
            Message(role="tool", parts=(ToolResult(id="c2", content="no such city", error=True),)),
        ),
        tools=(ToolSpec(name="weather", description="Tell.", parameters={"properties": {}}),),
        tool_choice="weather",
        parallel_tools=False,
    )
    body = await sent(request)
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Zürich"}},
        {"type": "tool_use", "id": "c2", "name": "weather", "input": {"INVALID_JSON": "{broken"}},
    ]
    assert body["messages"][2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "c2", "content": "no such city", "is_error": True},
            {"type": "text", "text": "Hurry!"},
        ],
    }
    schema = {"type": "object", "properties": {}}
    assert body["tools"] == [{"name": "weather", "description": "Tell.", "input_schema": schema}]


@pytest.mark.parametrize(
    ("choice", "parallel", "told"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        ("weather", False, {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, True, None),
    ],
)
async def test_the_choice_of_tools_is_told_in_the_vendors_words(sent: Any, choice: Any, parallel: Any, told: Any) -> None:
    request = of(HI, tools=(ToolSpec(name="weather"),), tool_choice=choice, parallel_tools=parallel)
    assert (await sent(request)).get("tool_choice") == told


async def test_a_refusal_goes_back_as_text_and_names_stay_here(sent: Any) -> None:
    request = ChatRequest(messages=(Message(role="assistant", parts=(Refusal(text="No."),), name="bot"), Message.user("Why?")))
    assert (await sent(request))["messages"][0] == {"role": "assistant", "content": "No."}


async def test_reasoning_goes_back_with_its_signature_to_the_model_it_came_from_alone(
    server: FaultServer, provider: Any
) -> None:
    thoughts = [
        Reasoning(text="hm", signature="s1", provider="here", model="model-a"),
        Reasoning(signature="s2", provider="here", model="model-a"),
        Reasoning(signature="d3", redacted=True, provider="here", model="model-a"),
        Reasoning(text="unsigned", provider="here", model="model-a"),
        Reasoning(text="another model's", signature="s4", provider="here", model="model-b"),
        Reasoning(text="another vendor's", signature="s5", provider="there", model="model-a"),
    ]
    request = ChatRequest(messages=(Message(role="assistant", parts=(*thoughts, Text(text="yes"))), Message.user("sure?")))
    await provider.chat("model-a", request)
    assert server.requests[-1].body["messages"][0]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "redacted_thinking", "data": "d3"},
        {"type": "text", "text": "yes"},
    ]


ADAPTIVE = {"thinking": {"type": "adaptive", "display": "summarized"}}


@pytest.mark.parametrize(
    ("model", "spec", "told", "without"),
    [
        ("claude-sonnet-5-5", ReasoningSpec(effort="low"), {**ADAPTIVE, "output_config": {"effort": "low"}}, ()),
        ("claude-sonnet-5-5", ReasoningSpec(), ADAPTIVE, ()),
        ("claude-sonnet-5-5", ReasoningSpec(budget=4000), ADAPTIVE, ("reasoning.budget",)),
        ("claude-sonnet-5-5", ReasoningSpec(effort="none"), {"thinking": {"type": "disabled"}}, ()),
        ("claude-fable-5-1", ReasoningSpec(effort="none"), {}, ("reasoning",)),
        ("claude-opus-5-5", ReasoningSpec(budget=0), {}, ("reasoning",)),
        ("claude-sonnet-4-6", ReasoningSpec(budget=4000), {"thinking": {"type": "enabled", "budget_tokens": 4000}}, ()),
        ("claude-haiku-4-5", ReasoningSpec(effort="low"), {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ()),
        (
            "claude-opus-4-5",
            ReasoningSpec(effort="high"),
            {"thinking": {"type": "enabled", "budget_tokens": 24_576}, "output_config": {"effort": "high"}},
            (),
        ),
        ("claude-3-5-haiku-20241022", ReasoningSpec(effort="low"), {}, ("reasoning",)),
        ("glm-5", ReasoningSpec(budget=4000), {"thinking": {"type": "enabled", "budget_tokens": 4000}}, ()),
        ("glm-5", ReasoningSpec(effort="minimal"), {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, ()),
    ],
)
async def test_thinking_is_asked_for_as_the_model_takes_it(
    sent: Any, model: str, spec: ReasoningSpec, told: dict[str, Any], without: tuple[str, ...]
) -> None:
    body = await sent(of(HI, reasoning=spec), model=model)
    assert {key: body[key] for key in ("thinking", "output_config") if key in body} == told
    assert left_out(sent.response) == without


async def test_settings_say_how_to_ask_where_a_name_does_not(sent: Any) -> None:
    body = await sent(of(HI, reasoning=ReasoningSpec(effort="low")), model="glm-5", thinking="budget")
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}


@pytest.mark.parametrize(
    ("spec", "limit", "budget", "told"),
    [
        (ReasoningSpec(budget=4000), None, 4000, 12_192),
        (ReasoningSpec(budget=4000), 5000, 4000, 5000),
        (ReasoningSpec(effort="high"), 5000, 2500, 5000),
        (ReasoningSpec(effort="high"), 1500, 1024, 1500),
    ],
)
async def test_a_budget_leaves_room_for_the_answer(sent: Any, spec: Any, limit: Any, budget: int, told: int) -> None:
    body = await sent(of(HI, reasoning=spec, max_tokens=limit), thinking="budget")
    assert (body["thinking"]["budget_tokens"], body["max_tokens"]) == (budget, told)


@pytest.mark.parametrize(
    ("spec", "limit", "told"),
    [
        (ReasoningSpec(budget=500), None, "from 1024 tokens, not 500"),
        (ReasoningSpec(budget=4000), 4000, "with 4000 of these a budget of 4000 leaves no answer"),
        (ReasoningSpec(effort="low"), 100, "with 100 of these a budget of 1024 leaves no answer"),
    ],
)
async def test_a_budget_that_cannot_be_is_refused(sent: Any, spec: Any, limit: Any, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        await sent(of(HI, reasoning=spec, max_tokens=limit), thinking="budget")


@pytest.mark.parametrize(("choice", "thinks"), [("weather", False), ("required", False), ("auto", True), (None, True)])
async def test_a_budget_and_a_call_that_must_be_made_are_not_sent_together(sent: Any, choice: Any, thinks: bool) -> None:
    request = of(HI, reasoning=ReasoningSpec(budget=4000), tools=(ToolSpec(name="weather"),), tool_choice=choice)
    body = await sent(request, model="claude-haiku-4-5")
    assert ("thinking" in body) is thinks
    assert left_out(sent.response) == (() if thinks else ("reasoning",))
    assert "thinking" in await sent(request, model="claude-sonnet-5-5")


async def test_thinking_and_temperature_are_not_sent_together(sent: Any) -> None:
    request = of(HI, reasoning=ReasoningSpec(budget=4000), temperature=0.2)
    body = await sent(request, model="claude-haiku-4-5", api_version="2023-06-01")
    assert "temperature" not in body
    assert left_out(sent.response) == ("temperature",)


async def test_a_prefix_is_the_beginning_of_the_answer_and_its_last_blank_is_not_doubled(
    sent: Any, server: FaultServer, provider: Any
) -> None:
    server.script("model-a", Reply("Dear Ada, how are you?", prefill=True))
    request = of(HI, prefix="Dear ", reasoning=ReasoningSpec(effort="low"))
    body = await sent(request)
    assert body["messages"][-1] == {"role": "assistant", "content": "Dear"}
    assert "thinking" not in body
    assert sent.response.text == "Ada, how are you?"
    events = [event async for event in provider.stream("model-a", request)]
    assert events[-1].response.text == "Ada, how are you?"
    assert "".join(getattr(event, "text", "") for event in events) == "Ada, how are you?"


@pytest.mark.parametrize(("answer", "text"), [(" \n Ada", "\n Ada"), ("Ada", "Ada"), (" ", "")])
async def test_only_what_the_prefix_ended_with_is_taken_off(server: FaultServer, provider: Any, answer: str, text: str) -> None:
    server.script("model-a", Reply(answer, chunks=tuple(answer)))
    assert (await provider.chat("model-a", of(HI, prefix="Dear "))).text == text
    events = [event async for event in provider.stream("model-a", of(HI, prefix="Dear "))]
    assert events[-1].response.text == "".join(getattr(event, "text", "") for event in events) == text


async def test_marks_for_the_cache_stand_where_they_are_hinted_and_the_last_four_are_kept(sent: Any) -> None:
    parts = [Text(text=f"part {number}", cache=True) for number in range(5)]
    body = await sent(ChatRequest(messages=(Message(role="system", parts=parts[:2]), Message(role="user", parts=parts[2:]))))
    blocks = [*body["system"], *body["messages"][0]["content"]]
    assert [block.get("cache_control") for block in blocks] == [None, MARK, MARK, MARK, MARK]


@pytest.mark.parametrize(("hint", "told"), [("auto", MARK), ("1h", {**MARK, "ttl": "1h"})])
async def test_a_hint_for_the_whole_request_takes_one_of_the_marks(sent: Any, hint: str, told: dict[str, str]) -> None:
    body = await sent(of(*(Text(text=f"part {number}", cache=True) for number in range(4)), cache_hint=hint))
    assert body["cache_control"] == told
    assert ["cache_control" in block for block in body["messages"][0]["content"]] == [False, True, True, True]


async def test_settings_add_to_the_body_and_the_request_has_the_last_word(sent: Any) -> None:
    body = await sent(
        of(HI, extra={"service_tier": "auto"}), extra_body={"service_tier": "standard_only", "inference_geo": "eu"}
    )
    assert (body["service_tier"], body["inference_geo"]) == ("auto", "eu")


NAME = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "held"),
    [
        ({"type": "object", "properties": {"name": NAME}}, True),
        ({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}, True),
        (
            {
                "type": "object",
                "properties": {"one": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/P"}]}},
                "$defs": {"P": {"type": "object", "properties": {"name": NAME}}},
            },
            True,
        ),
        ({"type": "object", "properties": {"kind": {"type": "string", "enum": ["a", "b"]}}}, True),
        ({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}, False),
        ({"type": "object", "properties": {"any": {}}}, False),
        ({"type": "object", "properties": {"odd": {"type": "file"}}}, False),
        ({"type": "object", "properties": {"list": {"type": "array"}}}, False),
        ({"type": "object", "properties": {"many": {"type": ["string", "null"]}}}, False),
        (
            {
                "type": "object",
                "properties": {"me": {"$ref": "#/$defs/T"}},
                "$defs": {"T": {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}}}},
            },
            False,
        ),
        ({"type": "array", "items": NAME}, False),
    ],
)
async def test_an_answer_is_held_to_its_schema_where_the_vendor_can_and_told_of_it_where_not(
    sent: Any, schema: dict[str, Any], held: bool
) -> None:
    body = await sent(ChatRequest(messages=(Message.system("Be short."), Message.user("hi")), output=OutputSpec(schema=schema)))
    if held:
        shape = body["output_config"]["format"]
        assert (shape["type"], shape["schema"]["additionalProperties"]) == ("json_schema", False)
        assert body["system"] == "Be short."
    else:
        assert "output_config" not in body
        assert "fits this JSON Schema" in body["system"][-1]["text"]


async def test_old_models_are_told_of_the_schema_in_words(sent: Any) -> None:
    request = of(HI, output=OutputSpec(schema={"type": "object", "properties": {"name": NAME}}))
    body = await sent(request, model="claude-3-5-haiku-20241022")
    assert "fits this JSON Schema" in body["system"]


async def test_effort_and_schema_are_sent_together(sent: Any) -> None:
    schema = {"type": "object", "properties": {"name": NAME}}
    body = await sent(of(HI, output=OutputSpec(schema=schema), reasoning=ReasoningSpec(effort="low")), model="claude-opus-5-5")
    assert set(body["output_config"]) == {"format", "effort"}


async def test_an_object_of_any_shape_is_nothing_to_be_held_to(sent: Any) -> None:
    body = await sent(of(HI, output=OutputSpec(schema={"type": "object"}, strict=False)))
    assert set(body) == {"model", "messages", "max_tokens"}


async def test_a_lone_surrogate_is_an_invalid_request(sent: Any) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        await sent(of(Text(text="\ud800")))
