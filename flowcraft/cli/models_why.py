"""``flowcraft models why``: in which order models are asked, and what that rests on."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flowcraft.cli.console import print_json, stdout
from flowcraft.cli.figures import UNKNOWN, Figures, number, seconds, share
from flowcraft.cli.options import AsJson, SettingsPath

if TYPE_CHECKING:
    from flowcraft.llm.why import Considered, Decision


def why(
    stage: Annotated[str | None, typer.Argument(metavar="STAGE", help="A stage's name; none: the default chain.")] = None,
    task: Annotated[str | None, typer.Option(help="The task that the calls are labelled with.")] = None,
    order: Annotated[str | None, typer.Option(help="As if this order was set: listed, fastest, cheapest or best.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="As if this strategy was set: single, best_of_two, cascade or hedge.")
    ] = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Say in which order models are asked now, and why. It rests on what is known of their times, prices and verdicts."""
    from flowcraft.manager import LLMManager

    manager = LLMManager(settings)
    try:
        decision = manager.why(stage=stage, task=task, order=order, strategy=strategy)
    finally:
        asyncio.run(manager.aclose())
    if as_json:
        print_json(asdict(decision))
    else:
        _show(decision)


def _show(decision: Decision) -> None:
    console = stdout()
    labels = {
        "stage": decision.stage,
        "task": decision.task,
        "tier": decision.tier,
        "order": decision.order,
        "strategy": decision.strategy,
    }
    console.print(Text("   ".join(f"{name} {value}" for name, value in labels.items() if value), style="dim"))
    console.print(Text(decision.why))
    for line in _parts(decision):
        console.print(Text(line))
    if decision.models:
        console.print()
        _table(decision).show(console)


def _parts(decision: Decision) -> list[str]:
    told = [f"note: {note}" for note in decision.notes]
    if decision.contestants:
        judge = f"{decision.judge} judges" if decision.judge else "nobody judges"
        told.append(f"best of two: {' against '.join(decision.contestants)}; {judge}")
    if decision.escalation:
        told.append(f"where an answer is not sure: {', then '.join(decision.escalation)}")
    if decision.strategy == "hedge":
        told.append("hedge: the next model starts when the first is later than it mostly is")
    return told


def _table(decision: Decision) -> Figures:
    drawn = decision.order == "fastest"
    table = Figures(
        "model", *(("first",) if drawn else ()), "expected", "answered", "calls", "USD/M in / out", "rating", "won - lost"
    )
    role = None
    for place, one in enumerate(decision.models, 1):
        if one.role != role:
            role = one.role
            table.heading(role or "models")
        style = "dim" if one.obstacle else ""
        cells = [_first(one), *_cells(one)] if drawn else _cells(one)
        table.add(f" {place}. {one.id}", cells, [Text(one.why, style="yellow" if one.obstacle else "cyan")], style)
    return table


def _first(one: Considered) -> Text:
    return number(None if one.first is None else 100 * one.first, ".1f") + ("" if one.first is None else " %")


def _cells(one: Considered) -> list[Text]:
    judged = one.wins + one.losses > 0
    price = one.price
    return [
        seconds(one.seconds),
        share(one.success),
        number(one.calls),
        Text(UNKNOWN, style="dim") if price is None else Text(f"{price.input:g} / {price.output:g}"),
        number(one.rating, "+.2f"),
        Text(f"{one.wins:g} - {one.losses:g}" if judged else UNKNOWN, style="" if judged else "dim"),
    ]
