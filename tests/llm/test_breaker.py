"""The breaker of a model: when it opens, whom it lets through, what closes it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft.errors import AuthenticationFailed, ChainExhausted, CircuitOpen, InvalidRequest, ProviderUnavailable
from flowcraft.llm.health import BreakerRules, HealthBoard, ModelHealth

pytestmark = pytest.mark.unit


def now() -> float:
    return asyncio.get_running_loop().time()


def calls(health: ModelHealth, *verdicts: str, at: float = 0.0) -> None:
    for verdict in verdicts:
        health.leave(health.enter(at), verdict, at, why="ProviderUnavailable")  # type: ignore[arg-type]


def test_four_failures_do_not_open_it_and_the_fifth_does() -> None:
    health = ModelHealth()
    calls(health, "bad", "bad", "bad", "bad")
    assert health.blocked(0) == ""
    calls(health, "bad")
    assert health.blocked(1) == "its breaker is open for 29 s more after ProviderUnavailable"
    with pytest.raises(CircuitOpen):
        health.enter(1)


def test_fewer_failures_than_half_do_not_open_it() -> None:
    health = ModelHealth()
    calls(health, *["good"] * 6, *["bad"] * 5)
    assert health.blocked(0) == ""
    calls(health, "bad")
    assert health.blocked(0)


def test_failures_of_more_than_a_minute_ago_are_forgotten() -> None:
    health = ModelHealth()
    calls(health, *["bad"] * 4)
    calls(health, "bad", at=62)
    assert health.blocked(62) == ""


def test_errors_that_say_nothing_of_health_do_not_count() -> None:
    health = ModelHealth()
    calls(health, *["none"] * 20, *["bad"] * 4)
    assert health.blocked(0) == ""


def test_half_open_it_lets_one_probe_through() -> None:
    health = ModelHealth()
    calls(health, "fatal")
    assert health.enter(30) is True
    with pytest.raises(CircuitOpen, match="probing"):
        health.enter(30)
    health.leave(True, "good", 31)
    assert health.enter(31) is False


def test_a_probe_that_fails_opens_it_again() -> None:
    health = ModelHealth()
    calls(health, "fatal")
    calls(health, "bad", at=30)
    assert "for 30 s more" in health.blocked(30)


def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    health = ModelHealth()
    late = health.enter(0)
    calls(health, "fatal")
    health.leave(late, "good", 1)
    assert health.blocked(1)
    health.leave(late, "bad", 29)
    assert health.blocked(30) == ""


def test_its_rules_can_be_set() -> None:
    health = ModelHealth(BreakerRules(calls=2, share=1.0, window=10, open=5))
    calls(health, "bad", "bad")
    assert health.blocked(4)
    assert not health.blocked(5)


def test_the_board_keeps_one_for_each_model_and_tells_which_are_open() -> None:
    board = HealthBoard()
    assert board.of("p:a") is board.of("p:a")
    calls(board.of("p:b"), "fatal")
    assert list(board.blocked(0)) == ["p:b"]


@pytest.mark.parametrize("error", [AuthenticationFailed("401")])
async def test_a_refused_key_opens_it_at_once_for_that_model_alone(staged: Any, error: Any) -> None:
    stage = staged({"a": [error], "b": ["hello"]})
    await stage.chain.chat("hi")
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "skipped"), ("b", "ok")]
    assert "its breaker is open for 30 s more after AuthenticationFailed" in response.attempts[0].message


async def test_a_model_that_keeps_failing_is_left_alone_by_every_chain(staged: Any) -> None:
    stage = staged({"a": [ProviderUnavailable("503")], "b": ["hello"]}, retries=0)
    for _ in range(5):
        await stage.chain.chat("hi")
    other = staged({"a": ["unseen"], "b": ["hello"]}, shop=stage.shop)
    assert (await other.chain.chat("hi")).text == "hello"
    assert [model for model, _ in other.fake.asked] == ["b"]


async def test_further_tries_end_when_it_opens(staged: Any) -> None:
    stage = staged({"a": [ProviderUnavailable("503")]}, retries=20)
    with pytest.raises(ChainExhausted) as caught:
        await stage.chain.chat("hi")
    assert stage.outcomes(caught.value.attempts) == [("a", "ProviderUnavailable")] * 5


async def test_a_model_that_recovered_is_used_again_after_one_probe(staged: Any) -> None:
    stage = staged({"a": [AuthenticationFailed("401"), "back"], "b": ["hello"]})
    await stage.chain.chat("hi")
    await asyncio.sleep(30)
    assert (await stage.chain.chat("hi")).text == "back"
    assert (await stage.chain.chat("hi")).text == "back"


async def test_while_one_call_probes_the_others_go_elsewhere(staged: Any, acts: Any) -> None:
    stage = staged({"a": [AuthenticationFailed("401"), acts.slow(5, "back")], "b": ["hello"]})
    await stage.chain.chat("hi")
    await asyncio.sleep(30)
    answers = await asyncio.gather(*(stage.chain.chat("hi") for _ in range(3)))
    assert sorted(response.text for response in answers) == ["back", "hello", "hello"]


async def test_a_refused_request_does_not_open_it(staged: Any) -> None:
    stage = staged({"a": [InvalidRequest("400")]})
    for _ in range(10):
        with pytest.raises(ChainExhausted):
            await stage.chain.chat("hi")
    assert stage.shop.health.of("fake:a").blocked(now()) == ""
