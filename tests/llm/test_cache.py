"""The exact cache: what is kept, for how long, for whom; equal questions at once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.errors import ChainExhausted, ProviderUnavailable, StoreError
from flowcraft.llm.ports import KeptAnswer
from flowcraft.llm.sharing.answers import decoded, encoded
from flowcraft.llm.sharing.stores import MemoryAnswers, Stores
from flowcraft.plugin import (
    ChatRequest,
    ChatResponse,
    Done,
    Message,
    ReasoningDelta,
    Scope,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
    Usage,
)
from flowcraft.plugin.messages import Reasoning
from flowcraft.redaction import Redactor

pytestmark = pytest.mark.unit

FULL = ChatResponse(
    text="Да, 🙂",
    parts=(Reasoning(text="hm"), ToolCall(id="1", name="look", arguments='{"a": 1}')),
    usage=Usage(input=10, output=5),
    usd=0.25,
    logprobs=(TokenLogprob(token="Да", logprob=-0.5, bytes=b"\xd0"),),
    extra={"any": [1, {"type": "text"}]},
    finish_reason="tool_calls",
)


async def test_the_same_question_gets_the_same_answer_at_no_cost(staged: Any) -> None:
    stage = staged({"a": [FULL, "another"]}, cache=60.0)
    first = await stage.chain.chat("hi")
    second = await stage.chain.chat("hi")

    assert (first.cached, len(first.attempts)) == (False, 1)
    assert (second.cached, second.attempts, second.usd, second.spent_usd) == (True, (), 0.0, None)
    assert replace(second, cached=False, seconds=0, usd=0.25) == replace(first, attempts=(), seconds=0)
    assert len(stage.fake.asked) == len(stage.sink.records) == 1


@pytest.mark.parametrize(
    "other",
    [{"temperature": 0.5}, {"max_tokens": 3}, {"seed": 1}, {"extra": {"min_p": 0.1}}, {"stop": ("x",)}],
)
async def test_any_other_question_is_asked(staged: Any, other: dict[str, Any]) -> None:
    stage = staged({"a": ["one", "two"]}, cache=60.0)
    await stage.chain.chat("hi")
    assert (await stage.chain.chat("hi", **other)).text == "two"
    assert (await stage.chain.chat("hi ")).text == "two"


async def test_metadata_and_scope_make_no_other_question_but_avoided_models_do(staged: Any) -> None:
    stage = staged({"a": ["from a"], "b": ["from b"]}, cache=60.0)

    def asked(**given: Any) -> ChatRequest:
        scope = Scope(**{key: given.pop(key) for key in ("run", "stage", "avoid", "prefer") if key in given})
        return ChatRequest(messages=(Message.user("hi"),), scope=scope, **given)

    await stage.chain.chat(asked())
    assert (await stage.chain.chat(asked(metadata={"who": "me"}, run="r", stage="s"))).cached
    avoiding = await stage.chain.chat(asked(avoid=frozenset({"fake:a"})))
    assert (avoiding.text, avoiding.cached) == ("from b", False)
    assert (await stage.chain.chat(asked(prefer="fake:b"))).text == "from b"


async def test_another_chain_has_answers_of_its_own(staged: Any) -> None:
    stores = Stores()
    first = staged({"a": ["from a"]}, cache=60.0, stores=stores)
    other = staged({"b": ["from b"]}, cache=60.0, stores=stores)
    same = staged({"a": ["again"]}, cache=60.0, stores=stores)
    none = staged({"a": ["fresh"]}, stores=stores)
    await first.chain.chat("hi")

    assert (await other.chain.chat("hi")).text == "from b"
    assert (await same.chain.chat("hi")).text == "from a"
    assert (await none.chain.chat("hi")).text == "fresh"


async def test_answers_expire_and_a_shorter_time_sees_less(staged: Any) -> None:
    loop, stores = asyncio.get_running_loop(), Stores()

    def clock() -> float:
        return 1_700_000_000.0 + loop.time()

    stage = staged({"a": ["one", "two", "three"]}, cache=60.0, stores=stores, clock=clock)
    brief = staged({"a": ["brief"]}, cache=10.0, stores=stores, clock=clock)
    await stage.chain.chat("hi")
    await asyncio.sleep(30)
    assert (await stage.chain.chat("hi")).text == "one"
    assert (await brief.chain.chat("hi")).text == "brief"
    assert (await stage.chain.chat("hi")).text == "brief"
    await asyncio.sleep(61)
    assert (await stage.chain.chat("hi")).text == "two"


async def test_a_stream_is_kept_and_a_hit_is_replayed(staged: Any) -> None:
    stage = staged({"a": [FULL]}, cache=60.0)
    async with stage.chain.stream("hi") as stream:
        first = [event async for event in stream]
    async with stage.chain.stream("hi") as stream:
        again = [event async for event in stream]

    assert not first[-1].response.cached
    assert [type(event) for event in again if not isinstance(event, type(None))][:2] == [ReasoningDelta, TextDelta]
    assert ToolCallEvent(0, FULL.tool_calls[0]) in again
    assert isinstance(again[-1], Done)
    assert again[-1].response.cached
    assert "".join(event.text for event in again if isinstance(event, TextDelta)) == FULL.text
    assert len(stage.fake.asked) == 1
    assert (await stage.chain.chat("hi")).cached


async def test_a_stream_that_was_closed_early_is_not_kept(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("one ", then="one two"), "whole"]}, cache=60.0)
    async with stage.chain.stream("hi") as stream:
        await anext(stream)
    assert (await stage.chain.chat("hi")).text == "whole"


@pytest.mark.parametrize(
    "answer",
    [
        ChatResponse(text="half", finish_reason="cut"),
        ChatResponse(text="no", finish_reason="content_filter"),
        ChatResponse(text="I cannot", finish_reason="refusal"),
        ChatResponse(text="wait", finish_reason="pause"),
        ChatResponse(text="my key is secret-key-123"),
        ChatResponse(text="odd", extra={"object": object()}),
        ChatResponse(text="first", extra={"strategy": {"unjudged": "the judge did not answer"}}),
        ChatResponse(text="unsure", extra={"confidence": {"reached": False, "escalated": False}}),
    ],
    ids=lambda answer: answer.text,
)
async def test_what_is_not_to_be_given_again_is_not_kept(staged: Any, answer: ChatResponse) -> None:
    stage = staged({"a": [answer, "better"]}, cache=60.0, secrets=["secret-key-123"])
    assert (await stage.chain.chat("hi")).text == answer.text
    assert (await stage.chain.chat("hi")).text == "better"


async def test_neither_errors_nor_offline_answers_are_kept(staged: Any) -> None:
    stage = staged({"a": [ProviderUnavailable("down"), "up"]}, offline=["made up"], cache=60.0, retries=0)
    assert (await stage.chain.chat("hi")).offline
    assert (await stage.chain.chat("hi")).text == "up"


async def test_equal_questions_at_once_are_asked_once(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(5, "one"), "two"]}, cache=60.0)
    answers = await asyncio.gather(*(stage.chain.chat("hi") for _ in range(50)))

    assert {answer.text for answer in answers} == {"one"}
    assert sum(answer.cached for answer in answers) == 49
    assert sum(len(answer.attempts) for answer in answers) == len(stage.fake.asked) == 1


async def test_who_asked_and_is_cancelled_takes_no_answer_from_those_who_wait(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang, acts.slow(1, "answer")]}, cache=60.0)
    first = asyncio.create_task(stage.chain.chat("hi"))
    await asyncio.sleep(1)
    others = [asyncio.create_task(stage.chain.chat("hi")) for _ in range(10)]
    await asyncio.sleep(1)
    first.cancel()
    answers = await asyncio.gather(*others)

    assert first.cancelled()
    assert {answer.text for answer in answers} == {"answer"}
    assert len(stage.fake.asked) == 2
    cancelled = asyncio.create_task(stage.chain.chat("hi again"))
    await asyncio.sleep(0.5)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert (await stage.chain.chat("hi again")).text == "answer"


async def test_a_follower_who_is_cancelled_disturbs_nobody(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(5, "answer")]}, cache=60.0)
    first = asyncio.create_task(stage.chain.chat("hi"))
    await asyncio.sleep(1)
    second = asyncio.create_task(stage.chain.chat("hi"))
    third = asyncio.create_task(stage.chain.chat("hi"))
    await asyncio.sleep(1)
    second.cancel()
    assert (await first).text == (await third).text == "answer"
    assert second.cancelled()
    assert len(stage.fake.asked) == 1


async def test_a_failure_is_nobodys_but_ones_own(staged: Any, acts: Any) -> None:
    down = acts.slow(1, ProviderUnavailable("down"))
    stage = staged({"a": [down, "fine"]}, cache=60.0, retries=0)
    first, *others = await asyncio.gather(*(stage.chain.chat("hi") for _ in range(5)), return_exceptions=True)

    assert isinstance(first, ChainExhausted)
    assert [answer.text for answer in others] == ["fine"] * 4


async def test_nobody_waits_for_another_past_his_own_deadline(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(50, "late")]}, cache=60.0, deadline=100, timeout=100)
    first = asyncio.create_task(stage.chain.chat("hi"))
    await asyncio.sleep(1)
    with pytest.raises(ChainExhausted, match="an equal question, which was waited for"):
        await stage.chain.chat(ChatRequest(messages=(Message.user("hi"),), scope=Scope(deadline=10)))
    assert asyncio.get_running_loop().time() == pytest.approx(10, abs=0.1)
    assert (await first).text == "late"


async def test_who_had_less_time_takes_no_answer_from_those_who_have_more(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(30, "slow answer")]}, cache=60.0, deadline=100, timeout=100)
    hurried = ChatRequest(messages=(Message.user("hi"),), scope=Scope(deadline=10))
    first = asyncio.create_task(stage.chain.chat(hurried))
    await asyncio.sleep(1)
    others = [asyncio.create_task(stage.chain.chat("hi")) for _ in range(3)]
    with pytest.raises(ChainExhausted, match="no answer within 10 s"):
        await first
    assert {answer.text for answer in await asyncio.gather(*others)} == {"slow answer"}
    assert asyncio.get_running_loop().time() == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "no json",
        "[]",
        "null",
        '{"v": 9}',
        '{"v": 1, "type": "message", "role": "user"}',
        '{"v": 1, "type": "response", "text": 5}',
        '{"v": 1, "type": "response", "text": "x", "usage": 5}',
        '{"v": 1, "type": "response", "nothing": 1}',
        '{"v": 1, "type": "response", "parts": [{"type": "image", "data": "!"}]}',
        "[" * 10_000,
    ],
)
async def test_a_damaged_answer_is_asked_for_anew_and_replaced(staged: Any, damage: str) -> None:
    class Damaged(MemoryAnswers):
        def damage(self) -> None:
            key, (kept, expires) = next(iter(self._rows.items()))
            self._rows[key] = (replace(kept, response=damage), expires)

    answers = Damaged()
    stage = staged({"a": ["one", "two"]}, cache=60.0, stores=Stores(answers=answers))
    await stage.chain.chat("hi")
    answers.damage()
    assert (await stage.chain.chat("hi")).text == "two"
    assert (await stage.chain.chat("hi")).cached
    answers.damage()
    async with stage.chain.stream("hi") as stream:
        events = [event async for event in stream]
    assert not events[-1].response.cached


async def test_a_store_that_fails_keeps_nobody_from_an_answer(staged: Any) -> None:
    class Down(MemoryAnswers):
        def get(self, key: str, now: float) -> KeptAnswer | None:
            raise StoreError("locked")

        def put(self, key: str, response: str, now: float, expires: float) -> None:
            raise StoreError("full")

    stage = staged({"a": ["one"]}, cache=60.0, stores=Stores(answers=Down()))
    assert (await stage.chain.chat("hi")).text == "one"
    assert stage.warnings == ["kept answers cannot be read for now: locked", "answers cannot be kept for now: full"]


async def test_a_typed_answer_keeps_its_value(staged: Any) -> None:
    stage = staged({"a": ['{"n": 3}']}, cache=60.0)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    from flowcraft.plugin import OutputSpec

    for cached in (False, True):
        response = await stage.chain.chat("hi", output=OutputSpec(schema=schema))
        assert (response.parsed, response.cached) == ({"n": 3}, cached)


async def test_the_oldest_answers_give_way_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft.llm.sharing.stores.MOST_ANSWERS", 3)
    answers = MemoryAnswers()
    for number in range(5):
        answers.put(str(number), "{}", 1.0, 100.0)
    assert [answers.get(str(number), 2.0) is not None for number in range(5)] == [False, False, True, True, True]


def test_what_is_kept_comes_back_as_it_was() -> None:
    text = encoded(FULL, Redactor())
    assert text is not None
    assert json.loads(text)["type"] == "response"
    assert decoded(text) == FULL
