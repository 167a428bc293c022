"""The tool loop: a model calls tools until it answers; what goes wrong with a call is told to the model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft import LLMManager, Toolbox
from flowcraft.errors import BudgetExceeded, ChainExhausted, LLMError, ProviderUnavailable
from flowcraft.llm.tool_calls import LONGEST_RESULT, carry_out, result_text
from flowcraft.llm.tool_loop import run_tools
from flowcraft.plugin import ChatRequest, ChatResponse, Message, Text, Tool, ToolCall, ToolResult, ToolSpec, Usage
from flowcraft.settings import Settings
from flowcraft.testing import FakeProvider

pytestmark = pytest.mark.api

ONE = Usage(input=10, output=1)


def calling(*calls: tuple[str, str]) -> ChatResponse:
    parts = tuple(ToolCall(id=f"id{place}", name=name, arguments=text) for place, (name, text) in enumerate(calls))
    return ChatResponse(parts=parts, finish_reason="tool_calls", usage=ONE)


def results(request: ChatRequest) -> list[ToolResult]:
    return [part for part in request.messages[-1].parts if isinstance(part, ToolResult)]


class Asked:
    """A manager over a scripted provider, and what it was asked."""

    def __init__(self, tmp_path: Any, *steps: Any) -> None:
        self.fake = FakeProvider(*steps)
        fake = self.fake

        class Scripted(FakeProvider):
            def __init__(self, config: Any = None, *, section: str = "", timeouts: Any = None) -> None:
                super().__init__(section=section, timeouts=timeouts)
                self.asked, self._scripts = fake.asked, fake._scripts

        given: dict[str, Any] = {"storage": f"sqlite:///{tmp_path}/x.db", "providers": {"fake": {}}}
        llm = {"model_roles": {"primary": ["fake:one", "fake:two"]}, "retry_attempts": 0}
        self.manager = LLMManager(Settings(**given, llm=llm))
        self.manager.register_provider("fake", Scripted)

    async def ask(self, *tools: Any, **options: Any) -> ChatResponse:
        async with self.manager as manager:
            return await manager.llm().use_tools("Hello", Toolbox(*tools), **options)


@pytest.fixture
def asked(tmp_path):
    return lambda *steps: Asked(tmp_path, *steps)


def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


async def test_model_gets_the_tools_and_their_results_until_it_answers(asked):
    given = asked(calling(("add", '{"first": 1, "second": 2}')), calling(("add", '{"first": 3, "second": 4}')), "It is 7.")

    response = await given.ask(add)

    first, second, third = given.fake.requests
    assert response.text == "It is 7."
    assert [spec.name for spec in first.tools] == ["add"]
    assert [result.content for result in results(second)] == ["3"]
    assert [result.content for result in results(third)] == ["7"]
    assert [message.role for message in third.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert response.extra["tools"] == {"turns": 3, "calls": 2}


async def test_usage_and_attempts_are_those_of_all_questions(asked):
    answer = ChatResponse(text="Done", usage=ONE)
    response = await asked(calling(("add", '{"first": 1, "second": 2}')), answer).ask(add)

    assert response.usage == Usage(input=20, output=2)
    assert [attempt.outcome for attempt in response.attempts] == ["ok", "ok"]


async def test_calls_of_one_turn_run_at_once_and_keep_their_order(asked):
    both = asyncio.Barrier(2)

    async def slow(name: str) -> str:
        await both.wait()
        return name

    given = asked(calling(("slow", '{"name": "a"}'), ("slow", '{"name": "b"}')), "Done")

    assert (await given.ask(slow)).text == "Done"
    assert [(result.id, result.content) for result in results(given.fake.requests[1])] == [("id0", "a"), ("id1", "b")]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("ad", "{}"), "there is no tool 'ad'; did you mean 'add'?"),
        (("add", '{"first": "one", "second": 2}'), "the arguments do not fit: first: 'one' is not of type 'integer'"),
        (("add", '{"first": 1}'), "'second' is a required property"),
        (("add", '{"first": 1, "second": 2, "third": 3}'), "'third' was unexpected"),
        (("add", '{"first": '), "the arguments are no JSON"),
        (("add", "[1, 2]"), "the arguments must be a JSON object"),
        (("fail", "{}"), "RuntimeError: no network"),
        (("leave", "{}"), "SystemExit: 3"),
    ],
)
async def test_what_is_wrong_with_a_call_is_told_to_the_model(asked, call, told):
    def fail() -> None:
        raise RuntimeError("no network")

    def leave() -> None:
        raise SystemExit(3)

    given = asked(calling(call), "I see.")

    assert (await given.ask(add, fail, leave)).text == "I see."
    (result,) = results(given.fake.requests[1])
    assert result.error
    assert told in result.content


async def test_budget_that_is_spent_inside_a_tool_ends_the_loop(asked):
    def spend() -> None:
        raise BudgetExceeded("nothing left")

    with pytest.raises(BudgetExceeded):
        await asked(calling(("spend", "{}")), "never").ask(spend)


async def test_loop_that_does_not_end_fails_after_25_questions(asked):
    given = asked(calling(("add", '{"first": 1, "second": 2}')))

    with pytest.raises(LLMError, match=r"still calls tools \(add\) after 25 turns") as raised:
        await given.ask(add)

    assert given.fake.count() == 25
    assert len(raised.value.attempts) == 25


async def test_model_that_answered_is_asked_again(asked):
    given = asked()
    given.fake.script("one", ProviderUnavailable("down"), "from one")
    given.fake.script("two", calling(("add", '{"first": 1, "second": 2}')), "from two")

    assert (await given.ask(add)).text == "from two"
    assert [one.model for one in given.fake.asked] == ["one", "two", "two"]


async def test_error_of_the_chain_tells_the_attempts_of_all_questions(asked):
    given = asked(calling(("add", '{"first": 1, "second": 2}')), ProviderUnavailable("down"))

    with pytest.raises(ChainExhausted) as raised:
        await given.ask(add)

    assert [attempt.outcome for attempt in raised.value.attempts] == ["ok", "ProviderUnavailable", "ProviderUnavailable"]


async def test_choice_that_demands_a_call_demands_it_once(asked):
    given = asked(calling(("add", '{"first": 1, "second": 2}')), "Done")

    await given.ask(add, tool_choice="required")

    assert [request.tool_choice for request in given.fake.requests] == ["required", None]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (None, "null"),
        (Text(text="x"), '{"text":"x","cache":false}'),
    ],
)
def test_result_is_text_or_json(value, text):
    assert result_text(value) == text


def test_result_that_is_too_long_is_cut_and_says_so():
    text = result_text("x" * (LONGEST_RESULT + 1234))

    assert text.startswith("x" * LONGEST_RESULT)
    assert text.endswith("\n[1,234 of 101,234 characters are left out]")


async def test_synchronous_tool_runs_on_a_thread():
    import threading

    async def result(call):
        return await carry_out({"where": Tool(spec=ToolSpec(name="where"), call=threading.get_ident)}, call)

    assert (await result(ToolCall(id="1", name="where"))).content != str(threading.get_ident())


class Scripted:
    """An LLM of a few answers."""

    def __init__(self, *answers: ChatResponse) -> None:
        self.answers = list(answers)
        self.requests: list[ChatRequest] = []

    async def chat(self, request: ChatRequest) -> ChatResponse:
        self.requests.append(request)
        return self.answers.pop(0)

    def stream(self, request: ChatRequest) -> Any:
        raise AssertionError("nobody streams here")


def noting(name: str, effect: Any, log: list[str], *, untrusted: bool = False) -> Tool:
    return Tool(spec=ToolSpec(name=name), call=lambda: log.append(name), effect=effect, untrusted=untrusted)


async def gated(allowed, *calls: str) -> tuple[list[str], list[ToolResult]]:
    log: list[str] = []
    tools = [noting("look", "read", log), noting("fetch", "read", log, untrusted=True), noting("put", "write", log)]
    tools.append(noting("post", "external", log))
    llm = Scripted(*(calling((name, "{}")) for name in calls), ChatResponse(text="Done"))
    await run_tools(llm, ChatRequest(messages=(Message.user("Go"),)), tools, allowed=allowed)
    return log, [result for request in llm.requests[1:] for result in results(request)]


async def test_tools_that_write_or_reach_out_are_refused_once_others_had_a_say():
    log, told = await gated((), "put", "fetch", "look", "put", "post")

    assert log == ["put", "fetch", "look"]
    assert [result.error for result in told] == [False, False, False, True, True]
    assert told[3].content == "error: 'put' writes, which is refused since 'fetch' brought in what others wrote"


async def test_what_is_allowed_beforehand_is_not_refused():
    assert (await gated(("put",), "fetch", "put", "post"))[0] == ["fetch", "put"]
    assert (await gated(None, "fetch", "put", "post"))[0] == ["fetch", "put", "post"]


async def test_what_reached_out_has_brought_in_what_others_wrote():
    assert (await gated((), "post", "put"))[0] == ["post"]


async def test_call_and_use_come_from_outside():
    seen: list[Any] = []

    async def call(turn, request):
        seen.append(("call", turn))
        return calling(("add", "{}"), ("add", "{}")) if turn == 1 else ChatResponse(text="Done")

    async def use(turn, place, wish):
        seen.append(("use", turn, place))
        return ToolResult(id=wish.id, content="3")

    request = ChatRequest(messages=(Message.user("Go"),))
    response = await run_tools(Scripted(), request, [Tool(spec=ToolSpec(name="add"), call=add)], call=call, use=use)

    assert response.text == "Done"
    assert seen == [("call", 1), ("use", 1, 0), ("use", 1, 1), ("call", 2)]
