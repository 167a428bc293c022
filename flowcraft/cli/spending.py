"""``flowcraft models spending``: what was spent from each budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.options import AsJson, SettingsPath

if TYPE_CHECKING:
    from flowcraft.llm.ports import Spending

LAST_RUNS = 20
"""Runs that are shown without ``--all``."""


def show_spending(
    everything: Annotated[bool, typer.Option("--all", help="Earlier days and all runs, too.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Show what was spent from budgets, today and by the last runs. What calls under way may cost is included."""
    from flowcraft.llm.sharing.budgets import day_of
    from flowcraft.manager import LLMManager

    manager = LLMManager(settings)
    try:
        rows = manager.spending()
    finally:
        asyncio.run(manager.aclose())
    shown = rows if everything else _recent(rows, day_of(time.time()))
    if as_json:
        print_json([{**asdict(row), "spent": round(max(0.0, row.spent), 9)} for row in shown])
        return
    if not shown:
        stderr().print("nothing was spent from a budget yet" if not rows else "nothing was spent today; --all shows the rest")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("budget of", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for title in ("spent", "limit", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in shown:
        table.add_row(*_cells(row), style="yellow" if row.spent >= row.limit else None)
    stdout().print(table)


def _recent(rows: Sequence[Spending], today: str) -> list[Spending]:
    # The id of a run begins with its time, so that the order of ids is that of runs.
    runs = sorted({row.scope for row in rows if row.scope.startswith("run:")}, reverse=True)[:LAST_RUNS]
    of_today = [row for row in rows if not row.scope.startswith("run:") and row.scope.endswith(f":{today}")]
    return [*of_today, *(row for scope in runs for row in rows if row.scope == scope)]


def _cells(row: Spending) -> list[Text]:
    from flowcraft.llm.sharing.budgets import figure

    spent = max(0.0, row.spent)
    return [Text(row.scope), Text(row.unit), *(Text(figure(part)) for part in (spent, row.limit, max(0.0, row.limit - spent)))]
