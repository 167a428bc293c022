"""``flowcraft plan``: what a run is going to take, before it is begun."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from flowcraft.cli.console import print_json, print_problems, stderr, stdout
from flowcraft.cli.figures import Figures
from flowcraft.cli.options import AsJson, SettingsPath, open_flowcraft

if TYPE_CHECKING:
    from flowcraft.engine.forecasts.figures import Forecast, StageForecast
    from flowcraft.engine.forecasts.ranges import Range

DEFAULTS_SHOWN = 12
MINUTE, HOUR = 60, 3600


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The workflow file.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input; @file reads a file, @- stdin, @@ is a literal @."),
    ] = None,
    inputs_file: Annotated[Path | None, typer.Option("--inputs", metavar="PATH", help="Inputs as a YAML or JSON file.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="One tier, alias or model in place of all.")
    ] = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Forecast calls, tokens, money and time of a run. Nothing is run or spent; it goes by earlier runs where there are any."""
    from flowcraft.workflow import parse_inputs

    flow = open_flowcraft(settings)
    try:
        flow.workflows.check_model(model)
        workflow = flow.workflows.read(file, model=model)
        given = bool(inputs) or inputs_file is not None
        values = parse_inputs(workflow, inputs or [], file=inputs_file, stdin=sys.stdin) if given else None
        if not as_json:
            print_problems(problem for problem in flow.check(workflow, model=model) if problem.warning)
        made = flow.plan(workflow, values, model=model)
    finally:
        asyncio.run(flow.aclose())
    if as_json:
        print_json(document(made))
    else:
        show(made)


def document(made: Forecast) -> dict[str, Any]:
    """Return a forecast as the one JSON document of ``--json``. Times are in seconds."""
    return {
        "workflow": made.workflow,
        "runs": made.runs,
        "calls": _data(made.calls),
        "input_tokens": _data(made.input),
        "output_tokens": _data(made.output),
        "usd": _data(made.usd) if not made.unpriced or made.usd.high else None,
        "usd_complete": not made.unpriced,
        "seconds": _data(made.seconds),
        "unpriced": list(made.unpriced),
        "budget": list(made.budget),
        "defaults": list(made.defaults),
        "stages": [_stage(stage) for stage in made.stages],
    }


def _stage(stage: StageForecast) -> dict[str, Any]:
    return {
        "stage": stage.path,
        "body": stage.body,
        "times": _data(stage.units),
        "calls": _data(stage.calls),
        "input_tokens": _data(stage.input),
        "output_tokens": _data(stage.output),
        "usd": None if stage.usd is None else _data(stage.usd),
        "seconds": _data(stage.seconds),
        "basis": stage.basis,
    }


def _data(amount: Range) -> dict[str, float]:
    return {name: round(getattr(amount, name), 6) for name in ("low", "likely", "high")}


def show(made: Forecast) -> None:
    """Print a forecast for people: what is likely of each stage, its bounds below, the sums at the end."""
    figures = Figures("stage", "times", "calls", "tokens in", "tokens out", "USD", "time")
    for stage in made.stages:
        usd = None if stage.usd is None else stage.usd.likely
        cells = [stage.calls.likely, stage.input.likely, stage.output.likely] if stage.calls.high else []
        figures.add(
            stage.path,
            [
                Text(_count(stage.units.likely)),
                *(Text(_count(cell)) for cell in cells or ()),
                *([Text()] * (3 - len(cells))),
                Text("?", style="yellow") if usd is None else Text(_usd(usd) if cells else ""),
                Text(_time(stage.seconds.likely) if stage.seconds.high else ""),
            ],
            _bounds(stage),
        )
    figures.heading("in all")
    unknown = " + ?" if made.unpriced else ""
    for name, style in (("low", ""), ("likely", "bold"), ("high", "")):
        amounts = [getattr(amount, name) for amount in (made.calls, made.input, made.output)]
        usd_, seconds = getattr(made.usd, name), getattr(made.seconds, name)
        cells_ = [Text(), *(Text(_count(amount)) for amount in amounts)]
        label = {"low": "at least", "likely": "likely", "high": "at most"}[name]
        figures.add(
            label,
            [*cells_, Text("?" if unknown and not made.usd.high else _usd(usd_) + unknown), Text(_time(seconds))],
            (),
            style,
        )
    figures.show(stdout())
    _notes(made)


def _bounds(stage: StageForecast) -> list[Text]:
    """Return from where to where the figures of a stage go, where they are not certain."""
    told = [
        f"{low}-{high} {what}"
        for amount, what, form in (
            (stage.units, "times", _count),
            (stage.calls, "calls", _count),
            (stage.input + stage.output, "tokens", _count),
            (stage.usd or stage.input, "USD" if stage.usd is not None else "", _usd),
            (stage.seconds, "each", _time),
        )
        if what and (low := form(amount.low)) != (high := form(amount.high))
    ]
    return [Text(", ".join(told), style="dim")] if told else []


def _notes(made: Forecast) -> None:
    messages = stderr()
    for reached in made.budget:
        messages.print(Text(reached, style="red" if "would" in reached else "yellow"))
    if made.unpriced:
        told = f"the price of {', '.join(made.unpriced)} is not known: what is asked there is not in the sum"
        messages.print(Text(told, style="yellow"))
    earlier = f"by {made.runs} earlier run{'s' * (made.runs != 1)}" if made.runs else "no earlier run"
    messages.print(Text(f"{earlier} of this workflow", style="dim"))
    for default in made.defaults[:DEFAULTS_SHOWN]:
        messages.print(Text(f"  {default}", style="dim"))
    if len(made.defaults) > DEFAULTS_SHOWN:
        messages.print(Text(f"  and {len(made.defaults) - DEFAULTS_SHOWN} more; --json has all", style="dim"))


def _count(value: float) -> str:
    if value < 10 and value != round(value):
        return f"{value:.1f}"
    if value < 10_000:
        return f"{value:,.0f}"
    return f"{value / 1000:,.0f}k" if value < 1_000_000 else f"{value / 1_000_000:,.1f}M"


def _usd(value: float) -> str:
    if 0 < value < 0.0001:
        return "<0.0001"
    return f"{value:,.2f}" if value >= 1 else f"{value:.4f}" if value else "0"


def _time(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.0f}ms"
    if value < MINUTE:
        return f"{value:.1f}s" if value < 10 else f"{value:.0f}s"
    return f"{value / MINUTE:.0f}m" if value < HOUR else f"{value / HOUR:.1f}h"
