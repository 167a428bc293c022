"""Rate limits: waiting in order, giving back, and going on to the next model where there is no time to wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flowcraft.errors import ChainExhausted, ProviderUnavailable, StoreError
from flowcraft.llm.ports import Caller, Hold, Want
from flowcraft.llm.rules import LimitRules
from flowcraft.llm.sharing.budgets import expected_usage
from flowcraft.llm.sharing.gates import Limiter
from flowcraft.llm.sharing.limits import pace
from flowcraft.llm.sharing.stores import MemoryLimits, Stores
from flowcraft.plugin import ChatRequest, ChatResponse, Message, ModelInfo, Scope, Usage

pytestmark = pytest.mark.unit

BEGINNING = 1_700_000_000.0
ANSWER = ChatResponse(text="hello", usage=Usage(input=60, output=40))


def ticking() -> Callable[[], float]:
    loop = asyncio.get_running_loop()
    return lambda: BEGINNING + loop.time()


def most_in(seconds: float, times: Sequence[float]) -> int:
    """The most calls that began in any window of so many seconds; the clock is exact to a millisecond."""
    return max(sum(begin <= time < begin + seconds - 0.001 for time in times) for begin in times)


@pytest.mark.parametrize("limit", [1, 7, 60, 600])
async def test_no_minute_sees_more_requests_than_the_limit_and_none_fewer_than_it_may(staged: Any, limit: int) -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()
    stage = staged(
        {"a": [ANSWER]}, clock=ticking(), limits={"a": LimitRules(requests_per_minute=limit)}, deadline=1e6, timeout=1e6
    )

    async def caller(number: int) -> None:
        response = await stage.chain.chat(str(number))
        times.append(response.attempts[0].started - BEGINNING)

    await asyncio.gather(*(caller(number) for number in range(3 * limit)))
    at_once = max(1, limit // 10)
    assert most_in(60, times) <= limit
    assert sum(time < 0.001 for time in times) == at_once
    assert loop.time() == pytest.approx((3 * limit - at_once) * 60 / (limit - at_once + 1), abs=1)


async def test_who_came_first_is_served_first_and_waiting_is_no_latency(staged: Any) -> None:
    stage = staged(
        {"a": [ANSWER]}, clock=ticking(), limits={"fake:a": LimitRules(requests_per_minute=6)}, deadline=1e6, timeout=1e6
    )
    responses = await asyncio.gather(*(stage.chain.chat(str(number)) for number in range(5)))

    assert [request.last_text for _, request in stage.fake.asked] == ["0", "1", "2", "3", "4"]
    waits = [response.attempts[0].wait for response in responses]
    assert waits == pytest.approx([0, 10, 20, 30, 40], abs=0.5)
    assert all(response.attempts[0].seconds < 0.1 and response.seconds < 0.1 for response in responses)


async def test_where_the_wait_does_not_fit_the_next_model_is_asked(staged: Any) -> None:
    limits = {"a": LimitRules(requests_per_minute=1)}
    stage = staged({"a": [ANSWER], "b": ["from b"]}, clock=ticking(), limits=limits, timeout=20, deadline=40)
    await stage.chain.chat("first")
    second = await stage.chain.chat("second")

    assert second.text == "from b"
    assert second.attempts[0].outcome == "skipped"
    assert second.attempts[0].message == (
        "the limit of fake:a is reached (requests per minute: it may be asked again in 60 s), "
        "which is longer than this attempt may wait"
    )
    assert asyncio.get_running_loop().time() < 1, "nobody waits in vain"


async def test_who_stands_too_far_behind_in_the_queue_does_not_wait_either(staged: Any) -> None:
    limits = {"a": LimitRules(requests_per_minute=6)}
    stage = staged({"a": [ANSWER], "b": ["from b"]}, clock=ticking(), limits=limits, timeout=25, deadline=1e6)
    answers = await asyncio.gather(*(stage.chain.chat(str(number)) for number in range(8)))

    assert [answer.model for answer in answers] == ["a"] * 3 + ["b"] * 5
    assert asyncio.get_running_loop().time() < 21


async def test_a_chain_whose_last_model_is_at_its_limit_says_so_within_its_deadline(staged: Any) -> None:
    limits = {"a": LimitRules(requests_per_minute=1)}
    stage = staged({"a": [ANSWER]}, clock=ticking(), limits=limits, timeout=20, deadline=40)
    await stage.chain.chat("first")
    with pytest.raises(ChainExhausted, match="the limit of fake:a is reached"):
        await stage.chain.chat("second")
    assert asyncio.get_running_loop().time() < 41


async def test_tokens_are_reserved_and_what_was_not_used_is_given_back(staged: Any) -> None:
    limits = {"a": LimitRules(tokens_per_minute=10_000)}
    info = ModelInfo(model="a", provider="fake", max_output=4_000)
    stage = staged({"a": [ANSWER]}, infos={"a": info}, clock=ticking(), limits=limits, deadline=1e6, timeout=1e6)
    for _ in range(100):
        await stage.chain.chat("hi")

    # 100 calls of 100 tokens are one minute's worth, however much was reserved for each.
    assert 50 < asyncio.get_running_loop().time() < 80


async def test_many_at_once_take_no_more_tokens_than_their_minutes_have(staged: Any, acts: Any) -> None:
    limits = {"a": LimitRules(tokens_per_minute=6_000)}
    info = ModelInfo(model="a", provider="fake", max_output=40)
    stage = staged(
        {"a": [acts.slow(0.5, ANSWER)]}, infos={"a": info}, clock=ticking(), limits=limits, deadline=1e6, timeout=1e6
    )
    text = "x" * 200
    responses = await asyncio.gather(*(stage.chain.chat(text) for _ in range(200)))
    times = [response.attempts[0].started for response in responses]

    reserved = expected_usage(ChatRequest(messages=(Message.user(text),)), info).total
    assert reserved <= 100 <= 1.2 * reserved, "a call may take a little more than was reserved for it"
    assert most_in(60, times) * 100 <= 6_000 * 1.1
    assert asyncio.get_running_loop().time() > 150


async def test_never_more_at_a_time_than_may_be(staged: Any, acts: Any) -> None:
    running = peak = 0

    class Counting(acts.fake):
        async def play(self, act: Any) -> ChatResponse:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(1)
            running -= 1
            return await super().play(act)

    stage = staged(
        {"a": [ANSWER]}, kind=Counting, clock=ticking(), limits={"a": LimitRules(concurrent=3)}, deadline=1e6, timeout=1e6
    )
    await asyncio.gather(*(stage.chain.chat(str(number)) for number in range(30)))
    assert peak == 3
    assert 9.9 < asyncio.get_running_loop().time() < 11


async def test_the_place_of_a_stream_is_held_until_it_ends_and_free_when_it_is_closed(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.cut("one ", then=acts.hang), ANSWER]}, clock=ticking(), limits={"a": LimitRules(concurrent=1)})
    stream = stage.chain.stream("first")
    await anext(stream)
    second = asyncio.create_task(stage.chain.chat("second"))
    await asyncio.sleep(5)
    assert not second.done()
    await stream.aclose()
    response = await second
    assert response.text == "hello"
    assert response.attempts[0].wait == pytest.approx(5, abs=0.5)


async def test_long_calls_keep_their_place(staged: Any, acts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft.llm.sharing.gates.RENEW", 0.01)
    renewed = threading.Event()

    class Renewing(MemoryLimits):
        def renew(self, calls: Sequence[str], now: float) -> None:
            super().renew(calls, now)
            renewed.set()

    stage = staged(
        {"a": [acts.slow(1, ANSWER)]},
        stores=Stores(limits=Renewing()),
        clock=ticking(),
        limits={"a": LimitRules(concurrent=1)},
    )
    task = asyncio.create_task(stage.chain.chat("hi"))
    await asyncio.to_thread(renewed.wait, 60)
    assert renewed.is_set()
    await task
    stage.shop.limiter.close()


def test_a_place_that_nobody_renews_is_free_again() -> None:
    store, wants = MemoryLimits(), [Want(name="m", concurrent=1)]
    assert store.take(Caller(id="killed", tokens=0, since=0), wants, 100.0) is None
    later = Caller(id="later", tokens=0, since=101.0)
    assert store.take(later, wants, 101.0) == Hold(name="m", unit="concurrent", seconds=0.0)
    store.renew(["killed"], 120.0)
    assert store.take(later, wants, 149.0) is not None
    assert store.take(later, wants, 150.0) is None


def test_who_waited_longer_gets_the_next_place() -> None:
    store, wants = MemoryLimits(), [Want(name="m", concurrent=1)]
    assert store.take(Caller(id="first", tokens=0, since=0), wants, 0.0) is None
    assert store.take(Caller(id="second", tokens=0, since=1), wants, 1.0) is not None
    store.leave("first")
    newcomer = Caller(id="third", tokens=0, since=1.5)
    assert store.take(newcomer, wants, 1.5) is not None, "the place is the second's"
    assert store.take(Caller(id="second", tokens=0, since=1), wants, 2.0) is None
    store.leave("second")
    assert store.take(newcomer, wants, 2.5) is None


async def test_who_is_cancelled_while_he_waits_has_taken_nothing(staged: Any) -> None:
    limits = {"a": LimitRules(requests_per_minute=6, concurrent=5)}
    stage = staged({"a": [ANSWER]}, clock=ticking(), limits=limits, deadline=1e6, timeout=1e6)
    await stage.chain.chat("first")
    waiting = [asyncio.create_task(stage.chain.chat(str(number))) for number in range(20)]
    await asyncio.sleep(1)
    for task in waiting:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*waiting, return_exceptions=True))
    response = await stage.chain.chat("last")
    assert response.attempts[0].wait == pytest.approx(9, abs=0.5)


async def test_a_call_that_was_never_made_is_given_back(staged: Any) -> None:
    limits = {"a": LimitRules(requests_per_minute=6)}
    stage = staged({"a": [ProviderUnavailable("down")]}, clock=ticking(), limits=limits, retries=0, deadline=1e6, timeout=1e6)
    for _ in range(5):
        with pytest.raises(ChainExhausted):
            await stage.chain.chat("hi")
    began = asyncio.get_running_loop().time()
    with pytest.raises(ChainExhausted, match="breaker is open"):
        await stage.chain.chat("hi")
    assert len(stage.fake.asked) == 5
    assert asyncio.get_running_loop().time() - began <= 10


@pytest.mark.parametrize("names", [("a", "fake:a"), ("fake:a", "a")])
async def test_of_a_model_that_is_limited_under_several_names_the_least_holds(staged: Any, names: tuple[str, str]) -> None:
    rules = [LimitRules(requests_per_minute=60), LimitRules(requests_per_minute=1, concurrent=2)]
    stage = staged({"a": [ANSWER]}, clock=ticking(), limits=dict(zip(names, rules, strict=True)), deadline=40)
    await stage.chain.chat("first")
    with pytest.raises(ChainExhausted, match="the limit of fake:a is reached"):
        await stage.chain.chat("second")


async def test_a_limit_of_a_provider_is_shared_by_its_models(staged: Any) -> None:
    stage = staged(
        {"a": [ANSWER], "b": ["from b"]}, clock=ticking(), limits={"fake": LimitRules(requests_per_minute=1)}, deadline=40
    )
    await stage.chain.chat("first")
    with pytest.raises(ChainExhausted) as failed:
        await stage.chain.chat("second")
    assert ["the limit of fake is reached" in attempt.message for attempt in failed.value.attempts] == [True, True]


async def test_offline_and_models_without_a_limit_never_wait(staged: Any) -> None:
    stage = staged({"a": [ANSWER]}, clock=ticking(), limits={"other": LimitRules(requests_per_minute=1)})
    for _ in range(5):
        assert (await stage.chain.chat("hi")).attempts[0].wait == 0
    assert asyncio.get_running_loop().time() < 0.1


async def test_a_store_that_fails_keeps_nobody_from_asking(staged: Any) -> None:
    class Down(MemoryLimits):
        def take(self, caller: Caller, wants: Sequence[Want], now: float) -> Hold | None:
            raise StoreError("the database is locked")

    stage = staged(
        {"a": [ANSWER]}, stores=Stores(limits=Down()), clock=ticking(), limits={"a": LimitRules(requests_per_minute=1)}
    )
    for _ in range(3):
        assert (await stage.chain.chat("hi")).text == "hello"
    assert "limits cannot be counted for now, models are asked without them: the database is locked" in stage.warnings


@pytest.mark.parametrize("back", [10.0, 100.0, 3_000.0, 5_000.0, 1e6])
@pytest.mark.parametrize("unit", ["requests", "tokens"])
def test_a_clock_that_is_set_back_stops_nobody_for_long(unit: str, back: float) -> None:
    store, wants = MemoryLimits(), [Want(name="m", **{unit: pace(60)})]
    for number in range(6):
        assert store.take(Caller(id=str(number), tokens=1, since=0), wants, BEGINNING) is None
    now = BEGINNING - back
    while (hold := store.take(Caller(id="later", tokens=1, since=0), wants, now)) is not None:
        now += max(hold.seconds, 0.001)
    assert now - (BEGINNING - back) <= (100 if unit == "requests" else 3_700)


def test_a_call_of_very_many_tokens_is_earned_back_within_the_hour() -> None:
    store, wants = MemoryLimits(), [Want(name="m", tokens=pace(1_000))]
    assert store.take(Caller(id="long", tokens=1_000_000, since=0), wants, BEGINNING) is None
    hold = store.take(Caller(id="next", tokens=1_000, since=0), wants, BEGINNING)
    assert hold == Hold(name="m", unit="tokens", seconds=3_600)


def test_waiters_of_several_loops_and_threads_share_one_gate() -> None:
    wants = (Want(name="m", concurrent=2),)
    limiter = Limiter()
    gate = limiter.gate(wants)
    lock, running, peaks = threading.Lock(), [0], [0]

    async def one() -> None:
        entry = await gate.enter(0, Scope())
        with lock:
            running[0] += 1
            peaks[0] = max(peaks[0], running[0])
        await asyncio.sleep(0.001)
        with lock:
            running[0] -= 1
        await gate.leave(entry, 1, 0)

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(40)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert (running, peaks) == ([0], [2])
    limiter.close()


def test_a_loop_that_died_with_a_waiter_blocks_nobody() -> None:
    limiter = Limiter()
    gate = limiter.gate((Want(name="m", concurrent=1),))
    loop = asyncio.new_event_loop()
    entered = loop.run_until_complete(gate.enter(0, Scope()))
    waiting = loop.create_task(gate.enter(0, Scope()))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.run_until_complete(gate.leave(entered, 1, 0))
    limiter._store.leave(entered.call)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    limiter._store = MemoryLimits()

    assert asyncio.run(asyncio.wait_for(gate.enter(0, Scope()), 30)).counted
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    limiter.close()
