"""``flowcraft plugins``: what is installed, in what state, why something does not work."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flowcraft.cli.console import print_error, print_json, stdout
from flowcraft.cli.exits import FAILED, WRONG
from flowcraft.cli.options import AsJson, SettingsPath

if TYPE_CHECKING:
    from flowcraft.discovery import PluginState

plugins = typer.Typer(help="Installed plugins and their states.", invoke_without_command=True)

_WIDE = 400
_STYLES = {"ready": "green", "slow": "yellow", "broken": "red", "other version": "red", "denied": "dim"}


@plugins.callback()
def list_plugins(context: typer.Context, as_json: AsJson = False, settings: SettingsPath = None) -> None:
    """List installed plugins; each is imported, in a guard of its own, to see whether it works."""
    if context.invoked_subcommand is not None:
        return
    states = _states(settings)
    if as_json:
        print_json([asdict(state) for state in states])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("plugin", "of", "version", "group", "state", "seconds"):
        table.add_column(heading, overflow="fold")
    for state in states:
        seconds = "" if state.seconds is None else f"{state.seconds:.2f}"
        cells = [state.name, state.distribution, state.version, state.group.removeprefix("flowcraft.")]
        table.add_row(*map(Text, cells), Text(state.state, style=_STYLES.get(state.state, "")), seconds)
    console = stdout(None if sys.stdout.isatty() else _WIDE)
    console.print(table)
    for state in states:
        if state.error:
            console.print(Text(f"{state.name}: {state.error}", style=_STYLES.get(state.state, "")))


@plugins.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A plugin's or a distribution's name.")],
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Show all that is known of a plugin. Where it is broken, its traceback."""
    from flowcraft.source import did_you_mean

    states = _states(settings)
    found = [state for state in states if name in (state.name, state.distribution)]
    if not found:
        hint = did_you_mean(name, [state.name for state in states])
        print_error(f"no plugin {name!r} is installed" + (f"; {hint}" if hint else ""))
        raise typer.Exit(WRONG)
    if as_json:
        print_json([asdict(state) for state in found])
    else:
        for state in found:
            _print(state)
    if any(state.state in ("broken", "other version") for state in found):
        raise typer.Exit(FAILED)


def _print(state: PluginState) -> None:
    console = stdout()
    console.print(f"{state.name} of {state.distribution} {state.version} ({state.group}): {state.state}")
    if state.seconds is not None:
        console.print(f"imported in {state.seconds:.2f} s")
    if state.error:
        console.print(state.error)
    if state.traceback:
        console.print(state.traceback.rstrip())


def _states(settings: Path | None) -> list[PluginState]:
    from flowcraft.discovery import discover
    from flowcraft.settings import load_settings

    page = load_settings(settings)
    found = discover(allow=page.plugins.allow, deny=page.plugins.deny, environ=page.environment)
    found.load_all()
    found.bodies()
    return found.states()
