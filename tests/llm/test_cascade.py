"""A cascade: the cheap answer stands where it is sure enough, else the expensive models answer."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import Any

import pytest

from flowcraft.errors import BudgetExceeded, CapabilityMissing, ChainExhausted, ProviderUnavailable
from flowcraft.llm.rules import CascadeRules, JudgeRules
from flowcraft.plugin import (
    ChatRequest,
    ChatResponse,
    Done,
    Message,
    OutputSpec,
    Progress,
    Restart,
    Scope,
    TextDelta,
    TokenLogprob,
    ToolCall,
)

pytestmark = pytest.mark.unit

DEAR = (("expensive", "dear"), ("primary", "cheap"))
LONG = "a free text that nobody words the same way twice " * 6


def sure(text: str, *probabilities: float) -> ChatResponse:
    return ChatResponse(text=text, logprobs=tuple(TokenLogprob(token="x", logprob=log(p)) for p in probabilities))


def score(value: float) -> dict[str, Any]:
    return ChatResponse(text=f'{{"reasons": "so it seems", "score": {value}}}')  # type: ignore[return-value]


@pytest.fixture
def cascade(staged, info_of):
    """Make a cascade: ``cascade({"cheap": [...], "dear": [...]}, threshold=0.8)``; ``logprobs`` names models that have them."""

    def make(scripts, *, threshold=0.8, tries=1, models=None, escalation=DEAR, logprobs=(), families=None, **spec):
        infos = {name: info_of(name, logprobs=name in logprobs) for name in scripts}
        infos |= {name: replace(infos[name], family=family) for name, family in (families or {}).items()}
        spec.setdefault("strategy", "cascade")
        rules = CascadeRules(threshold=threshold, tries=tries, escalation=escalation)
        return staged(scripts, models=models or [("primary", "cheap")], infos=infos, cascade=rules, **spec)

    return make


# -- whether the cheap answer stands


@pytest.mark.parametrize(("probability", "model"), [(0.8, "cheap"), (0.79, "dear")])
async def test_the_cheap_answer_stands_at_the_threshold_and_not_below_it(cascade, probability, model):
    stage = cascade({"cheap": [sure("cheap", probability)], "dear": ["dear"]}, logprobs=["cheap"])

    answer = await stage.chain.chat("hi")

    assert answer.model == model
    decided = answer.extra["strategy"]
    assert decided["name"] == "cascade"
    assert decided["by"] == "logprobs"
    assert decided["confidence"] == pytest.approx(probability)
    assert decided["escalated"] is (model == "dear")
    assert decided["reached"] is (model == "cheap")
    assert answer.confidence == (pytest.approx(0.8) if model == "cheap" else None)
