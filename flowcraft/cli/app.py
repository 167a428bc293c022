"""The commands, put together."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Container, Mapping, Sequence
from copy import copy
from importlib import import_module
from typing import Any

import typer
from typer.exceptions import Abort, TyperException

from flowcraft.cli.exits import DONE, WRONG, guarded
from flowcraft.cli.options import open_flowcraft
from flowcraft.errors import FlowCraftError

COMMANDS = {
    "run": ("flowcraft.cli.run:run", "Run a workflow, show its stages live, print its outputs."),
    "test": ("flowcraft.cli.replay:replay_workflow", "Replay a recorded run without network, keys or database."),
    "validate": ("flowcraft.cli.workflows:validate", "Check a workflow file and all that it uses."),
    "plan": ("flowcraft.cli.plan:plan", "Forecast calls, tokens, money and time of a run."),
    "graph": ("flowcraft.cli.graph:graph", "Draw a workflow or a run: in the terminal, as Mermaid, as SVG."),
    "schema": ("flowcraft.cli.workflows:schema", "Print the JSON Schema of the workflow language."),
    "settings": ("flowcraft.cli.settings:settings", "Show which settings are in force and where they came from."),
    "attend": ("flowcraft.cli.attend:attend", "Go on with all runs that nobody carries out, until Ctrl-C."),
}
"""Where each command is, and what the list of commands says of it: only the one that is called is loaded."""

GROUPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "models": (
        "flowcraft.cli.models:models",
        "Which models there are, and what is known of them.",
        {"test": "flowcraft.cli.models_test:try_models", "spending": "flowcraft.cli.spending:show_spending"},
    ),
    "plugins": ("flowcraft.cli.plugins:plugins", "Installed plugins and their states.", {}),
    "runs": (
        "flowcraft.cli.runs:runs",
        "What ran, what it did, and how to go on with it.",
        {
            "logs": "flowcraft.cli.logs:show_logs",
            "export": "flowcraft.cli.export:export_run",
            "diff": "flowcraft.cli.diff:diff_runs",
            "approve": "flowcraft.cli.approve:approve_run",
            "fork": "flowcraft.cli.fork:fork_run",
        },
    ),
}
"""The same of each group of commands, with those of its commands that are elsewhere."""


def build(only: str | None = None) -> typer.Typer:
    """Return the whole command line. With ``only``, the other commands are there by name and help alone, and not loaded."""
    app = typer.Typer(
        name="flowcraft",
        help="Workflows of agents, written in YAML, that always reach their end, on language models that may fail.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name, (place, told) in COMMANDS.items():
        if only in (None, name):
            app.command(name)(_found(place))
        else:
            app.command(name, help=told)(_not_called)
    for name, (place, told, commands) in GROUPS.items():
        group = _with(_found(place), commands) if only in (None, name) else typer.Typer(help=told)
        app.add_typer(group, name=name)
    app.command()(version)
    app.callback()(_options)
    return app


def _found(place: str) -> Any:
    """Return what ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _with(group: typer.Typer, commands: Mapping[str, str]) -> typer.Typer:
    """Return a group with the commands of ``group`` and these; ``group`` stays as it is."""
    made = copy(group)
    made.registered_commands = [*group.registered_commands]
    for name, place in commands.items():
        made.command(name)(_found(place))
    return made


def _not_called() -> None:
    """Stand for a command that the arguments do not name."""


def version() -> None:
    """Print the version."""
    from flowcraft import __version__

    sys.stdout.write(f"flowcraft {__version__}\n")


def _options(tell: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if tell:
        version()
        raise typer.Exit


def run(arguments: Sequence[str]) -> None:
    """Carry out what ``arguments`` say and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what no encoding has (a lone surrogate) is shown as an escape
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(guarded(lambda: _carry(list(arguments)), "--json" in arguments))


def _carry(arguments: list[str]) -> int:
    _check_folder()
    named = next((word for word in arguments if not word.startswith("-")), "")  # options before it take no values
    app = build(named)
    command: Any = typer.main.get_command(app)
    if named and named not in command.commands and _add_plugins_commands(app, command.commands):
        command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="flowcraft", standalone_mode=False)
    except TyperException as error:
        _show(error)
        return WRONG
    except Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else DONE


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise FlowCraftError(f"this folder cannot be worked in: {error.strerror}; change to another one (cd)") from None


def _add_plugins_commands(app: typer.Typer, known: Container[str]) -> bool:
    """Add what plugins offer; only a word that is no command of ours makes it worth importing them."""
    found = [command for command in open_flowcraft(None).plugins.commands() if command.name not in known]
    for command in found:
        call = command.call
        app.command(command.name, help=command.help or None)(_found(call) if isinstance(call, str) else call)
    return bool(found)


def _show(error: TyperException) -> None:
    # What is wrong with a command line shows itself, with usage and hint; the base class only has a message.
    show = getattr(error, "show", None)
    if show is None:
        from flowcraft.cli.console import print_error

        print_error(str(error))
    else:
        show()
