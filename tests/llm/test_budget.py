"""Budgets: reserve before, settle after, refuse what has no room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from flowcraft.errors import BudgetExceeded, ChainExhausted, ProviderUnavailable, StoreError
from flowcraft.llm.ports import Spending, SpendingLine
from flowcraft.llm.rules import BudgetRules
from flowcraft.llm.sharing.budgets import USUAL_OUTPUT, expected_usage, figure
from flowcraft.llm.sharing.stores import MemorySpending, Stores
from flowcraft.plugin import ChatRequest, ChatResponse, Message, ModelInfo, Price, ReasoningSpec, Scope, TextDelta, Usage

pytestmark = pytest.mark.unit

DAY = "day:2023-11-14"
PRICE = Price(input=1.0, output=2.0)
MODEL = ModelInfo(model="a", provider="fake", price=PRICE, max_output=1_000)
ANSWER = ChatResponse(text="hello", usage=Usage(input=100, output=50))
COST = (100 * 1.0 + 50 * 2.0) / 1e6


def asked(text: str = "hi", **scope: Any) -> ChatRequest:
    return ChatRequest(messages=(Message.user(text),), scope=Scope(**scope))


def spent(stores: Stores) -> dict[tuple[str, str], float]:
    return {(row.scope, row.unit): row.spent for row in stores.spending.spending()}


async def test_a_call_is_reserved_and_then_settled_to_what_it_cost(staged: Any, acts: Any) -> None:
    stores = Stores()
    rules = BudgetRules(usd_per_day=1, tokens_per_day=10_000, calls_per_day=5)
    stage = staged({"a": [acts.slow(1.0, ANSWER)]}, infos={"a": MODEL}, stores=stores, budget=rules)
    task = asyncio.create_task(stage.chain.chat(asked()))
    await asyncio.sleep(0.5)
    usage = expected_usage(asked(), MODEL)

    assert spent(stores) == {
        (DAY, "usd"): pytest.approx((usage.input * 1.0 + 1_000 * 2.0) / 1e6),
        (DAY, "tokens"): usage.input + 1_000,
        (DAY, "calls"): 1,
    }
    response = await task
    assert response.usd == pytest.approx(COST)
    assert spent(stores) == {(DAY, "usd"): pytest.approx(COST), (DAY, "tokens"): 150, (DAY, "calls"): 1}


async def test_a_refusal_names_the_budget_and_ends_the_answer_at_once(staged: Any) -> None:
    stores = Stores()
    stores.spending.settle([SpendingLine(scope=DAY, unit="usd", amount=4.98, limit=5)])
    stage = staged(
        {"a": [ANSWER], "b": ["never"]},
        infos={"a": ModelInfo(model="a", provider="fake", price=Price(input=0, output=50), max_output=1_000)},
        stores=stores,
        budget=BudgetRules(usd_per_day=5, tokens_per_day=100_000),
    )
    with pytest.raises(BudgetExceeded) as refused:
        await stage.chain.chat(asked())

    assert refused.value.message == (
        "usd_per_day: 4.98 of 5 USD spent or reserved today (UTC); this call may cost up to 0.05; "
        "it is free again at midnight UTC, in 1 h 47 min"
    )
    assert stage.fake.asked == []
    assert spent(stores) == {(DAY, "usd"): 4.98}, "the tokens that were reserved with it were given back"
    with pytest.raises(BudgetExceeded):
        async with stage.chain.stream(asked()) as stream:
            await anext(stream)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            BudgetRules(usd_per_day=0.0005),
            "usd_per_day: 0 of 0.0005 USD spent or reserved today (UTC); this call may cost up to 0.00201, "
            "more than all of it; set max_tokens, or raise it",
        ),
        (BudgetRules(calls_per_day=0), "calls_per_day: 0 of 0 calls spent or reserved today (UTC); raise it"),
    ],
)
async def test_what_never_fits_is_not_put_off_until_tomorrow(staged: Any, rules: BudgetRules, told: str) -> None:
    stage = staged({"a": [ANSWER]}, infos={"a": MODEL}, budget=rules)
    with pytest.raises(BudgetExceeded) as refused:
        await stage.chain.chat(asked())
    assert refused.value.message == told


@pytest.mark.parametrize("key", ["ann", "team:ann", "a b: ж"])
async def test_a_refusal_names_the_whole_key(staged: Any, key: str) -> None:
    stage = staged({"a": [ANSWER]}, budget=BudgetRules(calls_per_key=1))
    await stage.chain.chat(asked(key=key))
    with pytest.raises(BudgetExceeded) as refused:
        await stage.chain.chat(asked(key=key))
    assert f"by key {key!r};" in refused.value.message


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "0"), (5, "5"), (4.98, "4.98"), (4.99996, "5"), (0.05, "0.05"), (0.00123456, "0.00123"), (0.0000612, "0.0000612")],
)
def test_amounts_are_shown_as_people_read_them(amount: float, shown: str) -> None:
    assert figure(amount) == shown


async def test_budgets_of_run_day_and_key_are_counted_apart(staged: Any) -> None:
    stores = Stores()
    rules = BudgetRules(calls_per_run=2, calls_per_day=10, calls_per_key=3)
    stage = staged({"a": [ANSWER]}, stores=stores, budget=rules)
    for run, key in (("r1", "ann"), ("r1", "ann"), ("r2", "ann"), ("", ""), ("r2", "bob")):
        await stage.chain.chat(asked(run=run, key=key))

    assert spent(stores) == {
        ("run:r1", "calls"): 2,
        ("run:r2", "calls"): 2,
        (DAY, "calls"): 5,
        ("key:ann:2023-11-14", "calls"): 3,
        ("key:bob:2023-11-14", "calls"): 1,
    }
    with pytest.raises(BudgetExceeded, match=r"calls_per_run: 2 of 2 calls spent or reserved in this run; raise it"):
        await stage.chain.chat(asked(run="r1", key="bob"))
    with pytest.raises(BudgetExceeded, match=r"calls_per_key: 3 of 3 calls spent or reserved today \(UTC\) by key 'ann'"):
        await stage.chain.chat(asked(key="ann"))


async def test_the_workflows_own_budget_acts_where_it_is_the_smaller_one(staged: Any) -> None:
    stores = Stores()
    stage = staged({"a": [ANSWER]}, stores=stores, budget=BudgetRules(calls_per_run=5))
    await stage.chain.chat(asked(run="r", budget={"calls": 1}))
    with pytest.raises(BudgetExceeded, match="the workflow's budget, calls: 1 of 1 calls"):
        await stage.chain.chat(asked(run="r", budget={"calls": 1}))
    plain = staged({"a": [ANSWER]}, stores=stores)
    with pytest.raises(BudgetExceeded, match="the workflow's budget, tokens"):
        await plain.chain.chat(asked(run="r", budget={"tokens": 10}))


async def test_every_retry_is_reserved_and_failures_that_cost_nothing_are_given_back(staged: Any) -> None:
    class Counting(MemorySpending):
        reserved = 0

        def reserve(self, lines: Sequence[SpendingLine]) -> Spending | None:
            self.reserved += 1
            return super().reserve(lines)

    stores = Stores(spending=Counting())
    down = ProviderUnavailable("down")
    stage = staged({"a": [down, down, ANSWER]}, stores=stores, budget=BudgetRules(calls_per_day=1), retries=2)
    response = await stage.chain.chat(asked())

    assert stores.spending.reserved == 3  # type: ignore[attr-defined]
    assert spent(stores)[DAY, "calls"] == 1
    assert [attempt.outcome for attempt in response.attempts] == ["ProviderUnavailable", "ProviderUnavailable", "ok"]


async def test_a_stream_is_settled_when_it_ends_and_when_it_is_closed_early(staged: Any, acts: Any) -> None:
    stores = Stores()
    rules = BudgetRules(tokens_per_day=100_000)
    stage = staged({"a": [ANSWER, acts.cut("one ", "two ", then=acts.hang)]}, infos={"a": MODEL}, stores=stores, budget=rules)
    async with stage.chain.stream(asked()) as stream:
        events = [event async for event in stream]
    assert events[-1].response.attempts[0].usage.total == 150
    assert spent(stores)[DAY, "tokens"] == 150

    async with stage.chain.stream(asked()) as stream:
        assert await anext(stream) == TextDelta("one ")
        assert spent(stores)[DAY, "tokens"] > 1_000
    cancelled = stage.sink.records[-1].attempt
    assert cancelled.outcome == "cancelled"
    assert spent(stores)[DAY, "tokens"] == 150 + cancelled.usage.total
    assert 0 < cancelled.usage.total < 100


async def test_a_call_over_midnight_is_settled_on_the_day_on_which_it_began(staged: Any, acts: Any) -> None:
    stores, loop = Stores(), asyncio.get_running_loop()
    midnight = 1_700_006_400.0
    rules = BudgetRules(tokens_per_day=2_000, calls_per_key=1)
    stage = staged(
        {"a": [acts.slow(10, ANSWER)]},
        infos={"a": MODEL},
        stores=stores,
        budget=rules,
        clock=lambda: midnight - 5 + loop.time(),
    )
    await asyncio.gather(stage.chain.chat(asked(key="ann")), asyncio.sleep(6))
    assert spent(stores) == {(DAY, "tokens"): 150, ("key:ann:2023-11-14", "calls"): 1}
    await stage.chain.chat(asked(key="ann"))
    assert spent(stores)["day:2023-11-15", "tokens"] == 150


async def test_a_call_that_is_cancelled_is_settled(staged: Any, acts: Any) -> None:
    stores = Stores()
    stage = staged({"a": [acts.hang]}, infos={"a": MODEL}, stores=stores, budget=BudgetRules(tokens_per_day=100_000))
    task = asyncio.create_task(stage.chain.chat(asked()))
    await asyncio.sleep(1)
    assert spent(stores)[DAY, "tokens"] > 1_000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert spent(stores)[DAY, "tokens"] == stage.sink.records[-1].attempt.usage.total < 100


async def test_who_is_cancelled_while_he_reserves_gives_everything_back(staged: Any) -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Slow(MemorySpending):
        def reserve(self, lines: Sequence[SpendingLine]) -> Spending | None:
            entered.set()
            assert go_on.wait(60)
            return super().reserve(lines)

    stores = Stores(spending=Slow())
    stage = staged({"a": [ANSWER]}, stores=stores, budget=BudgetRules(calls_per_day=1))
    task = asyncio.create_task(stage.chain.chat(asked()))
    await asyncio.to_thread(entered.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()

    assert spent(stores) == {(DAY, "calls"): 0}
    assert stage.fake.asked == []


async def test_fifty_callers_never_overspend_and_the_sums_are_exact(staged: Any, acts: Any) -> None:
    stores = Stores()
    limit = 20 * COST
    info = ModelInfo(model="a", provider="fake", price=PRICE, max_output=50)
    stage = staged({"a": [acts.slow(1.0, ANSWER)]}, infos={"a": info}, stores=stores, budget=BudgetRules(usd_per_day=limit))
    highest = 0.0

    async def caller() -> int:
        nonlocal highest
        try:
            await stage.chain.chat(asked("x" * 380))
        except BudgetExceeded:
            return 0
        finally:
            highest = max(highest, spent(stores)[DAY, "usd"])
        return 1

    answered = sum(await asyncio.gather(*(caller() for _ in range(50))))
    assert 0 < answered <= 20
    assert highest <= limit + 1e-9
    assert spent(stores)[DAY, "usd"] == pytest.approx(answered * COST, abs=1e-12)


async def test_an_unknown_price_counts_nothing_in_usd_and_is_said(staged: Any) -> None:
    stores = Stores()
    stage = staged({"a": [ANSWER]}, stores=stores, budget=BudgetRules(usd_per_day=0.0001, calls_per_day=2))
    await stage.chain.chat(asked())

    assert spent(stores) == {(DAY, "usd"): 0, (DAY, "calls"): 1}
    assert stage.warnings == ["the price of fake:a is not known: budgets in USD count nothing for it"]


async def test_where_nobody_tells_the_tokens_they_are_estimated(staged: Any) -> None:
    stores = Stores()
    stage = staged({"a": [ChatResponse(text="hello")]}, stores=stores, budget=BudgetRules(tokens_per_day=100_000))
    response = await stage.chain.chat(asked())
    told = response.attempts[0].usage.total

    assert spent(stores)[DAY, "tokens"] == (told or expected_usage(asked(), ModelInfo(model="a")).total) > 0


async def test_offline_answers_cost_nothing(staged: Any) -> None:
    stores = Stores()
    stage = staged(
        {"a": [ProviderUnavailable("down")]}, offline=["made up"], stores=stores, budget=BudgetRules(calls_per_day=1)
    )
    for _ in range(3):
        assert (await stage.chain.chat(asked())).offline
    assert spent(stores) == {(DAY, "calls"): 0}


async def test_a_store_that_fails_lets_nothing_be_spent_but_takes_no_answer_away(staged: Any) -> None:
    class Broken(MemorySpending):
        def settle(self, lines: Sequence[SpendingLine]) -> None:
            raise StoreError("the disk is full")

    stage = staged(
        {"a": [ANSWER]}, stores=Stores(spending=Broken()), infos={"a": MODEL}, budget=BudgetRules(tokens_per_day=9_999)
    )
    assert (await stage.chain.chat(asked())).text == "hello"
    assert stage.warnings == ["what calls cost cannot be settled for now, what was reserved counts: the disk is full"]

    class Down(MemorySpending):
        def reserve(self, lines: Sequence[SpendingLine]) -> Spending | None:
            raise StoreError("the database is locked")

    stage = staged({"a": [ANSWER]}, stores=Stores(spending=Down()), budget=BudgetRules(tokens_per_day=9_999))
    with pytest.raises(StoreError, match="locked"):
        await stage.chain.chat(asked())
    assert stage.fake.asked == []


async def test_without_a_budget_nothing_is_counted(staged: Any) -> None:
    stores = Stores()
    stage = staged({"a": [ANSWER]}, stores=stores)
    await stage.chain.chat(asked(run="r", key="k"))
    assert spent(stores) == {}


async def test_a_breaker_that_is_open_reserves_nothing(staged: Any) -> None:
    stores = Stores()
    stage = staged({"a": [ProviderUnavailable("down")]}, stores=stores, budget=BudgetRules(calls_per_day=1), retries=0)
    for _ in range(8):
        with pytest.raises(ChainExhausted):
            await stage.chain.chat(asked())
    assert len(stage.fake.asked) == 5
    assert spent(stores) == {(DAY, "calls"): 0}


@pytest.mark.parametrize(
    ("request_", "info", "output"),
    [
        ({"max_tokens": 7}, MODEL, 7),
        ({}, MODEL, 1_000),
        ({}, ModelInfo(model="a"), USUAL_OUTPUT),
        ({}, ModelInfo(model="a", max_output=128_000), 16_384),
        ({"max_tokens": 128_000}, ModelInfo(model="a", max_output=128_000), 128_000),
        ({"reasoning": ReasoningSpec(budget=5_000)}, MODEL, 6_000),
        ({"max_tokens": 7, "n": 3}, MODEL, 21),
    ],
)
def test_the_longest_answer_is_reserved(request_: dict[str, int], info: ModelInfo, output: int) -> None:
    assert expected_usage(ChatRequest(messages=(Message.user("hi"),), **request_), info).output == output
