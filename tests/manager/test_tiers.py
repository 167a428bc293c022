"""Strategy, order, judge and confidence of named tiers, of all chains and of single calls: from settings.yaml to the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft.errors import SettingsError
from flowcraft.events import Bus, Said
from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, ChatResponse, Provider, TokenLogprob

pytestmark = pytest.mark.integration

Managed = Callable[..., LLMManager]

PAGE = """
storage: null
llm:
  retry_attempts: 0
  cheap_model: small
  expensive_model: large
  cascade: {threshold: 0.7}
  judge: {criteria: as a lawyer reads it}
  tiers:
    careful: {primary: [small], strategy: cascade, judge: {model: expensive}}
    exact: {primary: [small], confidence: 0.9}
    strict: {primary: [small], strategy: cascade, confidence: 0.95}
    plain: [small]
    two: {primary: [small, spare], strategy: best_of_two, order: cheapest, judge: {model: quick, criteria: shorter}}
  aliases: {quick: large}
providers:
  echo:
    models: {small: {capabilities: {logprobs: true}}, spare: {}, large: {}}
"""


class Unsure(Provider):
    """Answers with its model's name; ``small`` is as sure as its probability says."""

    name = "echo"
    probability = -0.2  # natural logarithm: 0.82

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        tokens = (TokenLogprob(token=model, logprob=self.probability),) if request.logprobs else None
        return ChatResponse(text=model, logprobs=tokens)


@pytest.fixture
def manager(managed: Managed, tmp_path: Any) -> LLMManager:
    page = PAGE.replace("storage: null", f"storage: sqlite:///{tmp_path}/tiers.db").replace("echo:", "unsure:")
    made = managed(page)
    made.register_provider("unsure", Unsure)
    return made


@pytest.mark.parametrize(
    ("call", "model", "told"),
    [
        ({"tier_or_model": "plain"}, "small", None),
        ({"tier_or_model": "careful"}, "small", ("cascade", 0.7, True, False)),
        ({"tier_or_model": "exact"}, "large", ("confidence", 0.9, False, True)),
        ({"tier_or_model": "strict"}, "large", ("cascade", 0.95, False, True)),
        ({"strategy": "cascade"}, "small", ("cascade", 0.7, True, False)),
        ({"strategy": "cascade", "confidence": 0.9}, "large", ("cascade", 0.9, False, True)),
        ({"confidence": 0.8}, "small", ("confidence", 0.8, True, False)),
        ({"tier_or_model": "exact", "confidence": 0.5}, "small", ("confidence", 0.5, True, False)),
        ({"tier_or_model": "strict", "strategy": "single", "confidence": 0.1}, "small", ("confidence", 0.1, True, False)),
    ],
)
async def test_what_a_call_says_comes_before_its_tier_and_this_before_all(manager, call, model, told):
    async with manager:
        answer = await manager.llm(**call).chat("hi")

    assert answer.model == model
    decided = answer.extra.get("strategy") or answer.extra.get("confidence")
    assert told == (decided and (decided["name"], decided["threshold"], decided["reached"], decided["escalated"]))


async def test_a_strategy_for_all_reaches_tiers_that_name_none(manager, managed, tmp_path):
    page = PAGE.replace("storage: null", f"storage: sqlite:///{tmp_path}/a.db\n").replace("echo:", "unsure:")
    other = managed(page.replace("retry_attempts: 0", "retry_attempts: 0\n  strategy: cascade"))
    other.register_provider("unsure", Unsure)
    async with other:
        assert (await other.llm("plain").chat("hi")).extra["strategy"]["name"] == "cascade"
        assert other.llm("two").labels.strategy == "best_of_two"
        dear = await other.llm("expensive").chat("hi")

    assert "strategy" not in dear.extra
    assert "no expensive tier" in other.llm("expensive").notes[0]


def test_what_a_chain_cannot_carry_out_is_said_on_the_bus_once(managed):
    said: list[str] = []
    bus = Bus()
    bus.subscribe(lambda event: said.append(event.message) if isinstance(event, Said) else None)
    manager = managed("llm: {default_model: small, strategy: cascade}\nproviders: {echo: {models: [small]}}", bus=bus)

    for stage in ("a", "b"):
        assert manager.llm(stage=stage).notes == (
            "strategy cascade has no expensive tier to turn to: it runs as single; set llm.expensive_model",
        )

    assert len([text for text in said if "cascade" in text]) == 1


def test_a_judge_that_cannot_be_asked_is_told_at_load(managed):
    page = (
        "llm: {default_model: small, confidence: {}, judge: {model: openrouter:a/judge}}\nproviders: {echo: {models: [small]}}"
    )

    assert managed(page).llm(confidence=0.5).notes[0].startswith("the judge 'openrouter:a/judge' cannot be asked")
    assert managed(page).llm().notes == ()


async def test_a_budget_that_is_used_up_keeps_the_cheap_answer(manager, managed, tmp_path):
    page = PAGE.replace("storage: null", f"storage: sqlite:///{tmp_path}/b.db").replace("echo:", "unsure:")
    other = managed(page.replace("retry_attempts: 0", "retry_attempts: 0\n  budget: {calls_per_day: 1}"))
    other.register_provider("unsure", Unsure)
    async with other:
        answer = await other.llm("strict").chat("hi")

    assert (answer.model, answer.extra["strategy"]["escalated"]) == ("small", False)
    assert answer.extra["strategy"]["reason"].endswith("the budget refused the others")
    (skip,) = [made for made in answer.attempts if made.outcome == "skipped"]
    assert (skip.model, "the escalation is left out" in skip.message) == ("large", True)


# -- as it is written


def test_what_is_written_holds_what_changes_answers_of_this_tier(manager):
    assert manager.written("plain")["strategy"] == "single"
    assert "judge" not in manager.written("plain")
    careful = manager.written("careful")
    assert careful["strategy"] == "cascade"
    assert careful["judge"] == {"model": "large", "criteria": "as a lawyer reads it"}
    assert careful["confidence"] == {"least": 0.7, "tries": 1}
    assert careful["escalation"][0] == ["expensive", "large"]
    assert manager.written("exact")["confidence"] == {"least": 0.9, "tries": 2}
    assert manager.written("two")["judge"] == {"model": "large", "criteria": "shorter"}
    assert "escalation" not in manager.written("two")
    json.dumps(careful)


def test_a_call_that_names_criteria_alone_leaves_the_tiers_judge_in_office(manager):
    assert manager.written("careful", judge={"criteria": "short"})["judge"] == {"model": "large", "criteria": "short"}
    assert manager.written("two", judge={"model": "spare"})["judge"] == {"model": "spare", "criteria": "shorter"}
    assert manager.written("careful", judge={"model": "spare"})["judge"]["criteria"] == "as a lawyer reads it"


def test_every_policy_that_changes_answers_makes_another_chain(manager):
    calls: list[dict[str, Any]] = [
        {},
        {"strategy": "best_of_two"},
        {"strategy": "best_of_two", "judge": {"criteria": "short"}},
        {"strategy": "best_of_two", "judge": {"model": "spare"}},
        {"strategy": "cascade"},
        {"strategy": "cascade", "confidence": 0.9},
        {"confidence": 0.9},
    ]

    assert len({json.dumps(manager.written(**call), sort_keys=True) for call in calls}) == len(calls)
    assert len({manager.llm(**call).fingerprint for call in calls}) == len(calls)


def test_a_confined_chain_asks_nobody_else(manager):
    chain = manager.llm("small", strategy="cascade", confidence=0.9, judge={"model": "large"}, confined=True)
    written = manager.written("small", strategy="cascade", confidence=0.9, judge={"model": "large"}, confined=True)

    assert chain.labels.strategy == "single"
    assert (written["judge"]["model"], written["escalation"]) == (None, [])


async def test_a_confined_chain_returns_its_surest_answer(manager):
    async with manager:
        answer = await manager.llm("small", confidence=0.9, confined=True).chat("hi")

    assert (answer.model, answer.extra["confidence"]["reached"], len(answer.attempts)) == ("small", False, 2)


def test_chains_that_differ_by_their_criteria_do_not_pile_up(manager, monkeypatch):
    monkeypatch.setattr("flowcraft.manager.chains.MOST_CHAINS", 10)
    first = manager.llm("two")
    for number in range(50):
        manager.llm("two", judge={"criteria": str(number)})

    assert len(manager._chains) == 10
    assert manager.llm("two").fingerprint == first.fingerprint


# -- what is wrong


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (
            "strategy: best_of_tow",
            "settings.yaml:2:37: llm.tiers.t.strategy must be one of single, best_of_two, cascade, hedge",
        ),
        ("order: quickest", "settings.yaml:2:34: llm.tiers.t.order must be one of listed, fastest, cheapest, best"),
        ("confidence: 80", "settings.yaml:2:39: llm.tiers.t.confidence must be at most 1, not 80"),
        ("confidence: sure", "settings.yaml:2:39: llm.tiers.t.confidence must be a number"),
        ("judge: {modell: x}", "settings.yaml:2:35: unknown key 'modell' in llm.tiers.t.judge; did you mean 'model'?"),
        ("judge: someone", "settings.yaml:2:34: llm.tiers.t.judge must be a mapping"),
        ("strateggy: cascade", "settings.yaml:2:27: unknown key 'strateggy' in llm.tiers.t; did you mean 'strategy'?"),
    ],
)
def test_a_mistake_in_a_tier_has_its_place(managed, tier, expected):
    with pytest.raises(SettingsError) as raised:
        managed(f"llm:\n  tiers: {{t: {{primary: a, {tier}}}}}\n")

    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("options", "heart"),
    [
        ({"strategy": "casade"}, "did you mean 'cascade'?"),
        ({"confidence": 1.5}, "a confidence is a number from 0 to 1, not 1.5"),
        ({"confidence": True}, "a confidence is a number from 0 to 1, not True"),
        ({"confidence": "0.8"}, "a confidence is a number from 0 to 1, not '0.8'"),
        ({"judge": "large"}, "a judge is a mapping of 'model' and 'criteria', not 'large'"),
        ({"judge": {"model": 5}}, "a judge's 'model' is text, not 5"),
        ({"judge": {"rubric": "x"}}, "a judge has 'model' and 'criteria', not 'rubric'"),
    ],
)
def test_a_mistake_in_a_call_is_said(manager, options, heart):
    with pytest.raises(SettingsError, match=heart.replace("?", r"\?")):
        manager.llm(**options)


def test_settings_explain_what_tiers_say(manager):
    entries = {entry.key: entry for entry in manager.settings.explain()}

    assert entries["llm.tiers.careful.strategy"].value == "cascade"
    assert entries["llm.tiers.careful.judge.model"].value == "expensive"
    assert entries["llm.tiers.exact.confidence"].value == 0.9
    assert entries["llm.tiers.two.order"].value == "cheapest"
    assert {entries[f"llm.tiers.{key}"].note for key in ("careful.strategy", "exact.confidence", "two.order")} == {""}
    assert entries["llm.cascade.threshold"].note == ""
    assert entries["llm.judge.criteria"].note == ""
    assert entries["llm.tiers.exact.confidence"].source.endswith("settings.yaml:11")
