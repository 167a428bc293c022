"""Whatever a chain's models do, in any order: an answer where one can answer, in time, and an honest story."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft import errors
from flowcraft.errors import LLMError
from flowcraft.plugin import TextDelta
from flowcraft.testing.clock import run_virtual

pytestmark = pytest.mark.unit

TIMEOUT, DEADLINE = 20.0, 60.0
FAILURES = (
    errors.ProviderUnavailable,
    errors.ProviderTimeout,
    errors.AuthenticationFailed,
    errors.QuotaExhausted,
    errors.ModelNotFound,
    errors.ModelNotLoaded,
    errors.ContextTooLong,
    errors.ContentFiltered,
    errors.InvalidRequest,
    errors.InvalidOutput,
    KeyError,
    ConnectionError,
)
failure = st.sampled_from(FAILURES).map(lambda kind: kind("no"))
limited = st.one_of(st.none(), st.floats(0, 100)).map(lambda pause: errors.RateLimited("slow", retry_after=pause))
act = st.one_of(failure, limited, st.just("hang"), st.just(""), st.floats(0, 40))
script = st.lists(act, min_size=1, max_size=4)
faults = st.lists(script, min_size=0, max_size=4)


def played(acts: Any, wanted: Any) -> Any:
    if wanted == "hang":
        return acts.hang
    if isinstance(wanted, float):
        return acts.slow(wanted, errors.ProviderUnavailable("late and broken"))
    return wanted


def scripts_of(acts: Any, faults: Sequence[Sequence[Any]], healthy: bool) -> dict[str, list[Any]]:
    scripts = {f"bad{place}": [played(acts, wanted) for wanted in script] for place, script in enumerate(faults)}
    return scripts | ({"good": ["hello"]} if healthy else {})


quiet = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


@quiet
@given(faults=faults, streamed=st.booleans(), retries=st.integers(0, 3))
def test_a_healthy_model_answers_within_the_deadline_whatever_stands_before_it(
    staged: Any, acts: Any, faults: Any, streamed: bool, retries: int
) -> None:
    stage = staged(scripts_of(acts, faults, True), timeout=TIMEOUT, deadline=DEADLINE, retries=retries)

    async def ask() -> tuple[Any, float]:
        import asyncio

        response = await answered(stage, streamed)
        return response, asyncio.get_running_loop().time()

    response, ended = run_virtual(ask())
    assert response.text == "hello"
    assert ended <= DEADLINE
    honest(stage, response.attempts, len(faults) + 1, retries)


async def answered(stage: Any, streamed: bool) -> Any:
    if not streamed:
        return await stage.chain.chat("hi")
    text = ""
    async with stage.chain.stream("hi") as stream:
        async for event in stream:
            text += event.text if isinstance(event, TextDelta) else ""
    assert text == stream.response.text
    return stream.response


@quiet
@given(faults=faults, retries=st.integers(0, 3))
def test_without_a_healthy_model_the_end_comes_in_time_and_tells_all(staged: Any, acts: Any, faults: Any, retries: int) -> None:
    stage = staged(scripts_of(acts, faults, False), timeout=TIMEOUT, deadline=DEADLINE, retries=retries)

    async def ask() -> tuple[LLMError, float]:
        import asyncio

        with pytest.raises(LLMError) as caught:
            await stage.chain.chat("hi")
        return caught.value, asyncio.get_running_loop().time()

    error, ended = run_virtual(ask())
    assert ended <= DEADLINE + 1e-6
    honest(stage, error.attempts, len(faults), retries)
    assert all(f"fake:bad{place}" in str(error) for place in range(len(faults)))


def honest(stage: Any, attempts: Sequence[Any], links: int, retries: int) -> None:
    called = [attempt for attempt in attempts if attempt.outcome != "skipped"]
    assert [model for model, _ in stage.fake.asked] == [attempt.model for attempt in called]
    assert len(called) <= links * 2 * (max(retries, 1) + 1)
    assert [record.attempt for record in stage.sink.records] == list(attempts)
    assert all(attempt.seconds <= TIMEOUT + 1e-6 for attempt in called)
