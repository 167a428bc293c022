"""Hedge over real connections: losers are closed in time, and what they cost is counted wherever money is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft import FlowCraft
from flowcraft.attempts import Attempt
from flowcraft.llm.ports import LOST
from flowcraft.manager import LLMManager
from flowcraft.plugin import Done, TextDelta
from flowcraft.settings import Settings, load_settings
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft_openai.client import load

pytestmark = pytest.mark.integration

QUESTION = "What is late? " * 40
PRICE = {"input": 1000.0, "output": 2000.0}
WORKFLOW = """flowcraft: 1
inputs: {question: string}
stages:
  answer: {prompt: "${{ inputs.question }}"}
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key="sk-test-0123456789") as server:
        yield server


@pytest.fixture(params=[1, 2], ids=["one section", "two sections"])
def settings(server: FaultServer, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings of two models of one provider, or of one provider each."""
    load()
    section = {"type": "openai", "base_url": server.url, "api_key": "${LOCAL_KEY}"}
    models = {name: {"price": PRICE} for name in ("stuck", "good")}
    providers = {"local": {**section, "models": models}}
    if request.param == 2:
        providers = {name: {**section, "models": {name: models[name]}} for name in models}
    page = {
        "storage": f"sqlite:///{tmp_path}/calls.db",
        "llm": {
            "model_roles": {"primary": ["stuck"], "reserve": ["good"]},
            "strategy": "hedge",
            "hedge": {"max_share": 1.0},
            "retry_attempts": 0,
        },
        "providers": providers,
    }
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(page))
    return load_settings(file, environ={"LOCAL_KEY": "sk-test-0123456789"}, cwd=tmp_path)


async def teach(server: FaultServer, manager: LLMManager, *, streamed: bool) -> None:
    """Let it be known that the first model is quick, then let it hang."""
    server.script("stuck", "quick")
    for _ in range(20):
        chain = manager.llm("stuck")
        if streamed:
            async with chain.stream("hi") as stream:
                async for _ in stream:
                    pass
        else:
            await chain.chat("hi")
    assert server.abandoned() == 0


def lost(attempts: Any) -> Attempt:
    """Return the one attempt that another model was quicker than."""
    found = [attempt for attempt in attempts if attempt.message == LOST]
    assert [(attempt.model, attempt.outcome) for attempt in found] == [("stuck", "cancelled")]
    return found[0]


async def test_the_losers_connection_is_closed_before_the_winner_is_heard(server: FaultServer, settings: Settings) -> None:
    async with LLMManager(settings) as manager:
        await teach(server, manager, streamed=True)
        server.script("stuck", Fault.hang("headers"))
        server.script("good", Fault.hang("chunk", Reply("and here it is")))
        async with manager.llm().stream(QUESTION) as stream:
            assert isinstance(await anext(stream), TextDelta)
            # The winner has said one word and waits; what the server sees of the loser now happened before that word.
            await server.until(lambda: server.abandoned("stuck") == 1)
            assert server.running("good") == 1
            server.release()
            last = [event async for event in stream][-1]
    assert isinstance(last, Done)
    assert last.response.text == "and here it is"
    assert last.response.extra["strategy"]["lost"] == [attempt_id(lost(last.response.attempts))]


def attempt_id(attempt: Attempt) -> str:
    return f"{attempt.provider}:{attempt.model}"


async def test_what_the_loser_cost_is_counted_in_attempts_and_statistics(server: FaultServer, settings: Settings) -> None:
    async with LLMManager(settings) as manager:
        await teach(server, manager, streamed=False)
        before = {known.model: known.usd or 0.0 for known in manager.statistics()}
        server.script("stuck", Fault.hang("headers"))
        server.script("good", "here")
        response = await manager.llm().chat(QUESTION)
        after = {known.model: known.usd or 0.0 for known in manager.statistics()}
        assert sum(known.calls for known in manager.statistics()) == server.count() == 22
    loser = lost(response.attempts)
    assert loser.estimated
    assert 0.5 < loser.usage.input / response.usage.input < 2
    assert loser.usage.output == 0
    assert loser.usd == pytest.approx(loser.usage.input * PRICE["input"] / 1e6)
    assert response.spent_usd == pytest.approx(loser.usd + (response.usd or 0.0))
    assert after["stuck"] - before["stuck"] == pytest.approx(loser.usd)


async def test_what_the_loser_cost_is_part_of_what_a_run_cost(server: FaultServer, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(WORKFLOW)
    server.script("good", "here")
    async with FlowCraft(settings) as flow:
        await teach(server, flow.manager, streamed=False)
        server.script("stuck", Fault.hang("headers"))
        result = await flow.run(file, inputs={"question": QUESTION})
        rows = await asyncio.to_thread(lambda: list(flow.engine.store.attempts(result.run)))
    assert (result.state, result.outputs, result.calls) == ("done", {"answer": "here"}, 2)
    loser = lost([row.attempt for row in rows])
    assert loser.estimated
    assert loser.usd
    assert result.usd == pytest.approx(sum(row.attempt.usd or 0.0 for row in rows))
    assert result.tokens == sum(row.attempt.usage.total for row in rows)
    assert result.usd > loser.usd > 0
