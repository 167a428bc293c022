"""A run's budget, raised when the run is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowcraft.engine import RunRow
from flowcraft.engine.ports import RunStore
from flowcraft.engine.runs.segment import lost_seconds
from flowcraft.errors import WorkflowError
from flowcraft.source import did_you_mean, parse_duration
from flowcraft.workflow import Workflow
from flowcraft.workflow.words import BUDGET_KEYS

KEPT_AS = "budget"
"""Under which name of a run's snapshot its raised budget is kept."""


def with_budget(workflow: Workflow, row: RunRow) -> Workflow:
    """Return the workflow of a run with the budget that counts for it: its file's, or what was raised of it."""
    raised = row.snapshot.get(KEPT_AS)
    return replace(workflow, budget={**workflow.budget, **raised}) if raised else workflow


def raised_budget(given: Mapping[str, Any], workflow: Workflow, row: RunRow, store: RunStore) -> dict[str, Any]:
    """Return the whole raised budget of a run: what was raised before, and what is ``given`` now.

    Raises WorkflowError for a unit that the file's budget does not have, and for a value that is wrong or spent already.
    """
    budget = with_budget(workflow, row).budget
    wanted = {unit: _amount(unit, value, budget) for unit, value in given.items()}
    spent = _spent(row, store) if wanted else {}
    for unit, amount in wanted.items():
        if amount <= spent[unit]:
            told = f"run {row.id} has spent {told_amount(unit, spent[unit])} already"
            raise WorkflowError(f"budget {unit}: {told}; {told_amount(unit, amount)} lets it do nothing more: allow more")
    return {**(row.snapshot.get(KEPT_AS) or {}), **wanted}


def told_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return what of a budget changed, as the log of a run tells it; empty where nothing did."""
    changed = [unit for unit in after if after[unit] != before.get(unit)]
    told = [f"{unit} {told_amount(unit, before[unit])} -> {told_amount(unit, after[unit])}" for unit in changed]
    return f"the budget of this run was changed: {', '.join(told)}" if told else ""


def told_amount(unit: str, amount: float) -> str:
    """Return an amount with its unit's own form: seconds bear an s, sums no more digits than say something."""
    text = str(round(amount)) if amount == round(amount) else f"{amount:.6f}".rstrip("0")
    return f"{text} s" if unit == "time" else text


def _amount(unit: str, value: Any, budget: Mapping[str, Any]) -> float:
    if unit not in BUDGET_KEYS:
        hint = did_you_mean(unit, BUDGET_KEYS)
        raise WorkflowError(f"budget: there is no unit {unit!r} (there are: {', '.join(BUDGET_KEYS)}){hint and '; ' + hint}")
    if unit not in budget:
        has = f"it limits {', '.join(budget)}" if budget else "it has no budget"
        raise WorkflowError(f"budget: the workflow does not limit {unit}, so that there is nothing to raise ({has})")
    try:
        amount = _time(value) if unit == "time" else _number(value)
    except ValueError as error:
        raise WorkflowError(f"budget {unit}: {error}") from None
    if unit in ("calls", "tokens") and amount != round(amount):
        raise WorkflowError(f"budget {unit}: {value} is no whole number")
    return round(amount) if unit in ("calls", "tokens") else amount


def _time(value: Any) -> float:
    if isinstance(value, str) and value.strip().isdigit():
        raise ValueError(f"{value!r} needs a unit; write it like 500ms, 30s, 5m, 24h or 7d")
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError(f"{value!r} is no time at all")
    return seconds


def _number(value: Any) -> float:
    try:
        amount = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        amount = math.nan
    if not math.isfinite(amount) or amount <= 0:
        raise ValueError(f"{value!r} is no number above 0")
    return amount


def _spent(row: RunRow, store: RunStore) -> Mapping[str, float]:
    totals = store.totals([row.id])[row.id]
    seconds = row.seconds + lost_seconds(store.events(row.id))
    return {"usd": totals.usd or 0.0, "calls": totals.calls, "tokens": totals.tokens, "time": seconds}
