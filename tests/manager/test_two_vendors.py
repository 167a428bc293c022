"""Chains of two vendors: what one says is something that the other understands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, Message, Reasoning, ReasoningSpec, Switch, TextDelta, ToolCall, ToolResult, ToolSpec
from flowcraft.settings import load_settings
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft_anthropic.client import load as load_anthropic
from flowcraft_openai.client import load as load_openai

pytestmark = pytest.mark.integration

CALL = ToolCall(id="call:a", name="weather", arguments='{"city": "Zürich"}')
WEATHER = ToolSpec(name="weather", description="Tell the weather.")


class Person(BaseModel):
    name: str
    born: int


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key="sk-test-0123456789") as server:
        yield server


def managed(server: FaultServer, folder: Path, models: list[str], **llm: Any) -> LLMManager:
    """``one`` is a server that speaks as OpenAI does, ``two`` one that speaks as Anthropic does."""
    load_openai()
    load_anthropic()
    keys = {"base_url": server.url, "api_key": "${LOCAL_KEY}"}
    able = {"capabilities": {"prefill": True}}
    page = {
        "storage": f"sqlite:///{folder}/calls.db",
        "llm": {"model_roles": {"primary": models}, "retry_attempts": 0, **llm},
        "providers": {
            "one": {"type": "openai", "reasoning_key": "reasoning", "models": {"first": able}, **keys},
            "two": {"type": "anthropic", "models": {"second": able}, **keys},
        },
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps(page))
    return LLMManager(load_settings(file, environ={"LOCAL_KEY": "sk-test-0123456789"}, cwd=folder))


@pytest.fixture
def manager(server: FaultServer, tmp_path: Path) -> LLMManager:
    return managed(server, tmp_path, ["one:first", "two:second"])


def story(response: Any) -> list[tuple[str, str]]:
    return [(f"{attempt.provider}:{attempt.model}", attempt.outcome) for attempt in response.attempts]


FAILED = [("one:first", "ProviderUnavailable"), ("two:second", "ok")]


async def test_the_second_vendor_answers_where_the_first_fails(server: FaultServer, manager: LLMManager) -> None:
    server.script("first", Fault.failure(500))
    server.script("second", "Здравствуй, мир 🙂")
    async with manager:
        response = await manager.llm().chat("hi")
    assert (response.text, response.provider, story(response)) == ("Здравствуй, мир 🙂", "two", FAILED)
    assert [request.path for request in server.requests] == ["/v1/chat/completions", "/v1/messages"]


@pytest.mark.parametrize("fault", [Fault.failure(503), Fault.garbage(), Fault.cut("headers"), Fault.error_in_answer()])
async def test_a_stream_begins_at_the_second_vendor_where_the_first_fails(
    server: FaultServer, manager: LLMManager, fault: Fault
) -> None:
    server.script("first", fault)
    server.script("second", Reply("Здравствуй, мир 🙂", bytes_per_write=1))
    async with manager, manager.llm().stream("hi") as stream:
        text = "".join([event.text async for event in stream if isinstance(event, TextDelta)])
    assert stream.response is not None
    assert (text, stream.response.text, story(stream.response)) == ("Здравствуй, мир 🙂",) * 2 + (FAILED,)


@pytest.mark.parametrize("fault", [Fault.rate_limit(1000), Fault.quota(402), Fault.unauthorized(), Fault.context_too_long()])
async def test_the_first_vendor_answers_where_the_second_fails(server: FaultServer, manager: LLMManager, fault: Fault) -> None:
    server.script("first", "fine")
    server.script("second", fault)
    ask = ChatRequest(messages=(Message.user("hi"),)).within(prefer="two:second")
    async with manager:
        response = await manager.llm().chat(ask)
    assert (response.text, [model for model, _ in story(response)]) == ("fine", ["two:second", "one:first"])


async def test_what_one_vendor_thought_is_not_shown_to_the_other(server: FaultServer, manager: LLMManager) -> None:
    server.script("first", Reply("Ours.", reasoning="Secretly..."), Fault.failure(500), Reply("Mine again."))
    server.script("second", Reply("Theirs.", reasoning="Silently..."))
    turns = [Message.user("One?")]
    async with manager:
        for question in ("Two?", "Three?"):
            response = await manager.llm().chat(turns, reasoning=ReasoningSpec(effort="low"))
            assert [part.provider for part in response.parts if isinstance(part, Reasoning)] == [response.provider]
            turns += [response.message, Message.user(question)]
        last = await manager.llm().chat(turns)
    assert [response.provider, last.provider] == ["two", "one"]
    *_, second, third = [request.body["messages"] for request in server.requests]
    assert second[1] == {"role": "assistant", "content": "Ours."}
    assert [message.get("reasoning") for message in third] == [None, "Secretly...", None, None, None]
    assert "Silently" not in str(third)


async def test_a_loop_of_tools_goes_on_at_the_other_vendor(server: FaultServer, manager: LLMManager) -> None:
    server.script("first", Reply(tool_calls=(CALL,)), Fault.failure(500))
    server.script("second", "It rains.")
    turns = [Message.user("How is the weather?")]
    async with manager:
        asked = await manager.llm().chat(turns, tools=(WEATHER,))
        result = Message(role="tool", parts=(ToolResult(id=asked.tool_calls[0].id, content="rain"),))
        answer = await manager.llm().chat([*turns, asked.message, result], tools=(WEATHER,))
    assert (asked.tool_calls, answer.text, answer.provider) == ((CALL,), "It rains.", "two")
    called, told = server.requests[-1].body["messages"][1:]
    assert called["content"] == [{"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Zürich"}}]
    assert told["content"] == [{"type": "tool_result", "tool_use_id": "call_a", "content": "rain"}]


async def test_a_typed_answer_comes_from_the_vendor_that_can(server: FaultServer, manager: LLMManager) -> None:
    server.script("first", "I would rather not.")
    server.script("second", '{"name": "Ада", "born": 1815}')
    async with manager:
        assert await manager.llm().parse("Who was Ada?", Person) == Person(name="Ада", born=1815)


async def test_tokens_of_both_vendors_are_counted_alike(server: FaultServer, manager: LLMManager) -> None:
    server.script("first", "one two", Fault.failure(500))
    server.script("second", "one two")
    async with manager:
        answers = [await manager.llm().chat("How are you?") for _ in range(2)]
    assert [answer.provider for answer in answers] == ["one", "two"]
    assert answers[0].usage == answers[1].usage


@pytest.mark.parametrize("first", ["one:first", "two:second"])
async def test_a_stream_that_breaks_goes_on_at_the_other_vendor_with_no_character_lost_or_doubled(
    server: FaultServer, tmp_path: Path, first: str
) -> None:
    text = "Привет,  мир! \n\n 今天天气很好，we go for a walk.  🙂 Ada said: yes."
    other = {"one:first": "two:second", "two:second": "one:first"}[first]
    ends = list(range(8, len(text.encode()) - 1, 3))
    async with managed(server, tmp_path, [first, other], continuation="continue", breaker={"calls": 1000}) as manager:
        for end in ends:
            server.script(first[4:], Fault.cut_stream(end, Reply(text, chunks=tuple(text))))
            server.script(other[4:], Reply(text, chunks=tuple(text), prefill=True))
            async with manager.llm().stream("hi") as stream:
                events = [event async for event in stream]
            assert stream.response is not None
            assert stream.response.text == text
            assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text
            assert [event.provider for event in events if isinstance(event, Switch)] == [other[:3]]


def test_only_a_key_in_the_environment_is_needed(tmp_path: Path) -> None:
    settings = load_settings(None, environ={"ANTHROPIC_API_KEY": "sk-ant-0123456789"}, cwd=tmp_path)
    (link,) = [link for link in LLMManager(settings).llm().links if not link.info.offline]
    assert (link.info.id, link.skip) == ("anthropic:claude-sonnet-5-5", "")
    assert link.info.price is not None
