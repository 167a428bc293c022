"""The commands, put together."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Container, Sequence
from copy import copy
from importlib import import_module
from typing import Any

import typer
from typer.exceptions import Abort, TyperException

from flowcraft.cli.approve import approve_run
from flowcraft.cli.attend import attend
from flowcraft.cli.console import print_error
from flowcraft.cli.diff import diff_runs
from flowcraft.cli.exits import DONE, WRONG, guarded
from flowcraft.cli.export import export_run
from flowcraft.cli.fork import fork_run
from flowcraft.cli.graph import graph
from flowcraft.cli.logs import show_logs
from flowcraft.cli.models import models
from flowcraft.cli.models_test import try_models
from flowcraft.cli.options import open_flowcraft
from flowcraft.cli.plan import plan
from flowcraft.cli.plugins import plugins
from flowcraft.cli.replay import replay_workflow
from flowcraft.cli.run import run as run_command
from flowcraft.cli.runs import runs
from flowcraft.cli.settings import settings
from flowcraft.cli.spending import show_spending
from flowcraft.cli.workflows import schema, validate
from flowcraft.errors import FlowCraftError


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="flowcraft",
        help="Workflows of agents, written in YAML, that always reach their end, on language models that may fail.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.command()(run_command)
    app.command("test")(replay_workflow)
    app.command()(validate)
    app.command()(plan)
    app.command()(graph)
    app.command()(schema)
    app.command()(settings)
    app.add_typer(_with(models, test=try_models, spending=show_spending), name="models")
    app.add_typer(plugins, name="plugins")
    app.add_typer(
        _with(runs, logs=show_logs, export=export_run, diff=diff_runs, approve=approve_run, fork=fork_run), name="runs"
    )
    app.command()(attend)
    app.command()(version)
    app.callback()(_options)
    return app


def _with(group: typer.Typer, **commands: Callable[..., Any]) -> typer.Typer:
    """Return a group with the commands of ``group`` and these; ``group`` stays as it is."""
    made = copy(group)
    made.registered_commands = [*group.registered_commands]
    for name, command in commands.items():
        made.command(name)(command)
    return made


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
    app = build()
    command: Any = typer.main.get_command(app)
    named = next((word for word in arguments if not word.startswith("-")), "")
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
        if isinstance(call, str):
            module, _, name = call.partition(":")
            call = getattr(import_module(module), name)
        app.command(command.name, help=command.help or None)(call)
    return bool(found)


def _show(error: TyperException) -> None:
    # What is wrong with a command line shows itself, with usage and hint; the base class only has a message.
    show = getattr(error, "show", None)
    if show is None:
        print_error(str(error))
    else:
        show()
