"""Hedge: the next model runs beside one that is late, the first to answer wins, nobody is left behind. In virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from flowcraft.errors import AuthenticationFailed, BudgetExceeded, ChainExhausted, ContextTooLong, ProviderUnavailable
from flowcraft.llm.knowledge.statistics import percentile
from flowcraft.llm.ports import LOST
from flowcraft.llm.rules import BudgetRules, HedgeRules, LimitRules
from flowcraft.plugin import ChatRequest, ChatResponse, Price, TextDelta, Usage, collect

pytestmark = pytest.mark.unit

ALWAYS = HedgeRules(max_share=1.0)
UNTOUCHED = {"name": "hedge", "hedged": False, "lost": []}


def now() -> float:
    return asyncio.get_running_loop().time()


async def learned(
    staged: Any, acts: Any, scripts: Any, *, streamed: bool = False, answers: int = 20, saved: int = 0, **options: Any
) -> Any:
    """Return a chain that hedges, and whose first two models are known to answer in a second.

    ``saved`` is how many hedges it may make besides its share.
    """
    known = list(scripts)[:2]
    teacher = staged({name: [acts.slow(1, "hello")] for name in known}, retries=0)
    for name in known:
        for _ in range(answers):
            request = ChatRequest(messages=()).within(prefer=f"fake:{name}")
            await (collect(teacher.chain.stream(request)) if streamed else teacher.chain.chat(request))
    teacher.shop.hedges.earn(saved)
    return staged(scripts, shop=teacher.shop, **{"strategy": "hedge", "hedge": ALWAYS, "retries": 0, **options})


def nobody_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_next_model_is_asked_when_one_is_late(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(60, "late")], "b": [acts.slow(2, "hello")]})
    began = now()
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert now() - began == 3
    assert stage.outcomes(response.attempts) == [("b", "ok"), ("a", "cancelled")]
    lost = response.attempts[1]
    assert (lost.message, lost.seconds) == (LOST, 3)
    assert response.extra["strategy"] == {"name": "hedge", "hedged": True, "lost": ["fake:a"]}
    assert nobody_is_left()


async def test_one_that_answers_in_its_time_is_asked_alone(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(0.9, "hello")], "b": ["no"]})
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "ok")]
    assert response.extra["strategy"] == UNTOUCHED


async def test_who_waits_for_a_limit_is_not_late(staged: Any, acts: Any) -> None:
    limits = {"a": LimitRules(requests_per_minute=6)}
    scripts = {"a": [acts.slow(0.5, "hello")], "b": ["no"]}
    stage = await learned(staged, acts, scripts, limits=limits, clock=asyncio.get_running_loop().time)
    for waited in (0.0, 10.0):
        began = now()
        response = await stage.chain.chat("hi")
        assert response.extra["strategy"] == UNTOUCHED
        assert [(told.model, told.outcome) for told in response.attempts] == [("a", "ok")]
        assert now() - began == pytest.approx(max(waited - 0.5, 0) + 0.5, abs=0.1)


async def test_who_waited_for_a_limit_is_late_behind_it(staged: Any, acts: Any) -> None:
    limits = {"a": LimitRules(requests_per_minute=6)}
    scripts = {"a": [acts.slow(0.5, "hello"), acts.slow(60, "late")], "b": ["hello"]}
    stage = await learned(staged, acts, scripts, limits=limits, clock=asyncio.get_running_loop().time)
    await stage.chain.chat("hi")
    began = now()
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("b", "ok"), ("a", "cancelled")]
    assert now() - began == pytest.approx(9.5 + 1, abs=0.1)
    assert response.attempts[1].seconds == pytest.approx(1, abs=0.1)


async def test_one_that_is_late_wins_if_it_answers_first(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(1.5, "hello")], "b": [acts.slow(1, "no")]})
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert response.extra["strategy"] == {"name": "hedge", "hedged": True, "lost": ["fake:b"]}


async def test_while_too_few_answers_are_known_nobody_is_late(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(60, "hello")], "b": ["no"]}, strategy="hedge", hedge=ALWAYS)
    for _ in range(19):
        assert (await stage.chain.chat("hi")).text == "hello"
    assert [model for model, _ in stage.fake.asked] == ["a"] * 19


async def test_answers_teach_streams_nothing(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(20, "hello")], "b": ["no"]})
    assert (await collect(stage.chain.stream("hi"))).text == "hello"


async def test_a_model_that_fails_is_followed_at_once(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [ProviderUnavailable("503")], "b": ["hello"]})
    began = now()
    response = await stage.chain.chat("hi")
    assert now() == began
    assert stage.outcomes(response.attempts) == [("a", "ProviderUnavailable"), ("b", "ok")]
    assert response.extra["strategy"] == UNTOUCHED


async def test_a_hedge_that_fails_is_followed_by_the_next(staged: Any, acts: Any) -> None:
    scripts = {"a": [acts.slow(60, "late")], "b": [AuthenticationFailed("401")], "c": [acts.slow(3, "hello")]}
    stage = await learned(staged, acts, scripts, saved=1)
    began = now()
    response = await stage.chain.chat("hi")
    assert (response.text, now() - began) == ("hello", 4)
    assert response.extra["strategy"]["lost"] == ["fake:a"]


async def test_a_hedge_outlives_the_failure_of_the_first(staged: Any, acts: Any) -> None:
    scripts = {"a": [acts.slow(2, ProviderUnavailable("503"))], "b": [acts.slow(1.5, "hello")], "c": ["no"]}
    stage = await learned(staged, acts, scripts)
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert [model for model, _ in stage.fake.asked] == ["a", "b"]
    assert response.extra["strategy"] == {"name": "hedge", "hedged": True, "lost": []}


async def test_the_third_is_asked_when_the_second_is_late_too(staged: Any, acts: Any) -> None:
    scripts = {"a": [acts.hang], "b": [acts.hang], "c": ["hello"]}
    stage = await learned(staged, acts, scripts, saved=1)
    began = now()
    response = await stage.chain.chat("hi")
    assert now() - began == 2
    assert response.extra["strategy"]["lost"] == ["fake:a", "fake:b"]
    assert nobody_is_left()


async def test_when_all_fail_the_error_tells_every_attempt(staged: Any, acts: Any) -> None:
    scripts = {"a": [acts.slow(5, ProviderUnavailable("503"))], "b": [acts.slow(2, AuthenticationFailed("401"))]}
    stage = await learned(staged, acts, scripts)
    with pytest.raises(ChainExhausted) as caught:
        await stage.chain.chat("hi")
    assert stage.outcomes(caught.value.attempts) == [("b", "AuthenticationFailed"), ("a", "ProviderUnavailable")]


async def test_what_cannot_answer_is_skipped_as_in_any_chain(staged: Any, acts: Any, info_of: Any) -> None:
    stage = await learned(
        staged,
        acts,
        {"a": [acts.hang], "b": ["no"], "c": [ContextTooLong("8000")], "d": ["small"], "e": ["large"]},
        infos={
            "b": info_of("b", logprobs=False),
            "c": info_of("c", context=4096),
            "d": info_of("d", context=4096),
            "e": info_of("e", context=100_000),
        },
        models=[("primary", "a"), ("primary", "x"), *(("reserve", name) for name in "bcde")],
        saved=1,
    )
    response = await stage.chain.chat("hi", logprobs=True)
    assert response.text == "large"
    told = {attempt.model: attempt.outcome for attempt in response.attempts}
    assert told == {"x": "skipped", "b": "skipped", "c": "ContextTooLong", "e": "ok", "a": "cancelled"}


async def test_no_more_than_its_share_of_answers_is_hedged(staged: Any, acts: Any) -> None:
    scripts = {"a": [acts.slow(5, "slow")], "b": ["quick"]}
    stage = await learned(staged, acts, scripts, answers=300, hedge=HedgeRules(max_share=0.25))
    told = [(await stage.chain.chat("hi")).text for _ in range(12)]
    assert told == ["slow", "slow", "slow", "quick"] * 3
    response = await stage.chain.chat("hi")
    assert [attempt.message for attempt in response.attempts if attempt.outcome == "skipped"] == [
        "no hedge: max_share of all answers were hedged already"
    ]


async def test_chains_share_the_share(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(5, "slow")], "b": ["quick"]}, hedge=HedgeRules(max_share=0.5))
    other = staged(
        {"a": [acts.slow(5, "slow")], "b": ["quick"]}, shop=stage.shop, strategy="hedge", hedge=HedgeRules(max_share=0.5)
    )
    assert [(await chain.chat("hi")).text for chain in (stage.chain, other.chain, stage.chain)] == ["slow", "quick", "slow"]


async def test_without_a_share_it_is_a_plain_chain(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(5, "slow")], "b": ["quick"]}, hedge=HedgeRules(max_share=0.0))
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "ok")]


async def test_the_offline_model_is_no_hedge(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(5, "hello")]}, offline=["made up"])
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert stage.outcomes(response.attempts) == [("a", "ok")]


async def test_a_hedge_that_costs_too_much_is_left_out(staged: Any, acts: Any) -> None:
    scripts = {"a": [acts.slow(5, "hello")], "b": ["no"]}
    stage = await learned(staged, acts, scripts, budget=BudgetRules(calls_per_day=1))
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert stage.outcomes(response.attempts) == [("b", "skipped"), ("a", "ok")]
    assert response.attempts[0].message.startswith("no hedge: ")


async def fifteen_dollars(staged: Any, acts: Any, info_of: Any, failure: Exception) -> Any:
    """Return a chain that may spend 15 USD, of models that take 10 a call; the first is late, then fails."""
    scripts = {"a": [acts.slow(5, failure)], "b": ["hello"]}
    infos = {name: replace(info_of(name), price=Price(input=0.0, output=1_000_000.0)) for name in scripts}
    return await learned(staged, acts, scripts, infos=infos, budget=BudgetRules(usd_per_day=15))


async def test_a_call_that_somebody_waits_for_may_cost_too_much(staged: Any, acts: Any, info_of: Any) -> None:
    stage = await fifteen_dollars(staged, acts, info_of, ProviderUnavailable("cut", usage=Usage(output=10)))
    with pytest.raises(BudgetExceeded):
        await stage.chain.chat("hi", max_tokens=10)
    assert [model for model, _ in stage.fake.asked] == ["a"]
    assert nobody_is_left()


async def test_what_was_too_much_as_a_hedge_is_asked_when_the_first_has_failed(staged: Any, acts: Any, info_of: Any) -> None:
    stage = await fifteen_dollars(staged, acts, info_of, ProviderUnavailable("503"))
    response = await stage.chain.chat("hi", max_tokens=10)
    assert stage.outcomes(response.attempts) == [("b", "skipped"), ("a", "ProviderUnavailable"), ("b", "ok")]


async def test_cancellation_from_outside_ends_all_and_says_nothing(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.hang], "b": [acts.hang]})
    task = asyncio.ensure_future(stage.chain.chat("hi"))
    await asyncio.sleep(1.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nobody_is_left()
    cut = [record.attempt for record in stage.sink.records]
    assert [(attempt.outcome, attempt.message) for attempt in cut] == [("cancelled", "")] * 2


async def test_the_deadline_holds_for_all(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.hang], "b": [acts.hang]}, timeout=100, deadline=10)
    began = now()
    with pytest.raises(ChainExhausted) as caught:
        await stage.chain.chat("hi")
    assert now() - began == 10
    assert stage.outcomes(caught.value.attempts) == [("a", "ProviderTimeout"), ("b", "ProviderTimeout")]


# -- streams


async def test_a_stream_that_begins_first_goes_on_alone(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.hang], "b": [acts.slow(2, "hello you")]}, streamed=True)
    seen: list[str] = []
    async with stage.chain.stream("hi") as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                seen.append(event.text)
                assert stage.fake.closed == ["a"]
                assert nobody_is_left()
    assert seen == ["hello", "you"]
    assert stream.response.extra["strategy"] == {"name": "hedge", "hedged": True, "lost": ["fake:a"]}
    assert [attempt.message for attempt in stream.response.attempts] == [LOST, ""]


async def test_of_two_that_begin_at_once_one_is_closed_as_lost(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(3, "first one")], "b": [acts.slow(2, "other one")]}, streamed=True)
    async with stage.chain.stream("hi") as stream:
        assert await anext(stream) == TextDelta("first")
        assert stage.fake.closed == ["b"]
        await collect(stream)
    lost = [record.attempt for record in stage.sink.records if record.attempt.model == "b"]
    assert [(attempt.outcome, attempt.message) for attempt in lost] == [("cancelled", LOST)]
    assert [attempt.outcome for attempt in stream.response.attempts] == ["cancelled", "ok"]


async def test_a_winner_that_its_reader_leaves_was_not_beaten(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.hang], "b": ["hello you"]}, streamed=True)
    async with stage.chain.stream("hi") as stream:
        await anext(stream)
    told = {record.attempt.model: record.attempt.message for record in stage.sink.records}
    assert told == {"a": LOST, "b": ""}
    assert sorted(stage.fake.closed) == ["a", "b"]


async def test_a_reader_that_is_cancelled_while_nobody_has_begun_leaves_nothing(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.hang], "b": [acts.hang]}, streamed=True)
    task = asyncio.ensure_future(collect(stage.chain.stream("hi")))
    await asyncio.sleep(1.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nobody_is_left()
    assert stage.fake.closed == ["a", "b"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancellation_while_losers_let_go_waits_for_them(staged: Any, acts: Any, streamed: bool) -> None:
    class Slowly(acts.fake):  # type: ignore[misc, name-defined]
        async def play(self, act: Any) -> ChatResponse:
            try:
                return await super().play(act)
            except asyncio.CancelledError:
                await asyncio.sleep(4)
                self.left = now()
                raise

    stage = await learned(staged, acts, {"a": [acts.hang], "b": ["hello you"]}, streamed=streamed, kind=Slowly)
    began = now()
    task = asyncio.ensure_future(collect(stage.chain.stream("hi")) if streamed else stage.chain.chat("hi"))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.fake.left - began == 5
    assert nobody_is_left()
    assert stage.fake.closed == (["a", "b"] if streamed else [])


# -- what it is for


class Tail:
    """Models that take about 20 ms, one call in fifty 2 s; each call is drawn anew."""

    def __init__(self, acts: Any, seed: int) -> None:
        self._acts = acts
        self._random = Random(seed)

    def draw(self) -> Any:
        slow = self._random.random() < 0.02
        return self._acts.slow(2.0 if slow else self._random.lognormvariate(-3.93, 0.15), "hello")


async def tail(staged: Any, acts: Any, seed: int, strategy: str, *, streamed: bool = False) -> tuple[float, int]:
    """Return the 99th percentile of 3,000 answers, and how many calls they took."""
    drawn = Tail(acts, seed)

    class Drawn(acts.fake):  # type: ignore[misc, name-defined]
        def next_of(self, model: str, request: ChatRequest) -> Any:
            super().next_of(model, request)
            return drawn.draw()

    stage = staged({"a": [""], "b": [""]}, kind=Drawn, strategy=strategy, retries=0)
    took = []
    for _ in range(3000):
        began = now()
        await (collect(stage.chain.stream("hi")) if streamed else stage.chain.chat("hi"))
        took.append(now() - began)
    return percentile(sorted(took), 0.99) or 0.0, len(stage.fake.asked)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_the_longest_answers_are_shorter_at_the_cost_of_few_calls(
    staged: Any, acts: Any, seed: int, streamed: bool
) -> None:
    plain, calls = await tail(staged, acts, seed, "single", streamed=streamed)
    hedged, more = await tail(staged, acts, seed, "hedge", streamed=streamed)
    assert calls == 3000
    assert plain >= 5 * hedged
    assert more <= 1.06 * calls
