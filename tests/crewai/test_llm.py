"""FlowCraftLLM does what CrewAI expects of an LLM, and what our chains promise, on a real server."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from flowcraft.errors import BudgetExceeded, ChainExhausted, LLMError, ServiceUnavailable, StoreError
from flowcraft.manager import LLMManager
from flowcraft.plugin import ToolCall, Usage
from flowcraft.testing import Fault, FaultServer, Reply

crewai = pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

from crewai.events import crewai_event_bus  # noqa: E402
from crewai.events.types.llm_events import (  # noqa: E402
    LLMCallCompletedEvent,
    LLMCallFailedEvent,
    LLMCallStartedEvent,
    LLMStreamChunkEvent,
)
from crewai.hooks import register_before_llm_call_hook, unregister_before_llm_call_hook  # noqa: E402
from crewai.tools import tool  # noqa: E402
from crewai.utilities.exceptions.context_window_exceeding_exception import LLMContextLengthExceededError  # noqa: E402

pytestmark = [
    pytest.mark.crewai,
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # CrewAI reads what it and pydantic have deprecated
]

Make = Callable[..., Any]


class Person(BaseModel):
    name: str
    born: int

    @field_validator("born")
    @classmethod
    def past(cls, year: int) -> int:
        if year > 2100:
            raise ValueError("nobody is born so late")
        return year


@tool("add")
def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


def agent(llm: Any, **more: Any) -> Any:
    return crewai.Agent(role="Writer", goal="Write well", backstory="Has written for years", llm=llm, **more)


def crew(llm: Any, *, tools: Any = (), **task: Any) -> Any:
    one = agent(llm, tools=list(tools))
    return crewai.Crew(agents=[one], tasks=[crewai.Task(description="Do it", expected_output="text", agent=one, **task)])


def add_call(left: int, right: int, number: int = 1) -> ToolCall:
    return ToolCall(id=f"call_{number}", name="add", arguments=json.dumps({"left": left, "right": right}))


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """All events of LLM calls, in order."""
    kinds = (LLMCallStartedEvent, LLMStreamChunkEvent, LLMCallCompletedEvent, LLMCallFailedEvent)
    events: list[Any] = []
    with crewai_event_bus.scoped_handlers():
        for kind in kinds:
            crewai_event_bus.on(kind)(lambda source, event: events.append(event))
        yield events


# -- answers


def test_an_agent_answers_by_the_chain(server: FaultServer, llm: Make) -> None:
    server.script("a", "Hello there.")
    result = crew(llm()).kickoff()
    assert result.raw == "Hello there."
    assert server.count() == 1


def test_the_next_model_answers_where_the_first_is_down(server: FaultServer, llm: Make) -> None:
    server.script("a", Fault.failure(500))
    server.script("b", "from b")
    assert crew(llm("a", "b")).kickoff().raw == "from b"


def test_all_seven_arguments_are_taken_by_name_and_by_place(server: FaultServer, llm: Make) -> None:
    server.script("a", "fine")
    made = llm()
    named = dict.fromkeys(["tools", "callbacks", "available_functions", "from_task", "from_agent", "response_model"])
    assert made.call("hi", **named) == "fine"
    assert made.call("hi", None, None, None, None, None, None) == "fine"
    assert made.call([{"role": "user", "content": "hi"}]) == "fine"


def test_what_an_llm_of_crewais_takes_reaches_the_model(server: FaultServer, llm: Make) -> None:
    made = llm(temperature=0.25, max_tokens=77, seed=3)
    made.call("hi")
    body = server.requests[-1].body
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0.25, 77, 3)
    assert made.provider == "flowcraft"


def test_an_unknown_parameter_is_refused(llm: Make) -> None:
    with pytest.raises(TypeError, match=r"there is no parameter 'temprature'; an LLM takes: .*temperature"):
        llm(temprature=1)


# -- tools


def test_native_tools_are_called_by_crewai_and_told_to_the_model(server: FaultServer, llm: Make) -> None:
    server.script("a", Reply(tool_calls=(add_call(2, 3),)), "It is 5.")
    assert crew(llm(), tools=[add]).kickoff().raw == "It is 5."
    first, second = (request.body for request in server.requests)
    assert first["tools"][0]["function"]["name"] == "add"
    assert "left" in first["tools"][0]["function"]["parameters"]["properties"]
    asked, told = second["messages"][-2:] if second["messages"][-1]["role"] == "tool" else second["messages"][-3:-1]
    assert asked["tool_calls"][0]["function"]["name"] == "add"
    assert (told["role"], told["tool_call_id"], told["content"]) == ("tool", "call_1", "5")


def test_several_calls_of_one_answer_are_handed_over_together(server: FaultServer, llm: Make) -> None:
    server.script("a", Reply(tool_calls=(add_call(1, 1, 1), add_call(2, 2, 2))), "2 and 4")
    assert crew(llm(), tools=[add]).kickoff().raw == "2 and 4"
    told = [message["content"] for message in server.requests[1].body["messages"] if message["role"] == "tool"]
    assert told == ["2", "4"]


def test_of_several_calls_with_a_delegation_the_first_is_handed_over(server: FaultServer, llm: Make) -> None:
    calls = tuple(ToolCall(id=f"c{number}", name="delegate_work_to_coworker", arguments="{}") for number in range(3))
    server.script("a", Reply(tool_calls=calls))
    described = [{"type": "function", "function": {"name": "delegate_work_to_coworker", "parameters": {"type": "object"}}}]
    answer = llm().call("hi", tools=described)
    assert [call["id"] for call in answer] == ["c0"]
    assert server.requests[-1].body["parallel_tool_calls"] is False


def test_where_no_model_has_tools_crewai_goes_on_in_text(server: FaultServer, llm: Make) -> None:
    server.script(
        "a",
        'Thought: add\nAction: add\nAction Input: {"left": 2, "right": 3}',
        "Thought: I now know the final answer\nFinal Answer: five",
    )
    made = llm(facts={"a": {"capabilities": {"tools": False}}})
    assert made.supports_function_calling() is False
    assert crew(made, tools=[add]).kickoff().raw == "five"
    assert all("tools" not in request.body for request in server.requests)
    assert "Observation: 5" in json.dumps(server.requests[1].body["messages"])


def test_tools_that_no_model_can_be_given_are_said_in_the_words_that_crewai_understands(llm: Make) -> None:
    made = llm(facts={"a": {"capabilities": {"tools": False}}})
    described = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    with pytest.raises(LLMError, match="does not support function calling"):
        made.call("hi", tools=described)


# -- typed output


def test_output_pydantic_is_asked_for_by_its_schema(server: FaultServer, llm: Make) -> None:
    server.script("a", "Ada, 1815", '{"name": "Ada", "born": 1815}')
    made = llm(facts={"a": {"capabilities": {"json_schema": True}}})
    result = crew(made, output_pydantic=Person).kickoff()
    assert result.pydantic == Person(name="Ada", born=1815)
    assert server.requests[-1].body["response_format"]["json_schema"]["name"] == "Person"


def test_output_pydantic_comes_after_tools(server: FaultServer, llm: Make) -> None:
    server.script("a", Reply(tool_calls=(add_call(1800, 15),)), "Ada was born in 1815", '{"name": "Ada", "born": 1815}')
    result = crew(llm(), tools=[add], output_pydantic=Person).kickoff()
    assert result.pydantic == Person(name="Ada", born=1815)


def test_a_response_model_is_returned_as_an_instance(server: FaultServer, llm: Make) -> None:
    server.script("a", '{"name": "Ada", "born": 1815}')
    assert llm().call("who?", response_model=Person) == Person(name="Ada", born=1815)


def test_what_the_models_own_validators_refuse_is_shown_to_the_model_once(server: FaultServer, llm: Make) -> None:
    server.script("a", '{"name": "Ada", "born": 9999}', '{"name": "Ada", "born": 1815}')
    made = llm()
    assert made.call("who?", response_model=Person) == Person(name="Ada", born=1815)
    assert "nobody is born so late" in server.requests[-1].body["messages"][-1]["content"]
    assert made.get_token_usage_summary().successful_requests == server.count() == 2


# -- async


async def test_kickoff_async_and_akickoff(server: FaultServer, llm: Make) -> None:
    server.script("a", "fine")
    made = llm()
    assert (await crew(made).kickoff_async()).raw == "fine"
    assert (await crew(made).akickoff()).raw == "fine"


async def test_acall_answers_on_the_callers_loop(server: FaultServer, llm: Make) -> None:
    server.script("a", lambda request: request.body["messages"][-1]["content"])
    made = llm()
    assert await asyncio.gather(*(made.acall(f"n{number}") for number in range(20))) == [f"n{n}" for n in range(20)]


async def test_acall_that_is_cancelled_closes_its_connection(server: FaultServer, llm: Make) -> None:
    server.script("a", Fault.hang("headers"))
    task = asyncio.ensure_future(llm().acall("hi"))
    await server.until(lambda: server.running("a") == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: server.abandoned("a") == 1)


async def test_akickoff_that_is_cancelled_ends_at_once_and_nothing_more_is_asked(server: FaultServer, llm: Make) -> None:
    server.script("a", Fault.hang("headers"), "never asked")
    made = llm()
    one = agent(made)
    tasks = [crewai.Task(description=text, expected_output="a word", agent=one) for text in ("First", "Second")]
    running = asyncio.ensure_future(crewai.Crew(agents=[one], tasks=tasks).akickoff())
    await server.until(lambda: server.count() == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert server.running() == 1, "CrewAI's thread does not hear of it"
    server.release()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert server.count() == 1
    assert len(made.attempts) == 1, "what it cost is counted"


def test_one_llm_is_used_from_several_loops_and_threads(server: FaultServer, llm: Make) -> None:
    server.script("a", lambda request: request.body["messages"][-1]["content"])
    made = llm()
    assert asyncio.run(made.acall("one")) == "one"
    assert asyncio.run(made.acall("two")) == "two"
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda n: made.call(f"n{n}"), range(64))) == [f"n{n}" for n in range(64)]
    usage = made.get_token_usage_summary()
    assert usage.successful_requests == server.count() == 66
    assert usage.total_tokens == sum(attempt.usage.total for attempt in made.attempts)


def test_copies_of_an_agent_ask_the_same_models_and_count_each_their_own(server: FaultServer, llm: Make) -> None:
    server.script("a", Reply("fine", usage=Usage(input=10, output=5)))
    first = agent(llm())
    first.llm.call("hi")
    others = [copy.deepcopy(first), first.copy(), first.model_copy(deep=True)]
    assert [other.llm.call("hi") for other in others] == ["fine"] * 3
    assert [one.llm.get_token_usage_summary().total_tokens for one in (first, *others)] == [15] * 4
    assert [len(one.llm.attempts) for one in (first, *others)] == [1] * 4


# -- events


def test_a_call_is_told_from_its_start_to_its_end(server: FaultServer, llm: Make, heard: list[Any]) -> None:
    server.script("a", Reply("fine", usage=Usage(input=10, output=5)))
    llm().call("hi")
    crewai_event_bus.flush()
    assert [event.type for event in heard] == ["llm_call_started", "llm_call_completed"]
    assert len({event.call_id for event in heard}) == 1
    assert heard[-1].usage["total_tokens"] == 15
    assert heard[-1].response == "fine"


def test_a_stream_is_told_chunk_by_chunk(server: FaultServer, llm: Make, heard: list[Any]) -> None:
    server.script("a", Reply("one two three", chunks=("one ", "two ", "three")))
    assert llm(stream=True).call("hi") == "one two three"
    crewai_event_bus.flush()
    chunks = [event for event in heard if event.type == "llm_stream_chunk"]
    assert [event.chunk for event in chunks] == ["one ", "two ", "three"]
    assert {event.call_id for event in chunks} == {heard[0].call_id}


async def test_an_async_stream_is_told_chunk_by_chunk(server: FaultServer, llm: Make, heard: list[Any]) -> None:
    server.script("a", Reply("one two", chunks=("one ", "two")))
    assert await llm(stream=True).acall("hi") == "one two"
    await asyncio.to_thread(crewai_event_bus.flush)
    assert [event.chunk for event in heard if event.type == "llm_stream_chunk"] == ["one ", "two"]


def test_a_streaming_crew_hands_out_its_chunks(server: FaultServer, llm: Make) -> None:
    server.script("a", Reply("one two", chunks=("one ", "two")))
    one = agent(llm())
    task = crewai.Task(description="Do it", expected_output="text", agent=one)
    streaming = crewai.Crew(agents=[one], tasks=[task], stream=True).kickoff()
    assert "".join(chunk.content for chunk in streaming) == "one two"
    assert streaming.result.raw == "one two"


def test_a_failure_is_told(server: FaultServer, llm: Make, heard: list[Any]) -> None:
    server.script("a", Fault.failure(500))
    with pytest.raises(LLMError):
        llm().call("hi")
    crewai_event_bus.flush()
    assert [event.type for event in heard] == ["llm_call_started", "llm_call_failed"]
    assert "ProviderUnavailable" in heard[-1].error


def test_what_a_hook_makes_of_the_messages_is_sent(server: FaultServer, llm: Make) -> None:
    def hook(context: Any) -> None:
        context.messages[-1]["content"] = "rewritten"
        context.messages.append({"role": "user", "content": "added"})

    server.script("a", "fine")
    register_before_llm_call_hook(hook)
    try:
        llm().call("hi")
        asyncio.run(llm().acall("hi"))
    finally:
        unregister_before_llm_call_hook(hook)
    sent = [[message["content"] for message in request.body["messages"]] for request in server.requests]
    assert sent == [["rewritten", "added"]] * 2


# -- stop words


def test_answers_end_before_stop_words_that_the_model_does_not_know(server: FaultServer, llm: Make) -> None:
    server.script("a", "Thought: look\nObservation: made up")
    assert llm(stop=["\nObservation:"]).call("hi") == "Thought: look"
    assert "stop" not in server.requests[-1].body


def test_stop_words_are_sent_where_every_model_knows_them(server: FaultServer, llm: Make) -> None:
    server.script("a", "fine")
    llm(facts={"a": {"capabilities": {"stop": True}}}, stop=["\nObservation:"]).call("hi")
    assert server.requests[-1].body["stop"] == ["\nObservation:"]


# -- the context window


def test_the_window_is_that_of_the_smallest_model(llm: Make) -> None:
    made = llm("a", "b", facts={"a": {"context": 100_000}, "b": {"context": 8_000}})
    assert made.smallest_window == 8_000
    assert made.get_context_window_size() == 6_800


def test_tokens_are_counted_without_a_warning(llm: Make, caplog: pytest.LogCaptureFixture) -> None:
    assert 100 < llm().get_input_tokens_count("word " * 100) < 200
    assert not caplog.records


def test_a_request_that_is_too_long_for_every_model_is_summarized_by_crewai(server: FaultServer, llm: Make) -> None:
    server.script("a", Fault.context_too_long(), "<summary>short</summary>", "done")
    crew(llm()).kickoff()
    assert "create a structured summary" in json.dumps(server.requests[1].body["messages"])
    server.script("a", Fault.context_too_long())
    with pytest.raises(LLMContextLengthExceededError):
        llm().call("hi")


# -- failures: tried once

UNWELL = Fault.of_status(503, "Too many requests: rate limit reached, throttled")
"""What makes CrewAI ask again, and is no reason for us to leave the model out the next time: another try would be counted."""


@pytest.mark.parametrize(
    "fault",
    [
        Fault.rate_limit(600),
        Fault.of_status(429, "Too many requests: rate limit reached, throttled, resource exhausted"),
        Fault.failure(503),
        UNWELL,
        Fault.quota(),
        Fault.of_status(400, "the maximum context length is fine, this is something else", code="other"),
    ],
    ids=["limit", "words", "down", "unwell", "quota", "context words"],
)
def test_an_exhausted_chain_is_tried_once(server: FaultServer, llm: Make, fault: Fault) -> None:
    server.script("a", fault)
    server.script("b", Fault.rate_limit(600))
    with pytest.raises(LLMError) as caught:
        crew(llm("a", "b"), tools=[add], output_pydantic=Person).kickoff()
    assert (server.count("a"), server.count("b")) == (1, 1)
    assert [attempt.model for attempt in caught.value.attempts] == ["a", "b"]


async def test_an_exhausted_chain_is_tried_once_by_an_async_crew(server: FaultServer, llm: Make) -> None:
    server.script("a", UNWELL)
    with pytest.raises(LLMError):
        await crew(llm()).akickoff()
    assert server.count() == 1


def test_an_exhausted_chain_is_tried_once_where_it_makes_the_output(server: FaultServer, llm: Make) -> None:
    server.script("a", "Ada, 1815", UNWELL)
    with pytest.raises(LLMError):
        crew(llm(), output_pydantic=Person).kickoff()
    assert server.count() == 2


def test_the_error_tells_what_was_tried_and_leads_to_no_other(server: FaultServer, llm: Make) -> None:
    server.script("a", Fault.rate_limit(600))
    with pytest.raises(LLMError, match=r"no model answered; tried in this order:\n  1\. local:a: RateLimited") as caught:
        llm().call("hi")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not isinstance(caught.value, ChainExhausted)


def test_a_spent_budget_ends_the_crew(server: FaultServer, llm: Make) -> None:
    made = llm(section={"budget": {"calls_per_day": 1}})
    server.script("a", Reply(tool_calls=(add_call(1, 1),)))
    with pytest.raises(BudgetExceeded):
        crew(made, tools=[add]).kickoff()
    assert server.count() == 1


@pytest.mark.parametrize("kind", [LLMError, BudgetExceeded, ServiceUnavailable, StoreError])
@pytest.mark.parametrize("ends", [True, False])
def test_an_error_keeps_its_kind_and_ends_the_task_unless_crewai_can_do_without(kind: Any, ends: bool) -> None:
    from crewai.hooks.dispatch import HookAborted

    from flowcraft.crewai.failures import for_crewai

    told = for_crewai(kind("the rate limit is reached"), ends=ends)
    assert isinstance(told, kind)
    assert isinstance(told, HookAborted) is ends
    assert str(told) == "the limit of the rate is reached"


def test_a_database_that_fails_ends_the_crew_at_once(llm: Make, heard: list[Any], tmp_path: Any) -> None:
    made = llm(section={"budget": {"calls_per_day": 9}})
    (tmp_path / "calls.db").write_bytes(b"no database " * 1000)
    with pytest.raises(StoreError):
        crew(made).kickoff()
    crewai_event_bus.flush()
    assert [event.type for event in heard] == ["llm_call_started", "llm_call_failed"]


# -- usage


def test_usage_and_cost_are_those_that_the_server_counted(server: FaultServer, llm: Make) -> None:
    price = {"price": {"input": 1, "output": 2}}
    server.script("a", Reply(tool_calls=(add_call(2, 3),), usage=Usage(input=100, output=10)), Fault.failure(500))
    server.script("b", Reply("It is 5.", usage=Usage(input=200, output=20)))
    made = llm("a", "b", facts={"a": price, "b": price})
    result = crew(made, tools=[add]).kickoff()
    usage = result.token_usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (300, 30, 330)
    assert made.spent_usd == pytest.approx((300 * 1 + 30 * 2) / 1_000_000)
    assert [attempt.outcome for attempt in made.attempts] == ["ok", "ProviderUnavailable", "ok"]


def test_the_usage_of_two_models_and_their_judge_is_counted(server: FaultServer, llm: Make) -> None:
    server.script("a", Reply("from a", usage=Usage(input=10, output=1)))
    server.script("b", Reply("from b", usage=Usage(input=20, output=2)))
    server.script("j", lambda request: Reply('{"reason": "as good", "winner": "tie"}', usage=Usage(input=40, output=4)))
    made = llm("a", "b", section={"judge": {"model": "local:j"}}, use_parallel=True)
    made.call("hi")
    assert server.count("j") >= 1
    counted = {"a": 11, "b": 22, "j": 44}
    assert made.get_token_usage_summary().total_tokens == sum(counted[request.model] for request in server.requests)
    assert made.get_token_usage_summary().successful_requests == server.count()


def test_several_agents_of_one_process_count_each_their_own(server: FaultServer, llm: Make) -> None:
    server.script("a", Reply("fine", usage=Usage(input=10, output=5)))
    first = llm()
    second = copy.copy(first)
    agents = [agent(first), agent(second)]
    tasks = [crewai.Task(description="Do it", expected_output="text", agent=one) for one in agents]
    result = crewai.Crew(agents=agents, tasks=tasks).kickoff()
    assert server.count() == 2
    assert result.token_usage.total_tokens == 30
    assert (len(first.attempts), len(second.attempts)) == (1, 1)


def test_statistics_know_the_calls_of_crews(server: FaultServer, llm: Make, tmp_path: Any) -> None:
    server.script("a", "fine")
    before = set(threading.enumerate())
    llm().call("hi")
    bridges = [thread for thread in threading.enumerate() if thread.name == "flowcraft-bridge" and thread not in before]
    gc.collect()  # nobody holds the LLM: its thread ends, and saves what it knows
    for thread in bridges:
        thread.join(10)
    assert [thread.is_alive() for thread in bridges] == [False]
    manager = LLMManager(tmp_path / "settings.yaml")
    assert [(row.model, row.calls) for row in manager.statistics()] == [("a", 1)]
    manager.close()
