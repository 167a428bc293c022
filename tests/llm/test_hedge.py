"""Hedge: the next model runs beside one that is late, the first to answer wins, nobody is left behind. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft.errors import BudgetExceeded, ChainExhausted, ContextTooLong, ProviderUnavailable
from flowcraft.llm.ports import LOST
from flowcraft.llm.rules import HedgeRules
from flowcraft.plugin import Done, TextDelta, collect

pytestmark = pytest.mark.unit

ALWAYS = HedgeRules(max_share=1.0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def learned(staged: Any, acts: Any, scripts: Any, *, streamed: bool = False, **options: Any) -> Any:
    """Return a chain that hedges, and whose first model is known to answer in a second."""
    first, *_ = scripts
    teacher = staged({first: [acts.slow(1, "hello")]}, retries=0)
    for _ in range(20):
        await (collect(teacher.chain.stream("hi")) if streamed else teacher.chain.chat("hi"))
    options = {"hedge": ALWAYS, "retries": 0, **options}
    return staged(scripts, shop=teacher.shop, strategy="hedge", **options)


async def test_the_next_model_is_asked_when_one_is_late(staged: Any, acts: Any) -> None:
    stage = await learned(staged, acts, {"a": [acts.slow(60, "late")], "b": [acts.slow(2, "hello")]})
    began = now()
    response = await stage.chain.chat("hi")
    assert response.text == "hello"
    assert now() - began == 3
    assert stage.outcomes(response.attempts) == [("b", "ok"), ("a", "cancelled")]
    assert response.attempts[1].message == LOST
    assert response.attempts[1].seconds == 3
    assert response.extra["strategy"] == {"name": "hedge", "hedged": True, "lost": ["fake:a"]}
    assert len(asyncio.all_tasks()) == 1
