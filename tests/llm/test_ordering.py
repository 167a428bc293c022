"""In which order models are asked: by time, by price, by verdicts; asked anew for every answer."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from flowcraft.attempts import Attempt
from flowcraft.llm.base import Link
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.ordering import best, cheapest, fastest
from flowcraft.llm.ports import CallRecord, VerdictRecord
from flowcraft.plugin import ModelInfo, Price
from flowcraft.plugin.chat import Scope

pytestmark = pytest.mark.unit


def links(models: str, prices: Any = None) -> list[Link]:
    return [Link(llm=None, info=ModelInfo(model=model, provider="p", price=(prices or {}).get(model))) for model in models]


def names(found: Any) -> str:
    return "".join(link.info.model for link in found)


def called(
    model: str, seconds: float = 1.0, number: int = 1, stage: str = "", task: str = "", **attempt: Any
) -> list[CallRecord]:
    made = Attempt(**{"model": model, "provider": "p", "role": "primary", "seconds": seconds, **attempt})
    return [CallRecord(id=f"{model}{seconds}{index}", attempt=made, stage=stage, task=task) for index in range(number)]


def judged(first: str, second: str, winner: Any, number: int = 1, **labels: str) -> list[VerdictRecord]:
    ids = (f"{first}{second}{winner}{index}{labels}" for index in range(number))
    return [VerdictRecord(id=id, time=0.0, first=f"p:{first}", second=f"p:{second}", winner=winner, **labels) for id in ids]


def knowing(*records: list[Any]) -> Statistics:
    statistics = Statistics()
    for record in (one for some in records for one in some):
        if isinstance(record, VerdictRecord):
            statistics.judged(record)
        else:
            statistics.record(record)
    return statistics


async def share_of_first(statistics: Statistics, models: str, scope: Scope | None = None) -> dict[str, float]:
    order = fastest(statistics, Random(1))
    counted = Counter([names(await order(links(models), scope or Scope()))[0] for _ in range(1000)])
    return {model: counted[model] / 1000 for model in models}


async def test_without_any_call_models_stay_as_listed() -> None:
    assert names(await fastest(Statistics(), Random(1))(links("bca"), Scope())) == "bca"


async def test_fast_models_come_first_mostly_and_the_others_now_and_then() -> None:
    share = await share_of_first(knowing(called("a", 2.0, 20), called("b", 1.0, 20), called("c", 4.0, 20)), "abc")
    assert share["b"] > 0.95
    few = await share_of_first(knowing(called("a", 1.3, 2), called("b", 1.0, 2), called("c", 2.0, 2)), "abc")
    assert 0.5 < few["b"] < 0.9
    assert few["a"] > few["c"] > 0


async def test_what_nobody_tried_is_tried() -> None:
    share = await share_of_first(knowing(called("a", 1.0, 50)), "ab")
    assert 0.25 < share["b"] < 0.75


async def test_a_model_that_mostly_fails_comes_behind_a_slower_one_that_answers() -> None:
    late = called("a", 30.0, 10, outcome="ProviderTimeout")
    share = await share_of_first(knowing(called("a", 1.0, 20), late, called("b", 4.0, 20)), "ab")
    assert share["b"] > 0.9


async def test_failing_at_once_does_not_make_a_model_look_fast() -> None:
    down = called("a", 0.001, 20, outcome="ProviderUnavailable")
    statistics = knowing(called("a", 3.0, 20), down, called("b", 1.0, 20))
    assert (await share_of_first(statistics, "ab"))["b"] > 0.95


@pytest.mark.parametrize("outcome", ["InvalidRequest", "ContextTooLong", "ContentFiltered", "cancelled", "BudgetExceeded"])
async def test_what_is_not_the_models_fault_says_nothing_of_it(outcome: str) -> None:
    calls = (called("a", 1.0, 10), called("b", 2.0, 10))
    told = knowing(*calls, called("a", 60.0, 20, outcome=outcome))
    assert told.speed([("p", "a"), ("p", "b")]) == knowing(*calls).speed([("p", "a"), ("p", "b")])


async def test_what_models_do_as_judges_says_nothing_of_how_they_answer() -> None:
    calls = (called("a", 1.0, 10, stage="s"), called("b", 2.0, 10, stage="s"))
    told = knowing(*calls, called("a", 60.0, 20, role="judge", stage="s"))
    assert told.speed([("p", "a"), ("p", "b")], "s") == knowing(*calls).speed([("p", "a"), ("p", "b")], "s")


async def test_a_call_lost_to_a_faster_one_counts_as_at_least_as_long_as_it_had_taken() -> None:
    lost = {"outcome": "cancelled", "message": "another model answered first"}
    (slow,) = knowing(called("a", 1.0, 10), called("a", 9.0, 10, **lost)).speed([("p", "a")]).models
    (same,) = knowing(called("a", 1.0, 10), called("a", 0.1, 10, **lost)).speed([("p", "a")]).models
    (answered,) = knowing(called("a", 1.0, 10), called("a", 9.0, 10)).speed([("p", "a")]).models
    assert slow.mean == pytest.approx(answered.mean)
    assert (same.mean, same.ok, same.failed) == (0.0, slow.ok, 0.0)
    assert slow.ok < answered.ok


async def test_a_stage_and_a_task_stand_on_their_own_once_they_have_enough_calls() -> None:
    general = [called("a", 1.0, 200), called("b", 3.0, 200)]
    models = [("p", "a"), ("p", "b")]
    few = knowing(*general, called("a", 9.0, 14, stage="s", task="t"), called("b", 1.0, 15, stage="s", task="t"))
    assert few.speed(models, "s", "t").basis == "all"
    few.record(called("a", 9.0, stage="s")[0])
    assert (few.speed(models, "s", "t").basis, few.speed(models, "s", "t").calls) == ("stage", 30)
    assert few.speed(models, "", "t").basis == "all"
    few.record(called("a", 9.0, stage="other", task="t")[0])
    assert few.speed(models, "other", "t").basis == "task"
    assert (await share_of_first(few, "ab", Scope(stage="s")))["b"] > 0.9
    assert few.speed(models).basis == "all"


async def test_models_of_long_and_short_stages_are_compared_within_stages() -> None:
    # a is twice as fast wherever both were asked, but has mostly been asked where answers are long.
    long = [called("a", 10.0, 18, stage="long"), called("b", 20.0, 2, stage="long")]
    short = [called("b", 2.0, 18, stage="short"), called("a", 1.0, 2, stage="short")]
    statistics = knowing(*long, *short)
    known = statistics.speed([("p", "a"), ("p", "b")], "new")
    a, b = known.models
    assert known.basis == "all"
    assert b.mean - a.mean == pytest.approx(0.693, abs=0.05)
    assert (await share_of_first(statistics, "ab"))["a"] > 0.9


async def test_cheap_models_come_first_and_unknown_prices_last() -> None:
    prices = {"a": None, "b": Price(input=1, output=5), "c": Price(input=3, output=1)}
    assert names(await cheapest(links("abc", prices), Scope())) == "cba"


async def test_the_best_come_first_by_verdicts_and_unjudged_ones_as_the_mean() -> None:
    statistics = knowing(judged("b", "a", "first", 9), judged("a", "b", "first", 1))
    assert names(await best(statistics)(links("ab"), Scope())) == "ba"
    assert names(await best(statistics)(links("acb"), Scope())) == "bca"
    assert names(await best(Statistics())(links("cab"), Scope())) == "cab"


async def test_verdicts_of_the_stage_or_the_task_go_before_all_others() -> None:
    general = judged("b", "a", "first", 20)
    statistics = knowing(general, judged("a", "b", "first", 5, stage="s"), judged("a", "b", "first", 5, task="t"))
    assert names(await best(statistics)(links("ab"), Scope())) == "ba"
    assert names(await best(statistics)(links("ab"), Scope(stage="s"))) == "ab"
    assert names(await best(statistics)(links("ab"), Scope(task="t"))) == "ab"


async def test_the_order_is_asked_for_at_every_answer_and_within_roles_alone(staged: Any) -> None:
    scripts = {name: [name] for name in "abcd"}
    models = [("primary", "a"), ("primary", "b"), ("reserve", "c"), ("reserve", "d")]
    stage = staged(scripts, models=models, order="fastest", offline=["made up"])
    statistics = stage.shop.statistics
    assert (await stage.chain.chat("hi")).text == "a"
    for model, seconds in {"a": 9.0, "b": 1.0, "c": 0.1, "d": 0.01}.items():
        for record in called(model, seconds, 30, provider="fake"):
            statistics.record(record)
    stage.shop.random.seed(1)
    assert [(await stage.chain.chat("hi")).text for _ in range(20)].count("b") >= 18


async def test_a_chain_can_go_by_verdicts(staged: Any) -> None:
    stage = staged({"a": ["a"], "b": ["b"]}, order="best")
    assert (await stage.chain.chat("hi")).text == "a"
    for number in range(5):
        verdict = VerdictRecord(id=str(number), time=0.0, first="fake:b", second="fake:a", winner="first")
        stage.shop.statistics.judged(verdict)
    assert (await stage.chain.chat("hi")).text == "b"


async def test_offline_is_never_ordered(staged: Any) -> None:
    stage = staged({"a": ["a"]}, order="fastest", offline=["made up"], models=[("primary", "offline"), ("primary", "a")])
    for _ in range(20):
        assert (await stage.chain.chat("hi")).text == "a"
