"""The failure table, row by row, and what the time does to it. All in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    CapabilityMissing,
    ChainExhausted,
    ContentFiltered,
    ContextTooLong,
    InvalidOutput,
    InvalidRequest,
    ModelNotFound,
    ModelNotLoaded,
    PluginError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)
from flowcraft.plugin import ChatRequest, ChatResponse, Image, Message, OutputSpec, Scope, Text, ToolSpec

pytestmark = pytest.mark.unit


def now() -> float:
    return asyncio.get_running_loop().time()


async def exhausted(stage: Any, **params: Any) -> ChainExhausted:
    with pytest.raises(ChainExhausted) as caught:
        await stage.chain.chat("hi", **params)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [AuthenticationFailed, QuotaExhausted, ModelNotFound, ModelNotLoaded, ContentFiltered, InvalidRequest, InvalidOutput],
)
async def test_a_failure_that_another_try_cannot_mend_goes_to_the_next_model_at_once(staged: Any, error: Any) -> None:
    stage = staged({"a": [error("no")], "b": ["hello"]}, repair=False)
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert stage.outcomes(response.attempts) == [("a", error.__name__), ("b", "ok")]
    assert now() == 0


async def test_an_unavailable_model_is_tried_again_and_then_the_next(staged: Any) -> None:
    stage = staged({"a": [ProviderUnavailable("503")], "b": ["hello"]}, retries=2)
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "ProviderUnavailable")] * 3 + [("b", "ok")]


async def test_an_unavailable_model_that_recovers_answers_itself(staged: Any) -> None:
    stage = staged({"a": [ProviderUnavailable("503"), "back"], "b": ["hello"]})
    assert (await stage.chain.chat("hi")).text == "back"


async def test_without_retries_a_failure_goes_to_the_next_model_without_a_pause(staged: Any) -> None:
    stage = staged({"a": [ProviderUnavailable("503")], "b": ["hello"]}, retries=0)
    await stage.chain.chat("hi")
    assert now() == 0


async def test_a_time_out_goes_to_the_next_model_without_a_further_try(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang], "b": ["hello"]}, timeout=20, deadline=40)
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "ProviderTimeout"), ("b", "ok")]
    assert now() == 20


async def test_a_time_out_of_the_last_model_is_tried_again(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang, "hello"]}, timeout=20, deadline=60)
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "ProviderTimeout"), ("a", "ok")]


async def test_a_named_pause_that_fits_is_waited_for(staged: Any) -> None:
    stage = staged({"a": [RateLimited("slow down", retry_after=3), "hello"], "b": ["no"]}, timeout=20, deadline=40)
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert now() == 3
    assert response.attempts[1].wait == 3
    assert response.attempts[1].seconds == 0


async def test_a_named_pause_that_does_not_fit_goes_to_the_next_model(staged: Any) -> None:
    stage = staged({"a": [RateLimited("slow down", retry_after=30)], "b": ["hello"]}, timeout=20, deadline=40)
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "RateLimited"), ("b", "ok")]
    assert now() == 0


async def test_a_limit_without_a_named_pause_goes_to_the_next_model(staged: Any) -> None:
    stage = staged({"a": [RateLimited("slow down")], "b": ["hello"]})
    assert stage.outcomes((await stage.chain.chat("hi")).attempts) == [("a", "RateLimited"), ("b", "ok")]


async def test_a_limit_without_a_named_pause_is_waited_for_when_no_other_model_is_left(staged: Any) -> None:
    stage = staged({"a": [RateLimited("slow down"), "hello"]})
    assert (await stage.chain.chat("hi")).text == "hello"
    assert now() == 1


async def test_all_chains_share_the_pause_that_a_model_named(staged: Any) -> None:
    first = staged({"a": [RateLimited("slow down", retry_after=30)], "b": ["hello"]}, timeout=20, deadline=40)
    await first.chain.chat("hi")
    second = staged({"a": ["here"], "b": ["hello"]}, timeout=20, deadline=40, shop=first.shop)
    response = await second.chain.chat("hi")
    assert stage_messages(response) == [("a", "skipped", "it asked to slow down for 30 s more"), ("b", "ok", "")]
    patient = staged({"a": ["here"], "b": ["hello"]}, timeout=100, deadline=200, shop=first.shop)
    response = await patient.chain.chat("hi")
    assert response.text == "here"
    assert response.attempts[0].wait == 30


def stage_messages(response: Any) -> list[tuple[str, str, str]]:
    return [(attempt.model, attempt.outcome, attempt.message) for attempt in response.attempts]


async def test_a_context_too_long_goes_to_a_larger_window_first(staged: Any, info_of: Any) -> None:
    stage = staged(
        {"a": [ContextTooLong("8000 tokens")], "b": ["small"], "c": ["large"]},
        infos={"a": info_of("a", context=4096), "b": info_of("b", context=4096), "c": info_of("c", context=100_000)},
    )
    assert (await stage.chain.chat("hi")).text == "large"


async def test_a_context_too_long_goes_to_any_other_where_no_window_is_known_to_be_larger(staged: Any, info_of: Any) -> None:
    stage = staged(
        {"a": [ContextTooLong("8000 tokens")], "b": ["fits"]}, infos={"a": info_of("a", context=4096), "b": info_of("b")}
    )
    assert (await stage.chain.chat("hi")).text == "fits"


async def test_an_empty_answer_is_asked_for_once_more_and_then_of_the_next_model(staged: Any) -> None:
    stage = staged({"a": [""], "b": ["hello"]})
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts) == [("a", "InvalidOutput"), ("a", "InvalidOutput"), ("b", "ok")]


async def test_an_answer_that_the_filter_emptied_counts_as_filtered(staged: Any) -> None:
    stage = staged({"a": [ChatResponse(finish_reason="content_filter")], "b": ["hello"]})
    assert stage.outcomes((await stage.chain.chat("hi")).attempts) == [("a", "ContentFiltered"), ("b", "ok")]


async def test_a_budget_that_is_spent_ends_the_answer(staged: Any) -> None:
    stage = staged({"a": [BudgetExceeded("1 USD is spent")], "b": ["hello"]})
    with pytest.raises(BudgetExceeded):
        await stage.chain.chat("hi")


async def test_cancellation_ends_the_answer_and_is_noted(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang], "b": ["hello"]})
    task = asyncio.ensure_future(stage.chain.chat("hi"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.outcomes(record.attempt for record in stage.sink.records) == [("a", "cancelled")]


async def test_what_a_plugin_raises_by_mistake_does_not_end_the_chain(staged: Any) -> None:
    stage = staged(
        {"a": [KeyError("choices")], "b": [PluginError("no SDK")], "c": [ConnectionResetError("reset")], "d": ["hello"]}
    )
    response = await stage.chain.chat("hi")
    assert stage.outcomes(response.attempts)[:2] == [("a", "ProviderError"), ("b", "ProviderError")]
    assert ("c", "ProviderUnavailable") in stage.outcomes(response.attempts)
    assert response.text == "hello"


async def test_an_exhausted_chain_tells_every_attempt_in_one_message(staged: Any, acts: Any) -> None:
    stage = staged(
        {"a": [ProviderUnavailable("503")], "b": [RateLimited("slow down", retry_after=300)], "c": [acts.hang]},
        models=[("primary", "a"), ("duplicate", "b"), ("reserve", "x"), ("fallback", "c")],
        retries=0,
        timeout=20,
        deadline=40,
    )
    error = await exhausted(stage)
    assert stage.outcomes(error.attempts) == [
        ("a", "ProviderUnavailable"),
        ("b", "RateLimited"),
        ("x", "skipped"),
        ("c", "ProviderTimeout"),
    ]
    assert [attempt.role for attempt in error.attempts] == ["primary", "duplicate", "reserve", "fallback"]
    for told in ("1. fake:a: ProviderUnavailable", "3. nowhere:x: skipped (its provider has no key)", "no answer within 20 s"):
        assert told in str(error)


async def test_models_that_hang_leave_time_for_the_healthy_one_behind_them(staged: Any, acts: Any) -> None:
    scripts = {name: [acts.hang] for name in "abcdef"} | {"z": [acts.slow(0.5, "hello")]}
    stage = staged(scripts, timeout=200, deadline=100)
    assert (await stage.chain.chat("hi")).text == "hello"
    assert now() < 100


async def test_no_answer_goes_past_its_deadline(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang], "b": [acts.hang]}, timeout=30, deadline=50, retries=5)
    await exhausted(stage)
    assert now() == 50


async def test_the_callers_own_deadline_holds_where_it_is_earlier(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang]}, retries=0)
    with pytest.raises(ChainExhausted):
        await stage.chain.chat(ChatRequest(messages=(Message.user("hi"),), scope=Scope(deadline=7)))
    assert now() == 7


def open_breaker(stage: Any, id: str) -> None:
    health = stage.shop.health.of(id)
    health.leave(health.enter(now()), "fatal", now(), why="AuthenticationFailed")


async def test_a_model_behind_a_spent_deadline_is_skipped(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.hang], "b": ["hello"]}, timeout=50, deadline=50, retries=0)
    open_breaker(stage, "fake:b")
    error = await exhausted(stage)
    assert stage_messages(error)[1] == ("b", "skipped", "no time was left before the deadline")


async def test_a_retry_never_waits_past_the_time_of_its_attempt(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(9.99999, ProviderUnavailable("503"))], "b": ["hello"]}, deadline=20, timeout=10, retries=50)
    assert (await stage.chain.chat("hi")).text == "hello"
    assert now() <= 10


async def test_a_model_that_cannot_do_what_is_asked_is_skipped(staged: Any, info_of: Any) -> None:
    stage = staged({"a": ["blind"], "b": ["I see"]}, infos={"a": info_of("a", images=False, tools=False)})
    picture = Message(role="user", parts=(Text(text="what is it?"), Image(data=b"png", media_type="image/png")))
    response = await stage.chain.chat(picture, tools=(ToolSpec(name="zoom"),))
    assert stage_messages(response) == [("a", "skipped", "it cannot do: images, tools"), ("b", "ok", "")]


async def test_a_chain_without_any_capable_model_says_what_is_missing(staged: Any, info_of: Any) -> None:
    stage = staged({"a": ["no"]}, infos={"a": info_of("a", logprobs=False)})
    with pytest.raises(CapabilityMissing, match="logprobs") as caught:
        await stage.chain.chat("hi", logprobs=True)
    assert stage.outcomes(caught.value.attempts) == [("a", "skipped")]


async def test_what_is_not_known_is_tried_and_warned_of(staged: Any, info_of: Any) -> None:
    infos = {"a": info_of("a", tools=False), "b": info_of("b", logprobs=True), "c": info_of("c", tools=True)}
    stage = staged({"a": ["no"], "b": ["yes"], "c": ["unasked"]}, infos=infos)
    assert (await stage.chain.chat("hi", logprobs=True, tools=(ToolSpec(name="zoom"),))).text == "yes"
    assert stage.warnings == ["it is not known whether fake:b can do: tools; it is asked nevertheless"]
    await stage.chain.chat("hi")
    assert len(stage.warnings) == 1


async def test_what_the_chain_requires_is_asked_of_every_model(staged: Any, info_of: Any) -> None:
    stage = staged({"a": ["no"], "b": ["yes"]}, infos={"a": info_of("a", reasoning=False)}, require=frozenset({"reasoning"}))
    assert (await stage.chain.chat("hi")).text == "yes"


async def test_a_request_may_prefer_and_avoid_models(staged: Any) -> None:
    stage = staged({"a": ["from a"], "b": ["from b"], "c": ["from c"]})
    asked = ChatRequest(messages=(Message.user("hi"),), scope=Scope(prefer="fake:c"))
    assert (await stage.chain.chat(asked)).text == "from c"
    asked = ChatRequest(messages=(Message.user("hi"),), scope=Scope(avoid=frozenset({"fake:a"})))
    response = await stage.chain.chat(asked)
    assert stage_messages(response)[0] == ("a", "skipped", "the request is not to go to this model")
    assert response.text == "from b"


async def test_offline_answers_last_and_says_so(staged: Any) -> None:
    stage = staged({"a": [AuthenticationFailed("401")]}, offline=["made up"])
    response = await stage.chain.chat("hi")
    assert (response.text, response.offline) == ("made up", True)
    assert response.attempts[-1].offline


async def test_the_last_model_that_can_be_asked_gets_all_the_time_that_is_left(staged: Any, acts: Any) -> None:
    stage = staged({"a": [acts.slow(90, "at last")], "b": ["hello"]}, timeout=100, deadline=100)
    open_breaker(stage, "fake:b")
    assert (await stage.chain.chat("hi")).text == "at last"


async def test_errors_name_their_model_and_provider(staged: Any) -> None:
    stage = staged({"a": [ProviderTimeout("late")]}, retries=0)
    error = await exhausted(stage)
    cause = error.__cause__
    assert isinstance(cause, ProviderTimeout)
    assert (cause.model, cause.provider) == ("a", "fake")


async def test_no_secret_of_a_providers_error_gets_out(staged: Any) -> None:
    secret = "sk-very-secret-0123456789"
    planted = AuthenticationFailed(f"bad key {secret}", details=[{"field": "key", "message": secret}])
    planted.__cause__ = RuntimeError(f"Authorization: Bearer {secret}")
    stage = staged({"a": [planted], "b": [ValueError(f"key={secret}")]}, secrets=[secret], retries=0)
    error = await exhausted(stage)
    seen: list[Any] = [str(error), repr(error), repr(error.attempts), repr(stage.sink.records)]
    cause: BaseException | None = error
    while cause is not None:
        seen += [str(cause), repr(cause), repr(getattr(cause, "details", ""))]
        cause = cause.__cause__ or cause.__context__
    assert not [told for told in seen if secret in told]
    assert "bad key ***" in str(error)


@pytest.mark.parametrize(
    ("lacks", "params"),
    [
        ("n", {"n": 2}),
        ("audio_out", {"modalities": ("text", "audio")}),
        ("prefill", {"prefix": "Once"}),
        ("logprobs", {"logprobs": True}),
    ],
)
async def test_every_thing_that_cannot_be_made_up_for_is_needed(staged: Any, info_of: Any, lacks: str, params: Any) -> None:
    stage = staged({"a": ["no"], "b": ["yes"]}, infos={"a": info_of("a", **{lacks: False})})
    response = await stage.chain.chat("hi", **params)
    assert stage_messages(response)[0] == ("a", "skipped", f"it cannot do: {lacks}")


async def test_a_schema_and_a_stream_can_be_made_up_for(staged: Any, info_of: Any) -> None:
    stage = staged({"a": ['"yes"']}, infos={"a": info_of("a", json_schema=False, json_object=False, stream=False)})
    response = await stage.chain.chat("hi", output=OutputSpec(schema={"type": "string", "enum": ["yes"]}))
    assert response.parsed == "yes"
