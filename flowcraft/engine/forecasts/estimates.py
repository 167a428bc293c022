"""How much one stage takes, from what its file says: how often, how long, how many tokens, at what price."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flowcraft.engine.forecasts.figures import Ask
from flowcraft.engine.forecasts.past import Past
from flowcraft.engine.forecasts.ranges import NOTHING, ONCE, Range, spread
from flowcraft.llm.tokens import text_tokens
from flowcraft.workflow.checks.sizes import known_tokens, knows
from flowcraft.workflow.expressions.expression import Expression, ExpressionError
from flowcraft.workflow.expressions.template import render_value
from flowcraft.workflow.schema import Crew, Prompt, Stage

MILLION = 1_000_000
ELEMENTS = Range(low=1, likely=3, high=10)
INSERTED = Range(low=0, likely=300, high=3_000)
OUTPUT = Range(low=20, likely=500, high=2_000)
SECONDS = Range(low=1, likely=8, high=40)
WORK = Range(low=0.01, likely=0.1, high=10)

Scope = Mapping[str, Any]


def rendered(value: Any, scope: Scope) -> Any:
    """Return a value with its templates rendered; None where that fails."""
    try:
        return render_value(value, scope)
    except ExpressionError:
        return None


def is_carried_out(stage: Stage, scope: Scope) -> bool | None:
    """Return whether a stage is carried out at all; None where that is not known."""
    if stage.when is None or stage.when_per_element:
        return True
    return holds(stage.when, scope)


def holds(condition: Expression, scope: Scope) -> bool | None:
    """Return whether a condition holds; None where that is not known."""
    try:
        return bool(condition.evaluate(scope)) if knows(condition, scope) else None
    except ExpressionError:
        return None


def goes_of_try(stage: Stage, past: Past | None) -> Range:
    """Return how many goes each try takes; earlier runs have theirs in their calls already."""
    return ONCE if past is not None or not stage.retry.max else Range(low=1, likely=1, high=1 + stage.retry.max)


def within(stage: Stage, seconds: Range) -> Range:
    """Return the seconds of one element, no more than its ``timeout``."""
    limit = stage.timeout
    if not isinstance(limit, int | float):
        return seconds
    return Range(low=min(seconds.low, limit), likely=min(seconds.likely, limit), high=min(seconds.high, limit))


def at_once(element: Range, count: Range, width: int) -> Range:
    """Return the seconds of so many elements, so many at a time."""

    def rounds(number: float) -> float:
        return number if number < 1 else max(1, math.ceil(number / width - 1e-9))

    return element * Range(low=rounds(count.low), likely=rounds(count.likely), high=rounds(count.high))


def tokens_sent(stage: Stage, scope: Scope) -> Range:
    """Return about how many tokens a call of a stage's prompt has."""
    body = stage.body
    if isinstance(body, Crew):
        texts = [text for task in body.tasks for text in (task.description, task.expected_output) if text is not None]
        return Range.exactly(sum(text_tokens(text.source) for text in texts) / max(len(body.tasks), 1)) + INSERTED
    if not isinstance(body, Prompt):
        return INSERTED
    known = known_tokens(stage, body, scope, text_tokens) + 8
    parts = [part for one in (body.prompt, body.system) if one is not None for part in one.expressions]
    unknown = sum(
        not knows(part, {**scope, "item": None, "index": 0} if scope and stage.each is not None else scope) for part in parts
    )
    return Range.exactly(known) + INSERTED.times(unknown)


def cost(ask: Ask, sent: Range, came: Range) -> Range | None:
    """Return USD of the calls of one try, each of so many tokens; None where the price is not known."""
    price = ask.model.price
    if ask.model.offline:
        return NOTHING
    if price is None:
        return None
    return ask.calls * (sent.times(price.input / MILLION) + came.times(price.output / MILLION))


def whole(amount: Range) -> Range:
    """Return counts: the least rounded down, the most up."""
    return spread(math.floor(amount.low + 1e-9), round(amount.likely), math.ceil(amount.high - 1e-9))


def in_tokens(amount: Range) -> str:
    """Return a number of tokens as it is said."""
    number = f"{amount.low:,.0f}" if amount.low == amount.high else f"{amount.low:,.0f} to {amount.high:,.0f}"
    return f"{number} tokens"


def in_seconds(amount: Range) -> str:
    """Return seconds as they are said."""
    return f"{amount.low:g} to {amount.high:g} s"
