"""A decision explains itself: ``LLMManager.why`` and ``flowcraft models why``; the table of ``models stats``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flowcraft.attempts import Attempt, Usage
from flowcraft.cli.models import models
from flowcraft.errors import SettingsError
from flowcraft.llm.ports import CallRecord, VerdictRecord
from flowcraft.manager import LLMManager
from flowcraft.storage import Database, SqlCallStore
from flowcraft.storage.verdicts import SqlVerdictStore

pytestmark = pytest.mark.api

Managed = Callable[..., LLMManager]

SETTINGS = """
llm:
  order: fastest
  offline: never
  model_roles: {primary: [echo:slow, echo:quick, openrouter:keyless], duplicate: [echo:other], reserve: [echo:last]}
  expensive_stages: [audit]
  expensive_model: echo:dear
providers:
  echo:
    models:
      slow: {price: {input: 1, output: 1}, capabilities: {tools: true}}
      quick: {price: {input: 2, output: 8}, capabilities: {tools: false}}
      other: {}
      last: {}
      dear: {}
  openrouter: {}
"""


def calls(model: str, seconds: float, number: int, provider: str = "echo", **labels: Any) -> list[CallRecord]:
    attempt = Attempt(model=model, provider=provider, role="primary", seconds=seconds, usage=Usage(output=10))
    return [CallRecord(id=f"{model} {seconds} {labels} {index}", attempt=attempt, **labels) for index in range(number)]


def verdicts(first: str, second: str, number: int, **labels: str) -> list[VerdictRecord]:
    made = {"first": f"echo:{first}", "second": f"echo:{second}", "winner": "first", "time": 0.0, **labels}
    return [VerdictRecord(id=f"{first} {labels} {index}", **made) for index in range(number)]


def learn(manager: LLMManager, *records: list[Any]) -> None:
    for record in (one for some in records for one in some):
        if isinstance(record, VerdictRecord):
            manager._statistics.judged(record)
        else:
            manager._statistics.record(record)


def ids(decision: Any) -> list[str]:
    return [one.id for one in decision.models]


async def test_what_is_fastest_is_said_with_the_calls_that_it_rests_on(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        learn(manager, calls("slow", 4.0, 40), calls("quick", 1.0, 40), calls("slow", 0.5, 40, stage="review"))
        everywhere, review = manager.why(), manager.why(stage="review")
    quick, slow, keyless, other, last = everywhere.models
    assert (quick.id, slow.id, keyless.id) == ("echo:quick", "echo:slow", "openrouter:keyless")
    assert (quick.basis, quick.calls, quick.success, quick.obstacle) == ("all", 40, 1.0, "")
    assert quick.seconds == pytest.approx(1.0, rel=0.1)
    assert quick.first + slow.first == pytest.approx(1.0)
    assert quick.first > 0.95
    assert (keyless.first, keyless.obstacle) == (None, "OPENROUTER_API_KEY is not set")
    assert keyless.why == "skipped: OPENROUTER_API_KEY is not set"
    assert (other.why, last.role) == ("the only model of duplicate", "reserve")
    assert (everywhere.notes, review.notes) == ((), ())
    assert everywhere.why.startswith("echo:quick is mostly asked first (")
    assert "by 40 calls" in everywhere.why
    assert {one.basis for one in review.models if one.role == "primary"} == {"stage"}
    assert "of this stage" in review.models[0].why


async def test_what_is_said_is_what_happens(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        learn(manager, calls("slow", 1.0, 5), calls("quick", 1.1, 5))
        said = {one.model: one.first for one in manager.why().models if one.first is not None}
        manager._workshop.random.seed(3)
        links = [link for link in manager.llm().links if link.info.model in said]
        known = manager._statistics.speed([(link.info.provider, link.info.model) for link in links])
        drawn = [links[known.drawn(manager._workshop.random)[0]].info.model for _ in range(1000)]
    assert drawn.count("quick") / 1000 == pytest.approx(said["quick"], abs=0.06)
    assert 0.02 < said["quick"] < 0.6


async def test_a_label_that_no_call_bears_is_doubted(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        learn(manager, calls("slow", 1.0, 1, stage="review", task="coding"))
        assert manager.why(stage="review", task="coding").notes == ()
        notes = manager.why(stage="reveiw", task="codign").notes
    assert ["no call of stage 'reveiw' is known yet" in notes[0], "no call of task 'codign' is known yet" in notes[1]] == [
        True
    ] * 2


async def test_without_any_call_it_says_so(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        decision = manager.why()
    assert decision.why == "echo:slow is asked first: it is listed first, and nothing is known of their times yet"
    assert decision.models[0].why == "never called: it may be as fast as the best, so it is tried"
    assert (decision.models[0].seconds, decision.models[0].success) == (None, None)


async def test_a_contestant_that_is_mostly_left_out_is_told(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        learn(manager, verdicts("quick", "slow", 9, stage="review"))
        notes = manager.why(stage="review", strategy="best_of_two").notes
        elsewhere = manager.why(strategy="best_of_two").notes
        single = manager.why(stage="review").notes
    told = "echo:slow is left out but for 10 % of answers: it seldom wins against echo:quick in stage review"
    assert (told in notes, told in single, "left out" in str(elsewhere)) == (True, False, False)


async def test_other_orders_say_prices_and_verdicts(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        learn(manager, verdicts("quick", "slow", 9), verdicts("slow", "quick", 3, stage="review"))
        cheapest, best, review = (
            manager.why(order="cheapest"),
            manager.why(order="best"),
            manager.why(stage="review", order="best"),
        )
        listed = manager.why(order="listed")
    assert ids(cheapest)[:2] == ["echo:slow", "echo:quick"]
    assert cheapest.models[0].why == "1 USD in, 1 USD out for a million tokens"
    assert ids(best)[0] == "echo:quick"
    assert (best.models[0].wins, best.models[0].losses) == (9, 3)
    assert "by 9 wins and 3 losses" in best.why
    assert (ids(review)[0], review.models[0].wins) == ("echo:slow", 3)
    assert listed.why == "echo:slow is asked first: models are asked as listed"


async def test_a_breaker_and_a_lack_keep_a_model_from_being_asked(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        health = manager._workshop.health.of("echo:slow")
        from asyncio import get_running_loop

        health.leave(False, "fatal", get_running_loop().time(), why="QuotaExhausted")
        obstacles = {one.id: one.obstacle for one in manager.why(require={"tools"}).models}
    assert "its breaker is open for" in obstacles["echo:slow"]
    assert "QuotaExhausted" in obstacles["echo:slow"]
    assert obstacles["echo:quick"] == "it cannot do: tools"
    assert obstacles["echo:other"] == ""


async def test_strategies_name_who_takes_part(managed: Managed) -> None:
    async with managed(SETTINGS) as manager:
        two = manager.why(strategy="best_of_two")
        cascade = manager.why(strategy="cascade")
        audit = manager.why(stage="audit")
    assert (set(two.contestants), two.judge) == ({"echo:slow", "echo:quick"}, "echo:other")
    assert cascade.escalation[0] == "echo:dear"
    assert (audit.tier, audit.models[0].id) == ("expensive", "echo:dear")
    assert audit.why == "echo:dear is asked first: it is the only model of expensive that can be asked"


async def test_a_chain_that_cannot_be_asked_says_so(managed: Managed) -> None:
    async with managed("llm: {default_model: openrouter:keyless}\nproviders: {openrouter: {}}") as manager:
        assert manager.why().why == "no model of this chain can be asked now"
    async with managed("{}") as offline:
        assert offline.why().why == "no real model can be asked now: the built-in offline model answers"
    async with managed(SETTINGS) as manager:
        with pytest.raises(SettingsError, match="no order 'fast'"):
            manager.why(order="fast")


def test_the_same_knowledge_says_the_same(managed: Managed) -> None:
    manager = managed(SETTINGS)
    learn(manager, calls("slow", 1.0, 5), calls("quick", 1.1, 5))
    assert manager.why() == manager.why()


COMMAND = """
llm: {order: fastest, model_roles: {primary: [local:tiny, local:big-model-with-a-name-that-is-long, openrouter:keyless]}}
providers:
  local:
    {type: openai, base_url: "http://127.0.0.1:9/v1", api_key: x, models: {tiny: {}, big-model-with-a-name-that-is-long: {}}}
  openrouter: {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENROUTER_API_KEY", "OPENAI_API_KEY", "DASHSCOPE_API_KEY", "LLM_ENDPOINT", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(COMMAND)
    return tmp_path


def call(*words: str) -> Result:
    result = CliRunner().invoke(models, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def recorded(folder: Path, number: int = 1) -> None:
    database = Database(f"sqlite:///{folder}/flowcraft.db")
    store = SqlCallStore(database)
    for model in ("tiny", "big-model-with-a-name-that-is-long"):
        store.add(calls(model, 123.4, 40 * number, provider="local", stage="review", task="coding"))
    failed = Attempt(model="tiny", provider="local", outcome="ProviderUnavailable", usd=12345.678, seconds=1.0)
    lost = Attempt(model="tiny", provider="local", outcome="cancelled", message="another model answered first", seconds=1.0)
    store.add([CallRecord(id=f"{one.outcome} {index}", attempt=one) for one in (failed, lost) for index in range(3)])
    won = {"first": "local:tiny", "second": "local:x", "time": 0.0, "stage": "review", "task": "coding"}
    SqlVerdictStore(database).add([VerdictRecord(id="v", winner="first", **won), VerdictRecord(id="w", winner="tie", **won)])
    database.close()


def test_the_command_says_why_as_a_table_and_as_json(folder: Path) -> None:
    recorded(folder)
    told = json.loads(call("why", "review", "--task", "coding", "--json").stdout)
    assert (told["stage"], told["task"], told["order"], told["strategy"]) == ("review", "coding", "fastest", "single")
    assert {one["model"]: one["calls"] for one in told["models"]}["tiny"] == 40
    text = call("why", "review").stdout
    for word in ("primary", "1. local:", "by 40 calls of this stage", "skipped: OPENROUTER_API_KEY is not set", "1.5 - 0.5"):
        assert word in text
    assert "order cheapest" in call("why", "--order", "cheapest").stdout
    assert "best of two: local:" in call("why", "--strategy", "best_of_two").stdout


def test_stats_fit_a_hundred_columns_and_count_wins(folder: Path) -> None:
    recorded(folder)
    text = call("stats").stdout
    assert max(map(len, text.splitlines())) <= 100
    for word in ("123 s", "93.0 %", "ProviderUnavailable 3, cancelled 3", "37,037.03", "1.5", "local:tiny"):
        assert word in text
    rows = {row["model"]: row for row in json.loads(call("stats", "--json").stdout)}
    assert (rows["tiny"]["wins"], rows["tiny"]["calls"]) == (1.5, 46)


def test_stats_of_a_stage_and_a_task(folder: Path) -> None:
    recorded(folder)
    for words in (("--stage", "review"), ("--task", "coding"), ("--stage", "review", "--task", "coding")):
        rows = {row["model"]: row for row in json.loads(call("stats", "--json", *words).stdout)}
        assert (rows["tiny"]["calls"], rows["tiny"]["errors"], rows["tiny"]["wins"]) == (40, 0, 1.5)
    assert "calls of stage 'review' and task 'coding'" in call("stats", "--stage", "review", "--task", "coding").stdout
    assert "no calls of task 'x' are recorded yet" in call("stats", "--task", "x").stderr
