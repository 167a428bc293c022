"""What a call may take from which budget: the lines that are reserved for it, and how they are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from math import floor, log10

from flowcraft.attempts import Usage
from flowcraft.llm.ports import Spending, SpendingLine
from flowcraft.llm.rules import BudgetRules
from flowcraft.llm.sharing.stores import ROUNDING
from flowcraft.llm.tokens import estimate_tokens
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, Scope

UNITS = ("usd", "tokens", "calls")
PERIODS = ("run", "day", "key")
USUAL_OUTPUT = 4_096
"""Tokens of output that are reserved where neither the request nor the model's facts say how long an answer may be."""

LONGEST_OUTPUT = 16_384
"""Most that are reserved where the request does not say it: the newest models may write 128,000, and hardly ever do. Reserved
all the same, one call would fill a small budget."""


def day_of(now: float) -> str:
    """Return the day (UTC) of ``now``, in seconds since the epoch."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def limits_anything(rules: BudgetRules) -> bool:
    """Say whether these rules hold a limit."""
    return any(getattr(rules, item.name) is not None for item in fields(rules))


class Estimate:
    """What a call may cost at most, as far as that is known before it."""

    __slots__ = ("calls", "tokens", "usd")

    def __init__(self, usd: float | None, tokens: int, calls: int = 1) -> None:
        self.usd = usd or 0.0
        self.tokens = tokens
        self.calls = calls

    def of(self, unit: str) -> float:
        """Return the amount of ``unit``."""
        return float(getattr(self, unit))


def lines_of(rules: BudgetRules, scope: Scope, estimate: Estimate, now: float) -> tuple[SpendingLine, ...]:
    """Return what a call takes of each budget that holds for it: of its run, of the day, of its key and day."""
    return tuple(
        SpendingLine(scope=name, unit=unit, amount=estimate.of(unit), limit=limit)
        for name, unit, limit in _limits(rules, scope, day_of(now))
    )


def _limits(rules: BudgetRules, scope: Scope, day: str) -> Iterator[tuple[str, str, float]]:
    scopes = {"run": f"run:{scope.run}", "day": f"day:{day}", "key": f"key:{scope.key}:{day}"}
    for period in PERIODS:
        if (period == "run" and not scope.run) or (period == "key" and not scope.key):
            continue
        for unit in UNITS:
            limit = _least(getattr(rules, f"{unit}_per_{period}"), scope.budget.get(unit) if period == "run" else None)
            if limit is not None:
                yield scopes[period], unit, limit


def _least(first: float | None, second: float | None) -> float | None:
    known = [limit for limit in (first, second) if limit is not None]
    return min(known) if known else None


def settled(lines: Sequence[SpendingLine], actual: Mapping[str, float]) -> tuple[SpendingLine, ...]:
    """Return the corrections that make of reservations what was really taken."""
    changed = (replace(line, amount=actual[line.unit] - line.amount) for line in lines)
    return tuple(line for line in changed if line.amount)


def refusal(full: Spending, rules: BudgetRules, amount: float, now: float) -> str:
    """Say which budget has no room for a call, how much of it is spent, and when it is free again."""
    period = full.scope.partition(":")[0]
    name = f"{full.unit}_per_{period}"
    if period == "run" and getattr(rules, name) != full.limit:
        name = f"the workflow's budget, {full.unit}"
    key = full.scope[len("key:") : -len(":2026-11-21")]
    where = {"run": "in this run", "day": "today (UTC)", "key": f"today (UTC) by key {key!r}"}[period]
    unit = full.unit.upper() if full.unit == "usd" else full.unit
    told = f"{name}: {figure(full.spent)} of {figure(full.limit)} {unit} spent or reserved {where}"
    told += f"; this call may cost up to {figure(amount)}" if full.unit != "calls" else ""
    if amount > full.limit + ROUNDING:
        return f"{told}; raise it" if full.unit == "calls" else f"{told}, more than all of it; set max_tokens, or raise it"
    return f"{told}; {_frees(period, now)}"


def _frees(period: str, now: float) -> str:
    if period == "run":
        return "raise it and run again"
    today = datetime.fromtimestamp(now, UTC)
    midnight = (today + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    minutes = max(1, round((midnight - today).total_seconds() / 60))
    return f"it is free again at midnight UTC, in {minutes // 60} h {minutes % 60} min"


def figure(amount: float) -> str:
    """Return an amount as people read it: no more digits than say something, and no exponent."""
    if abs(amount - round(amount)) < ROUNDING:
        return str(round(amount))
    if abs(amount) >= 0.01:
        return f"{amount:.4f}".rstrip("0").rstrip(".")
    return f"{amount:.{2 - floor(log10(abs(amount)))}f}".rstrip("0")


def expected_usage(request: ChatRequest, info: ModelInfo) -> Usage:
    """Return how many tokens a call may take: what is sent, about, and the longest answer that is to be expected."""
    output = request.max_tokens
    if not output:
        thoughts = request.reasoning.budget if request.reasoning is not None else None
        output = min(info.max_output or USUAL_OUTPUT, LONGEST_OUTPUT) + (thoughts or 0)
    return Usage(input=estimate_tokens(request), output=output * max(1, request.n or 1))
