"""``offline`` answers from the request's own text: always, at once, the same each time."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft.builtin.offline import Offline, flowcraft_models, flowcraft_providers
from flowcraft.plugin import ChatRequest, ChatResponse, Done, Message, OutputSpec, TextDelta, ToolSpec, collect

pytestmark = pytest.mark.unit

ARTICLE = """# The lighthouse

The lighthouse of Vornholm was built in 1871. It stands 41 metres high on the northern cliff.

- Its lamp was changed to electricity in 1924.
- Nobody has lived there since 1989!

```python
# code that nobody should quote
print("not this one either, please")
```

| a cell that nobody | should quote here |
|---|---|

| a | b |
|---|---|

Visitors may climb the 199 steps in summer. Contact: keeper@vornholm.example, status: open
"""


async def ask(prompt: str, **options: Any) -> ChatResponse:
    return await Offline().chat("offline", ChatRequest(messages=(Message.user(prompt),), **options))


async def value(prompt: str, schema: dict[str, Any]) -> Any:
    answer = await ask(prompt, output=OutputSpec(schema=schema))
    made = json.loads(answer.text)
    jsonschema.validate(made, schema)
    return made


async def test_a_summary_is_made_of_the_first_sentences_of_the_material() -> None:
    answer = await ask(f"Summarise this file in two sentences:\n\n{ARTICLE}")
    assert answer.text == (
        "The lighthouse of Vornholm was built in 1871. It stands 41 metres high on the northern cliff. "
        "Its lamp was changed to electricity in 1924."
    )


async def test_an_answer_says_that_no_model_gave_it() -> None:
    answer = await ask("Hello there, how are you?")
    assert answer.offline
    assert (answer.model, answer.provider, answer.finish_reason) == ("offline", "offline", "stop")
    assert answer.usage.input == 7
    assert answer.usage.output > 0
    assert answer.usd == 0


@pytest.mark.parametrize("prompt", ["Hi", "", "   \n ", "```", "# Title", "?", "\u2028", "1 2 3"])
async def test_even_a_prompt_without_sentences_gets_an_answer(prompt: str) -> None:
    assert (await ask(prompt)).text


async def test_an_instruction_in_a_paragraph_of_its_own_is_not_quoted() -> None:
    material = "The first thing to know is this. " * 5
    assert (await ask(f"Please tell me what matters here.\n\n{material}")).text == "The first thing to know is this."


async def test_the_longest_message_is_the_material_and_the_system_message_never_is() -> None:
    request = ChatRequest(
        messages=(
            Message.system("You are a very long system message that says many things. " * 10),
            Message.user("The river rises in the hills and flows north. " * 3),
            Message.user("Summarise it."),
        )
    )
    answer = await Offline().chat("offline", request)
    assert answer.text == "The river rises in the hills and flows north."


async def test_a_system_message_alone_is_answered_too() -> None:
    answer = await Offline().chat("", ChatRequest(messages=(Message.system("Say something about the weather today."),)))
    assert answer.text == "Say something about the weather today."
    assert answer.model == "offline"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Кратко:\n\nСегодня хорошая погода, мы гуляли. Вечером мы читали книги дома.", "Сегодня хорошая погода, мы гуляли."),
        ("把下面的文本总结一下：\n\n今天天气很好，我们去公园散步。晚上回家看书。", "今天天气很好，我们去公园散步。"),
        (
            "Sum up:\n\nWe shipped it 🚀 on a Friday evening. Nobody complained about it.",
            "We shipped it 🚀 on a Friday evening.",
        ),
    ],
)
async def test_every_script_is_read(prompt: str, expected: str) -> None:
    assert (await ask(prompt)).text.startswith(expected)


async def test_prose_is_quoted_without_its_markup_and_code_and_tables_are_not() -> None:
    text = f"Summarise:\n\n{ARTICLE}"
    everything = json.loads((await ask(text, output=OutputSpec(schema={"type": "array", "minItems": 6}))).text)
    assert not any("nobody should" in sentence or "either" in sentence for sentence in everything)
    marked = (
        "Tell me:\n\nThese are the **most important** [points of it](page.md), `as code`:\n\nAll of **them** are [here](x)."
    )
    assert (await ask(marked)).text == "All of them are here."


async def test_an_answer_is_cut_to_max_tokens_and_says_so() -> None:
    answer = await ask(f"Summarise:\n\n{ARTICLE}", max_tokens=5)
    assert len(answer.text) <= 20
    assert answer.finish_reason == "length"


async def test_an_answer_ends_before_a_stop_text() -> None:
    assert (await ask(f"Summarise:\n\n{ARTICLE}", stop=("was built",))).text == "The lighthouse of Vornholm "


async def test_texts_inside_json_material_are_quoted_without_the_json() -> None:
    digests = json.dumps([{"file": "a.md", "summary": "The first file explains the plan."}, {"n": 3, "t": "x"}], indent=2)
    assert (await ask(f"Merge these digests:\n\n{digests}")).text == "The first file explains the plan."


async def test_a_stream_comes_word_by_word_and_ends_with_the_same_answer() -> None:
    request = ChatRequest(messages=(Message.user(f"Summarise:\n\n{ARTICLE}"),))
    events = [event async for event in Offline().stream("offline", request)]
    whole = await Offline().chat("offline", request)
    words = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(words) > 20
    assert "".join(words) == whole.text
    assert isinstance(events[-1], Done)
    assert await collect(Offline().stream("offline", request)) == whole


async def test_a_typed_answer_is_made_of_the_text() -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "summary": {"type": "string", "maxLength": 60},
            "points": {"type": "array", "items": {"type": "string"}},
            "height": {"type": "integer", "minimum": 40, "maximum": 50},
            "status": {"enum": ["closed", "open"]},
            "contact": {"type": "string", "format": "email"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["title", "summary", "points", "height", "status", "contact", "note"],
        "additionalProperties": False,
    }
    made = await value(f"Describe this file:\n\n{ARTICLE}", schema)
    assert made["title"] == "The lighthouse"
    assert made["summary"] == "The lighthouse of Vornholm was built in 1871."
    assert made["points"][0] == "It stands 41 metres high on the northern cliff."
    assert len(made["points"]) == 3
    assert made["height"] == 41
    assert made["status"] == "open"
    assert made["contact"] == "keeper@vornholm.example"


async def test_fields_that_the_text_names_get_what_it_says_of_them() -> None:
    schema = {
        "type": "object",
        "properties": {
            "owner": {"type": "string"},
            "urgent": {"type": "boolean"},
            "done": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "score": {"type": "number"},
            "level": {"enum": [1, 2, 3]},
        },
    }
    material = 'Report:\n\n{"owner": "Ada", "done": true, "tags": ["x", "y"], "score": 0.75, "level": 2}\nUrgent: yes\n'
    made = await value(material, schema)
    assert made == {"owner": "Ada", "urgent": True, "done": True, "tags": ["x", "y"], "score": 0.75, "level": 2}


SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 400},
    {"type": "string", "pattern": "^[A-Z][a-z]+$"},
    {"type": "integer", "minimum": 5000, "multipleOf": 7},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "integer", "maximum": -3},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["integer", "null"]},
    {"const": {"a": 1}},
    {"enum": [None, 3]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 5},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "items": {"type": "string"}, "maxItems": 1},
    {"type": "array"},
    {"type": "object", "required": ["free"], "properties": {}},
    {"properties": {"a": {"items": {"type": "number"}}}},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["a"]}]},
    {"oneOf": [{"type": "null"}, {"type": "object", "properties": {"x": {"type": "string", "format": "date"}}}]},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uri"},
    {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}}}}},
    {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
                "required": ["name", "next"],
            }
        },
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:50])
async def test_a_typed_answer_fits_its_schema(schema: dict[str, Any]) -> None:
    await value(f"Describe:\n\n{ARTICLE}", schema)
    await value("Hi", {**schema, "description": "without any material"} if "pattern" not in schema else {"type": "string"})


@pytest.mark.parametrize("schema", [{"type": "string", "pattern": "("}, {"$ref": "#/nowhere"}, {"$ref": "#"}, True])
async def test_a_schema_that_nothing_fits_still_gets_an_answer(schema: Any) -> None:
    answer = await ask("Describe the lighthouse, please.", output=OutputSpec(schema={"properties": {"a": schema}}))
    assert isinstance(json.loads(answer.text), dict)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_answered_and_the_same_text_the_same_way(text: str) -> None:
    import asyncio

    first, second = asyncio.run(ask(text)), asyncio.run(ask(text))
    assert first == second
    assert first.text


async def test_tools_are_never_called_and_that_is_said() -> None:
    tools = (ToolSpec(name="search", description=""), ToolSpec(name="read", description=""))
    answer = await ask("The river rises in the hills.", tools=tools)
    assert answer.tool_calls == ()
    assert answer.text == "The river rises in the hills.\n\n(Offline calls no tools; it was given: search, read.)"


@pytest.mark.parametrize(
    ("described", "number"),
    [("0 to 1", 1), ("2.5 to 4", 3), ("-1 to 0.5, the more the better", -1), ("", 41), ("at most 3", 41), ("0 to 1 000", 1)],
)
async def test_number_keeps_within_the_limits_that_its_description_tells(described: str, number: float) -> None:
    schema = {"type": "number", "description": described}
    text = "Score this text, please:\n\nThe lighthouse has 41 metres, 3 rooms, 1 lamp; outside it was -1 degree."
    assert await value(text, schema) == number


async def test_it_comes_through_the_hook_with_its_facts() -> None:
    assert flowcraft_providers()["offline"].default_model == "offline"
    assert flowcraft_models("offline", {})[0].capabilities.tools is True
    assert flowcraft_models("another", {}) == []
    assert [model.id for model in await Offline(section="stand-in").list_models()] == ["stand-in:offline"]
