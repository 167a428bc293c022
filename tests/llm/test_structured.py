"""Answers in the shape of a schema: asked for in the model's own way, parsed, checked, mended once."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from flowcraft.errors import ChainExhausted, InvalidOutput, LLMError
from flowcraft.plugin import ChatRequest, ChatResponse, Message, OutputSpec, ToolCall, collect

pytestmark = pytest.mark.unit

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
OUTPUT = OutputSpec(schema=PERSON, name="person")
ADA = '{"name": "Ада", "age": 36}'


class Person(BaseModel):
    name: str
    age: int


class Adult(Person):
    @field_validator("age")
    @classmethod
    def grown(cls, age: int) -> int:
        if age < 18:
            raise ValueError("must be 18 at least")
        return age


def told(request: ChatRequest) -> str:
    return "\n".join(message.text for message in request.messages)


async def test_a_model_that_follows_schemas_gets_the_schema_and_no_instruction(staged: Any, info_of: Any) -> None:
    stage = staged({"a": [ADA]}, infos={"a": info_of("a", json_schema=True)})
    response = await stage.chain.chat("who?", output=OUTPUT)
    assert response.parsed == {"name": "Ада", "age": 36}
    asked = stage.fake.asked[0][1]
    assert asked.output == OUTPUT
    assert told(asked) == "who?"


async def test_a_model_that_writes_json_gets_an_instruction_and_is_held_to_an_object(staged: Any, info_of: Any) -> None:
    stage = staged({"a": [ADA]}, infos={"a": info_of("a", json_object=True)})
    await stage.chain.chat("who?", output=OUTPUT)
    asked = stage.fake.asked[0][1]
    assert asked.output == OutputSpec(schema={"type": "object"}, name="person", strict=False)
    assert json.dumps(PERSON, separators=(",", ":")) in told(asked)


async def test_an_object_of_any_shape_is_asked_for_in_words_too(staged: Any, info_of: Any) -> None:
    stage = staged({"a": [ADA]}, infos={"a": info_of("a", json_schema=True)})
    response = await stage.chain.chat("who?", output=OutputSpec(schema={"type": "object"}))
    assert response.parsed == {"name": "Ада", "age": 36}
    asked = stage.fake.asked[0][1]
    assert asked.output == OutputSpec(schema={"type": "object"}, strict=False)
    assert "JSON" in told(asked)


async def test_any_other_model_gets_the_instruction_alone(staged: Any) -> None:
    stage = staged({"a": [f"Sure!\n```json\n{ADA}\n```"]})
    response = await stage.chain.chat("who?", output=OUTPUT)
    asked = stage.fake.asked[0][1]
    assert asked.output is None
    assert asked.messages[0].role == "system"
    assert response.parsed["name"] == "Ада"


async def test_the_instruction_joins_the_system_message_that_is_there(staged: Any) -> None:
    stage = staged({"a": [ADA]})
    await stage.chain.chat([Message.system("Be brief."), Message.user("who?")], output=OUTPUT)
    roles = [message.role for message in stage.fake.asked[0][1].messages]
    assert roles == ["system", "user"]
    assert stage.fake.asked[0][1].messages[0].text.startswith("Be brief.\n\nAnswer with one JSON value")


async def test_native_mode_asks_every_model_for_the_schema(staged: Any) -> None:
    stage = staged({"a": [ADA]}, mode="native")
    await stage.chain.chat("who?", output=OUTPUT)
    assert stage.fake.asked[0][1].output == OUTPUT


async def test_text_mode_instructs_every_model(staged: Any, info_of: Any) -> None:
    stage = staged({"a": [ADA]}, mode="text", infos={"a": info_of("a", json_schema=True)})
    await stage.chain.chat("who?", output=OUTPUT)
    assert stage.fake.asked[0][1].output is None


async def test_a_schema_that_is_no_object_is_wrapped_where_the_model_follows_schemas(staged: Any, info_of: Any) -> None:
    stage = staged({"a": ['{"value": [1, 2]}']}, infos={"a": info_of("a", json_schema=True)})
    response = await stage.chain.chat("which?", output=OutputSpec(schema={"type": "array", "items": {"type": "integer"}}))
    assert response.parsed == [1, 2]
    assert stage.fake.asked[0][1].output.schema["type"] == "object"


async def test_an_answer_that_does_not_fit_is_shown_to_the_model_once(staged: Any) -> None:
    stage = staged({"a": ['{"name": "Ada"}', ADA], "b": ["unasked"]})
    response = await stage.chain.chat("who?", output=OUTPUT)
    assert response.parsed["age"] == 36
    assert stage.outcomes(response.attempts) == [("a", "InvalidOutput"), ("a", "ok")]
    assert [record.attempt for record in stage.sink.records] == list(response.attempts)
    assert response.attempts[0].usage.total
    assert "'age' is a required property" in response.attempts[0].message
    again = told(stage.fake.asked[1][1])
    assert '{"name": "Ada"}' in again
    assert "'age' is a required property" in again


async def test_an_answer_that_does_not_fit_after_repair_goes_to_the_next_model(staged: Any) -> None:
    stage = staged({"a": ["no idea"], "b": [ADA]})
    response = await stage.chain.chat("who?", output=OUTPUT)
    assert stage.outcomes(response.attempts) == [("a", "InvalidOutput"), ("a", "InvalidOutput"), ("b", "ok")]


async def test_without_repair_it_goes_to_the_next_model_at_once(staged: Any) -> None:
    stage = staged({"a": ["no idea"], "b": [ADA]}, repair=False)
    response = await stage.chain.chat("who?", output=OUTPUT)
    assert stage.outcomes(response.attempts) == [("a", "InvalidOutput"), ("b", "ok")]


async def test_what_is_wrong_is_told_field_by_field(staged: Any) -> None:
    stage = staged({"a": ['{"name": 7, "age": "old", "extra": 1}']}, repair=False)
    with pytest.raises(ChainExhausted) as caught:
        await stage.chain.chat("who?", output=OUTPUT)
    cause = caught.value.__cause__
    assert isinstance(cause, InvalidOutput)
    assert [item["field"] for item in cause.details] == ["age", "name"]
    assert (cause.model, cause.provider) == ("a", "fake")


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_wrong_with_an_answer_quotes_no_secret(staged: Any, streamed: bool) -> None:
    secret = "sk-very-secret-0123456789"
    stage = staged({"a": [json.dumps({"name": "Ada", "age": secret})]}, secrets=[secret], repair=False)
    with pytest.raises(LLMError) as caught:
        await (collect(stage.chain.stream("who?", output=OUTPUT)) if streamed else stage.chain.chat("who?", output=OUTPUT))
    told_of = [traceback.format_exception(caught.value), caught.value.attempts, stage.sink.records, caught.value.__cause__]
    told_of += [getattr(error, "details", ()) for error in (caught.value, caught.value.__cause__)]
    assert secret not in repr(told_of)
    assert "age: '***' is not of type 'integer'" in repr(caught.value.attempts)


async def test_a_chain_may_mend_what_another_model_wrote(staged: Any) -> None:
    from flowcraft.llm.composer import ChainSpec, compose

    mending = staged({"m": [ADA]})
    stage = staged({"a": ["no idea"]})
    chain = compose(ChainSpec(models=(("primary", "a"),)), stage.shop, mender=mending.chain.llm)
    response = await chain.chat("who?", output=OUTPUT)
    assert response.parsed["age"] == 36
    assert stage.outcomes(response.attempts) == [("a", "InvalidOutput"), ("m", "ok")]
    assert mending.fake.asked[0][1].output is None


async def test_a_mender_that_fails_too_leaves_the_first_failure(staged: Any) -> None:
    from flowcraft.llm.composer import ChainSpec, compose

    mending = staged({"m": ["no idea either"]}, repair=False)
    stage = staged({"a": ["no idea"]})
    chain = compose(ChainSpec(models=(("primary", "a"),)), stage.shop, mender=mending.chain.llm)
    with pytest.raises(ChainExhausted) as caught:
        await chain.chat("who?", output=OUTPUT)
    assert stage.outcomes(caught.value.attempts) == [("a", "InvalidOutput"), ("m", "InvalidOutput")]
    cause = caught.value.__cause__
    assert isinstance(cause, InvalidOutput)
    assert cause.model == "a"


async def test_a_mender_that_hangs_leaves_time_for_the_next_model(staged: Any, acts: Any) -> None:
    from flowcraft.llm.composer import ChainSpec, compose

    mending = staged({"m": [acts.hang]}, timeout=100, deadline=100)
    stage = staged({"a": ["no idea"], "b": [acts.slow(5, ADA)]})
    spec = ChainSpec(models=(("primary", "a"), ("primary", "b")), timeout=100, deadline=100)
    response = await compose(spec, stage.shop, mender=mending.chain.llm).chat("who?", output=OUTPUT)
    assert stage.outcomes(response.attempts) == [("a", "InvalidOutput"), ("m", "ProviderTimeout"), ("b", "ok")]
    assert asyncio.get_running_loop().time() <= 100


async def test_a_tool_call_is_no_answer_to_be_parsed(staged: Any) -> None:
    call = ChatResponse(parts=(ToolCall(id="1", name="look"),), finish_reason="tool_calls")
    response = await staged({"a": [call]}).chain.chat("who?", output=OUTPUT)
    assert response.parsed is None


async def test_a_stream_carries_the_parsed_value_at_its_end(staged: Any) -> None:
    response = await collect(staged({"a": [ADA]}).chain.stream("who?", output=OUTPUT))
    assert response.parsed == {"name": "Ада", "age": 36}


async def test_a_stream_that_does_not_fit_is_raised(staged: Any) -> None:
    stage = staged({"a": ["no idea"]})
    with pytest.raises(InvalidOutput) as caught:
        await collect(stage.chain.stream("who?", output=OUTPUT))
    assert [attempt.outcome for attempt in caught.value.attempts] == ["InvalidOutput"]
    assert [record.attempt for record in stage.sink.records] == list(caught.value.attempts)


async def test_parse_returns_a_pydantic_model(staged: Any) -> None:
    assert await staged({"a": [ADA]}).chain.parse("who?", Person) == Person(name="Ада", age=36)


async def test_parse_returns_any_type(staged: Any) -> None:
    assert await staged({"a": ["[1, 2, 3]"]}).chain.parse("which?", list[int]) == [1, 2, 3]


async def test_parse_tells_the_model_what_its_validators_say(staged: Any) -> None:
    stage = staged({"a": ['{"name": "Ada", "age": 3}', ADA]})
    assert (await stage.chain.parse("who?", Adult)).age == 36
    assert "must be 18 at least" in told(stage.fake.asked[1][1])


async def test_parse_keeps_to_one_deadline(staged: Any, acts: Any) -> None:
    young = '{"name": "Ada", "age": 3}'
    stage = staged({"a": [acts.slow(40, young), acts.hang]}, timeout=100, deadline=60, retries=0)
    with pytest.raises(ChainExhausted):
        await stage.chain.parse("who?", Adult)
    assert asyncio.get_running_loop().time() == 60


async def test_parse_gives_up_after_the_second_refusal(staged: Any) -> None:
    question = ChatRequest(messages=(Message.user("who?"),))
    with pytest.raises(InvalidOutput, match="must be 18") as caught:
        await staged({"a": ['{"name": "Ada", "age": 3}']}).chain.parse(question, Adult)
    assert caught.value.details[0]["field"] == "age"
    assert len(caught.value.attempts) == 2
