"""``flowcraft models``: which models there are, and what is known of them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.figures import Figures, number, rate, seconds, share, usd
from flowcraft.cli.models_why import why
from flowcraft.cli.options import AsJson, SettingsPath

if TYPE_CHECKING:
    from pathlib import Path

    from flowcraft.llm.ports import ModelStatistics
    from flowcraft.manager import LLMManager
    from flowcraft.plugin import ModelInfo

SHOWN = {"tools": "tools", "json_schema": "schema", "images": "images", "reasoning": "thinks", "logprobs": "logprobs"}
"""The capabilities that the table shows, and how; ``--json`` tells all that are known."""

COLUMNS = ("calls", "ok", "p50", "p95", "p99", "first", "tok/s", "USD", "wins")

models = typer.Typer(help="Which models there are, and what is known of them.", no_args_is_help=True)


def _manager(settings: Path | None) -> LLMManager:
    from flowcraft.manager import LLMManager

    return LLMManager(settings)


@models.command("list")
def list_models(as_json: AsJson = False, settings: SettingsPath = None) -> None:
    """List the models of the default chain in order, then all others. Those are what settings and presets name."""
    rows = [_facts(role, info, skip) for role, info, skip in _manager(settings).models()]
    if as_json:
        print_json(rows)
        return
    if not rows:
        stderr().print("no models; set a key in the environment, or name a provider in settings.yaml")
        return
    table = _table("role", "model", right=("context", "USD/M in / out"), rest=("can", "from"))
    for row in rows:
        table.add_row(*_cells(row), style="dim" if row["skipped"] else None)
    stdout().print(table)


def _facts(role: str, info: ModelInfo, skip: str) -> dict[str, Any]:
    known = {name: value for name, value in asdict(info.capabilities).items() if value is not None}
    return {
        "role": role,
        "model": info.model,
        "provider": info.provider,
        "context": info.context,
        "price": asdict(info.price) if info.price is not None else None,
        "capabilities": known,
        "sources": dict(info.sources),
        "skipped": skip,
    }


def _cells(row: dict[str, Any]) -> list[Text]:
    price = row["price"]
    name = f"{row['provider']}:{row['model']}" if row["provider"] else row["model"]
    known = row["capabilities"]
    can = " ".join(word if known[name] else f"no-{word}" for name, word in SHOWN.items() if name in known)
    return [
        Text(row["role"]),
        Text(name),
        Text("" if row["context"] is None else f"{row['context']:,}"),
        Text("" if price is None else f"{price['input']:g} / {price['output']:g}"),
        Text(row["skipped"] or can),
        Text(" ".join(sorted(set(row["sources"].values())))),
    ]


models.command("why")(why)


@models.command("stats")
def show_statistics(
    stage: Annotated[str | None, typer.Option(help="Only calls of this stage.")] = None,
    task: Annotated[str | None, typer.Option(help="Only calls with this task's label.")] = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Show what became of models' calls. Successes, errors by class, response times, tokens, cost, wins."""
    manager = _manager(settings)
    try:
        known = manager.statistics(stage, task)
    finally:
        asyncio.run(manager.aclose())
    if as_json:
        print_json([asdict(row) for row in known])
        return
    labels = {"stage": stage, "task": task}
    of = " and ".join(f"{name} {label!r}" for name, label in labels.items() if label is not None)
    if not known:
        stderr().print(f"no calls {f'of {of} ' if of else ''}are recorded yet; those of offline are not counted")
        return
    table = Figures(f"calls of {of}" if of else "model", *COLUMNS)
    for row in known:
        table.add(f"{row.provider}:{row.model}", _figures(row), _failures(row))
    table.show(stdout())


def _figures(row: ModelStatistics) -> list[Text]:
    counted = row.successes + row.errors
    return [
        number(row.calls),
        share(row.successes / counted if counted else None),
        *map(seconds, (row.p50, row.p95, row.p99, row.ttft)),
        rate(row.tokens_per_second),
        usd(row.usd),
        number(row.wins or None, "g"),
    ]


def _failures(row: ModelStatistics) -> list[Text]:
    kinds = sorted(row.errors_by_class.items(), key=lambda item: (-item[1], item[0]))
    told = Text()
    told.append(", ".join(f"{kind} {count:,}" for kind, count in kinds), style="yellow")
    if cancelled := row.calls - row.successes - row.errors:
        told.append(f"{', ' if kinds else ''}cancelled {cancelled:,}", style="dim")
    return [told] if told.plain else []


def _table(*left: str, right: tuple[str, ...], rest: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in left:
        table.add_column(title, no_wrap=True)
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    for title in rest:
        table.add_column(title, min_width=11 if title == "can" else len("provider"))
    return table
