"""``flowcraft models test``: ask every configured model, and show which of them work."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.exits import DONE, FAILED, INTERRUPTED
from flowcraft.cli.options import AsJson, SettingsPath
from flowcraft.source import did_you_mean

if TYPE_CHECKING:
    from flowcraft.diagnostics import LLMTestRunner, ModelTest
    from flowcraft.manager.named import NamedModel

_WIDE = 200
"""Columns where no terminal says how many there are: whatever reads this finds a model on one line."""

Tell = Callable[["ModelTest"], None]


def try_models(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Models, aliases or tiers; default: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each model is asked; p50 and p95 need several.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds that one call may take.")] = 60.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Most calls at once.")] = 8,
    per_provider: Annotated[
        int | None, typer.Option(min=1, help="Most calls at once to one provider; 1 for a server on this machine.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What to ask.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report: .md, or .json.", dir_okay=False)] = None,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> int:
    """Ask all configured models, tell which work and how fast. Each is asked directly, all at once. It costs what it costs."""
    from flowcraft.diagnostics import LLMTestRunner

    if not 0 < timeout < float("inf"):
        raise typer.BadParameter("it is a number of seconds above 0", param_hint="--timeout")
    runner = LLMTestRunner(settings)
    chosen = runner.candidates(models)
    if not as_json:
        _warn(runner, models or ())
    if report is not None:
        _make_room(report)
    ended = None
    try:
        with _progress(chosen, silent=as_json) as tell:
            asyncio.run(
                runner.test_all_models(
                    prompt,
                    models=models,
                    rounds=rounds,
                    timeout=timeout,
                    concurrency=concurrency,
                    per_provider=per_provider,
                    on_result=tell,
                )
            )
    except KeyboardInterrupt:
        ended = INTERRUPTED
        stderr().print(f"interrupted: {len(runner.results)} of {len(chosen)} models were through")
        if not runner.results:
            return ended
    if as_json:
        print_json(runner.as_json())
    else:
        _show(runner)
    if report is not None:
        written = runner.export_results_json(report) if report.suffix == ".json" else runner.export_results_markdown(report)
        stderr().print(Text(f"report: {written}"))
    return ended or (DONE if runner.get_working_models() else FAILED)


def _make_room(report: Path) -> None:
    """Make the folder of the report before anything is paid for."""
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{report.parent} cannot be made: {error.strerror}", param_hint="--report") from None
    if not os.access(report if report.exists() else report.parent, os.W_OK):
        raise typer.BadParameter(f"{report} cannot be written", param_hint="--report")


@contextmanager
def _progress(models: list[NamedModel], *, silent: bool) -> Iterator[Tell]:
    """Show each result as it comes, and on a terminal how far it is."""
    console = stderr()
    if silent or not models:
        yield lambda test: None
    elif not console.is_terminal:
        yield lambda test: console.print(_line(test))
    else:
        yield from _live(models, console)


def _live(models: list[NamedModel], console: Console) -> Iterator[Tell]:
    waiting = dict.fromkeys(model.name for model in models)
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(_asked(waiting, console), total=len(models))

        def tell(test: ModelTest) -> None:
            waiting.pop(test.name, None)
            console.print(_line(test))
            progress.update(task, advance=1, description=_asked(waiting, console))

        yield tell


def _asked(waiting: dict[str, None], console: Console) -> str:
    told = Text(", ".join(waiting))
    told.truncate(max(10, console.width - 50), overflow="ellipsis")
    return told.plain


def _line(test: ModelTest) -> Text:
    if test.works:
        mark, style = ("✓", "green") if test.steady else ("~", "yellow")
    else:
        mark, style = ("-", "dim") if test.skip else ("✗", "red")
    seconds = "" if test.response_time is None else f" {test.response_time:.2f} s"
    error = next(iter(test.errors), "")
    trouble = f": {test.trouble}" + (f" ({test.message(error)})" if error and test.message(error) else "")
    return Text.assemble((mark, style), " ", test.name, (seconds, style), trouble if test.trouble else "")


def _show(runner: LLMTestRunner) -> None:
    tests = runner.results
    if not tests:
        stderr().print(
            "no model is configured, so there is nothing to test: only the built-in offline stands in, and it is no model; "
            "set a key in the environment, or name a provider in settings.yaml"
        )
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("", "model", "role"):
        table.add_column(title, no_wrap=True)
    for title in ("answered", "p50", "p95", "USD"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("why", min_width=16, overflow="fold")
    for test in tests:
        table.add_row(*_cells(test), style="dim" if test.skip else None)
    console = stdout(None if sys.stdout.isatty() else _WIDE)
    console.print(table)
    _show_advice(runner, console)


def _cells(test: ModelTest) -> list[Text]:
    usd = f"{test.usd:.6f}" if test.usd is not None else "?" if test.works else ""
    return [
        _line(test)[:1],
        Text(test.name),
        Text(" ".join(test.roles)),
        Text(f"{test.successes}/{len(test.calls)}" if test.calls else ""),
        *(Text("" if seconds is None else f"{seconds:.2f} s") for seconds in (test.response_time, test.p95)),
        Text(usd),
        Text(test.trouble, style="yellow"),
    ]


def _show_advice(runner: LLMTestRunner, console: Console) -> None:
    advice = runner.get_advice()
    if advice.settings:
        console.print(Text("\nrecommended, by this test:", style="dim"))
        console.print(Text(advice.settings.rstrip("\n")))
    for name, reason in advice.drop.items():
        console.print(Text.assemble(("drop ", "dim"), name, f": {reason}"))
    for note in advice.notes:
        console.print(Text(note, style="dim"))


def _warn(runner: LLMTestRunner, names: Iterable[str]) -> None:
    """Say which names are listed nowhere and look like another: a provider may have them all the same."""
    for name in names:
        hint = "" if name in runner.known_names or ":" in name else did_you_mean(name, runner.known_names)
        if hint:
            stderr().print(Text(f"{name!r} is listed nowhere, and is asked for nevertheless; {hint}", style="yellow"))
