"""The face of a chain: what one may ask with, what it fills in, what it says of itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.attempts import Usage
from flowcraft.llm.base import rescoped
from flowcraft.llm.chain import ChainLabels
from flowcraft.llm.prices import cost
from flowcraft.plugin import LLM, ChatRequest, ChatResponse, Message, ModelInfo, Price, Scope, collect

pytestmark = pytest.mark.unit


async def test_text_messages_mappings_and_requests_are_questions(staged: Any) -> None:
    stage = staged({"a": ["hello"]})
    mapping = {"role": "user", "content": "hi"}
    for question in (
        "hi",
        Message.user("hi"),
        [Message.user("hi")],
        mapping,
        [mapping],
        ChatRequest(messages=(Message.user("hi"),)),
    ):
        assert (await stage.chain.chat(question)).text == "hello"
    assert {request.messages for _, request in stage.fake.asked} == {(Message.user("hi"),)}


@pytest.mark.parametrize("question", [{"role": "robot", "content": "hi"}, {"role": "user"}, [{"role": "user", "content": 7}]])
async def test_what_is_no_message_is_refused(staged: Any, question: Any) -> None:
    with pytest.raises(TypeError, match="a message is"):
        await staged({"a": ["hello"]}).chain.chat(question)


async def test_params_fill_in_what_the_request_leaves_open(staged: Any) -> None:
    stage = staged({"a": ["hello"]}, params={"temperature": 0.1, "seed": 7, "stop": "END"})
    await stage.chain.chat("hi", temperature=0.9)
    await stage.chain.chat(ChatRequest(messages=(Message.user("hi"),), temperature=0.5), max_tokens=10)
    first, second = (request for _, request in stage.fake.asked)
    assert (first.temperature, first.seed, first.stop) == (0.9, 7, ("END",))
    assert (second.temperature, second.seed, second.stop, second.max_tokens) == (0.5, 7, ("END",), 10)


async def test_what_one_vendor_has_is_filled_in_too(staged: Any) -> None:
    stage = staged({"a": ["hello"]}, params={"extra": {"min_p": 0.05}})
    await stage.chain.chat("hi")
    await stage.chain.chat(ChatRequest(messages=(Message.user("hi"),)))
    await stage.chain.chat(ChatRequest(messages=(Message.user("hi"),), extra={"grammar": "root ::= x"}))
    told = [request.extra for _, request in stage.fake.asked]
    assert told == [{"min_p": 0.05}, {"min_p": 0.05}, {"min_p": 0.05, "grammar": "root ::= x"}]


async def test_an_unknown_param_is_refused(staged: Any) -> None:
    with pytest.raises(TypeError, match="unknown parameter 'temprature'"):
        await staged({"a": ["hello"]}).chain.chat("hi", temprature=1)


async def test_attempts_and_records_carry_where_they_belong(staged: Any) -> None:
    stage = staged({"a": ["hello"]}, models=[("primary", "a")])
    scope = Scope(run="r1", path="ask#1")
    response = await stage.chain.chat(ChatRequest(messages=(Message.user("hi"),), scope=scope))
    record = stage.sink.records[0]
    assert (record.stage, record.task, record.run, record.path) == ("review", "coding", "r1", "ask#1")
    assert record.attempt == response.attempts[0]
    assert (record.attempt.role, record.attempt.started) == ("primary", 1_700_000_000.0)


async def test_a_request_can_be_asked_twice(staged: Any) -> None:
    stage = staged({"a": ["hello"]})
    request = ChatRequest(messages=(Message.user("hi"),))
    assert len((await stage.chain.chat(request)).attempts) == 1
    assert len((await stage.chain.chat(request)).attempts) == 1
    assert request.scope.ledger == []


async def test_answers_are_named_timed_and_priced(staged: Any, acts: Any) -> None:
    info = ModelInfo(model="a", provider="fake", price=Price(input=0.5, output=2.0))
    stage = staged({"a": [acts.slow(3, "hello")]}, infos={"a": info})
    response = await stage.chain.chat("hi")
    assert (response.model, response.provider, response.seconds, response.usd) == ("a", "fake", 3, 2.5)
    assert response.spent_usd == 2.5


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_provider_loads_first_is_no_models_time(staged: Any, acts: Any, streamed: bool) -> None:
    stage = staged({"a": [acts.slow(3, "hello")]}, kind=acts.heavy)
    response = await (collect(stage.chain.stream("hi")) if streamed else stage.chain.chat("hi"))
    assert asyncio.get_running_loop().time() == 10
    assert (response.seconds, response.attempts[0].seconds) == (3, 3)
    response = await stage.chain.chat("hi")
    assert asyncio.get_running_loop().time() == 13


async def test_a_price_that_the_provider_tells_holds(staged: Any) -> None:
    info = ModelInfo(model="a", provider="fake", price=Price(input=0.5, output=2.0))
    stage = staged({"a": [ChatResponse(text="hello", usd=0.25)]}, infos={"a": info})
    assert (await stage.chain.chat("hi")).usd == 0.25


def test_cached_tokens_have_prices_of_their_own() -> None:
    usage = Usage(input=1_000_000, cached=400_000, cache_write=100_000, output=1_000_000)
    assert cost(usage, Price(input=10, output=20)) == pytest.approx(30)
    assert cost(usage, Price(input=10, output=20, cached=1, cache_write=12)) == pytest.approx(5 + 0.4 + 1.2 + 20)
    assert cost(usage, None) is None


def test_a_chain_lacks_a_thing_only_if_all_its_models_do(staged: Any, info_of: Any) -> None:
    infos = {"a": info_of("a", tools=False, images=False), "b": info_of("b", tools=True, images=False, seed=True)}
    known = staged({"a": ["-"], "b": ["-"]}, infos=infos).chain.capabilities()
    assert (known.tools, known.images, known.seed, known.logprobs) == (True, False, True, None)


def test_the_fingerprint_is_that_of_the_chain_as_written(staged: Any) -> None:
    def fingerprint(scripts: Any, **spec: Any) -> str:
        return staged(scripts, **spec).chain.fingerprint

    ab = {"a": ["-"], "b": ["-"]}
    assert fingerprint(ab) == fingerprint(ab)
    assert fingerprint(ab) == fingerprint(ab, labels=ChainLabels(stage="other"))
    assert len({fingerprint(ab), fingerprint({"b": ["-"], "a": ["-"]}), fingerprint(ab, params={"seed": 1})}) == 3


def test_a_chain_is_an_llm_and_tells_its_links(staged: Any) -> None:
    chain = staged({"a": ["-"]}, models=[("primary", "a"), ("reserve", "x"), ("fallback", "a")]).chain
    assert isinstance(chain, LLM)
    assert [(link.role, link.info.id, link.skip) for link in chain.links] == [
        ("primary", "fake:a", ""),
        ("reserve", "nowhere:x", "its provider has no key"),
    ]


def test_a_chain_may_be_confined(staged: Any) -> None:
    scripts = {"a": ["-"], "b": ["-"], "c": ["-"]}
    chain = staged(scripts, allow=frozenset({"a", "fake:c"})).chain
    assert [link.info.model for link in chain.links] == ["a", "c"]
    assert len(staged(scripts, allow=frozenset({"fake"})).chain.links) == 3


def test_rescoping_is_the_contracts_within_but_faster() -> None:
    request = ChatRequest(messages=(Message.user("hi"),), seed=7, scope=Scope(run="r", deadline=5.0))
    mine, theirs = rescoped(request, until=3.0, last=True), request.within(until=3.0, last=True)
    assert mine == theirs
    assert mine.scope == theirs.scope == replace(request.scope, until=3.0, last=True)
    assert mine.scope.ledger is request.scope.ledger


async def test_many_answers_at_once_keep_their_stories_apart(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(2, "hello")]})
    answers = await asyncio.gather(*(stage.chain.chat("hi") for _ in range(50)))
    assert {len(response.attempts) for response in answers} == {1}
